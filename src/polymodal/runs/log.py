"""log.csv: the course of the losses."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polymodal.runs.files import _read, _told, write

if TYPE_CHECKING:
    import pandas as pd


class Log:
    """log.csv: one row an epoch, columns as they turn up. `path` None: in memory alone."""

    def __init__(self, path: Path | None, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.path, self.rows = path, [dict(row) for row in rows]
        self._columns: list[str] = []
        self._write()

    @staticmethod
    def read(path: Path, rows: int) -> list[dict[str, Any]]:
        """The first `rows` rows. Raises ValueError if there are fewer."""
        text = _read(path).decode(errors="replace") if rows else ""
        found = [
            {k: v for k, v in row.items() if v and k} for row in csv.DictReader(io.StringIO(text))
        ][:rows]
        if len(found) < rows:
            raise ValueError(
                f"{path} is damaged: {rows} rows were expected, there are {len(found)}. Remove"
                " last.ckpt beside it to start again from the beginning."
            )
        return found

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row."""
        self.rows.append(dict(row))
        if self.path is None:
            return
        if any(key not in self._columns for key in row):
            self._write()
            return
        try:
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError as error:
            raise _told(error, self.path, "written") from error

    def sync(self) -> None:
        """Forces what was appended to the disk."""
        if self.path is None:
            return
        try:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise _told(error, self.path, "written") from error

    def _write(self) -> None:
        self._columns = list(dict.fromkeys(key for row in self.rows for key in row))
        if self.path is not None:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self._columns)
            writer.writeheader()
            writer.writerows(self.rows)
            write(self.path, text.getvalue().encode())

    def frame(self) -> pd.DataFrame:
        """The log as a table."""
        import pandas as pd  # 0.3 s, and training does not need it

        return pd.DataFrame([{k: _number(v) for k, v in row.items()} for row in self.rows])


def _number(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return int(number) if str(value).lstrip("-").isdigit() else number
