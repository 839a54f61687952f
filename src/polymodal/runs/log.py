"""log.csv: losses and figures, epoch by epoch."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polymodal.runs.files import disk_errors, read_bytes, write

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]


class Log:
    """log.csv: one row an epoch; new columns may come at any time.

    Args:
        path: the file, which is written at once; None: the log is kept in memory only.
        rows: the first rows.
    """

    def __init__(self, path: Path | None, rows: Sequence[Row] = ()) -> None:
        self.path, self.rows = path, [dict(row) for row in rows]
        self._columns: list[str] = []
        self._write()

    @staticmethod
    def read(path: Path, rows: int) -> list[dict[str, Any]]:
        """The first `rows` rows, without empty cells. Raises ValueError if there are fewer."""
        if rows == 0:
            return []
        table = _parsed(read_bytes(path))[:rows]
        if len(table) < rows:
            raise ValueError(
                f"{path} is damaged: {rows} rows were expected, got {len(table)}. Remove last.ckpt"
                " beside it to start again from the beginning."
            )
        return table

    def append(self, row: Row) -> None:
        """Adds one row."""
        self.rows.append(dict(row))
        if self.path is None:
            return
        if any(key not in self._columns for key in row):
            self._write()
            return
        with disk_errors(self.path, "written"), open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    def sync(self) -> None:
        """Forces appended rows to disk."""
        if self.path is None:
            return
        with disk_errors(self.path, "written"), open(self.path, "rb") as file:
            os.fsync(file.fileno())

    def _write(self) -> None:
        """Writes the whole file, with the columns of all rows."""
        self._columns = list(dict.fromkeys(key for row in self.rows for key in row))
        if self.path is not None:
            write(self.path, self._text().encode())

    def _text(self) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns)
        writer.writeheader()
        writer.writerows(self.rows)
        return text.getvalue()

    def frame(self) -> pd.DataFrame:
        """The log as a table."""
        import pandas as pd  # 0.3 s, and training does not need it

        return pd.DataFrame([{k: _number(v) for k, v in row.items()} for row in self.rows])


def _parsed(data: bytes) -> list[dict[str, Any]]:
    text = io.StringIO(data.decode(errors="replace"))
    return [_filled(row) for row in csv.DictReader(text)]


def _filled(row: Row) -> dict[str, Any]:
    return {column: value for column, value in row.items() if column and value}


def _number(value: Any) -> Any:
    """A cell as a number if it is one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return int(number) if str(value).lstrip("-").isdigit() else number
