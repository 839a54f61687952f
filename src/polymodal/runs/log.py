"""log.csv: losses and figures, epoch by epoch."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polymodal.checks.files import damaged, disk_errors, read_bytes, write

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
MOST_MB = 64
IDENTITY = "run"  # the first column of the file; all others are numbers
WORDS = ("stage",)


class Log:
    """log.csv: one row an epoch; new columns may come at any time.

    Args:
        path: the file, which is written at once; None: the log is kept in memory only.
        rows: the first rows.
        identity: of the run, which each line of the file carries.
    """

    def __init__(self, path: Path | None, rows: Sequence[Row] = (), identity: str = "") -> None:
        self.path, self.rows = path, [dict(row) for row in rows]
        self.identity = identity
        self._columns: list[str] = []
        self._write()

    @staticmethod
    def read(path: Path, rows: int, identity: str = "") -> list[dict[str, Any]]:
        """The first `rows` rows, without empty cells. Raises ValueError if there are fewer, if they
        are not those of the run, or hold anything but finite numbers beside the stage's name.
        """
        if rows == 0:
            return []
        try:
            table = _parsed(read_bytes(path, MOST_MB), rows, identity)
            if len(table) < rows:
                raise ValueError(f"{rows} rows were expected, got {len(table)}")
        except (ValueError, csv.Error) as error:
            remedy = "restore it, or remove last.ckpt beside it to start again from the beginning"
            raise damaged(path, error, remedy) from None
        return table

    def append(self, row: Row) -> None:
        """Adds one row; numbers that are not finite are left out."""
        row = {k: v for k, v in row.items() if not isinstance(v, float) or math.isfinite(v)}
        self.rows.append(row)
        if self.path is None:
            return
        if any(key not in self._columns for key in row):
            self._write()
            return
        with disk_errors(self.path, "written"), open(self.path, "a", newline="") as file:
            self._writer(file).writerow({IDENTITY: self.identity, **row})

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
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows({IDENTITY: self.identity, **row} for row in self.rows)
        return text.getvalue()

    def _writer(self, file: Any) -> Any:
        return csv.DictWriter(file, [IDENTITY, *self._columns])

    def frame(self) -> pd.DataFrame:
        """The log as a table."""
        import pandas as pd  # 0.3 s, and training does not need it

        return pd.DataFrame([{k: _number(v) for k, v in row.items()} for row in self.rows])


def _parsed(data: bytes, rows: int, identity: str) -> list[dict[str, Any]]:
    """The first rows; what follows them may be torn."""
    text = io.StringIO(data.decode(errors="replace"), newline="")
    return [_row(row, identity) for row in islice(csv.DictReader(text), rows)]


def _row(row: dict[Any, Any], identity: str) -> dict[str, Any]:
    """A row without empty cells. Raises ValueError if it is not one of the run's."""
    if row.pop(IDENTITY, None) != identity:
        raise ValueError("it does not belong to the run that run.json beside it describes")
    if None in row or None in row.values():
        raise ValueError("a line has more or fewer cells than the header")
    for column, value in row.items():
        if value and column not in WORDS and not math.isfinite(float(value)):
            raise ValueError(f"{column} is {value}, not a finite number")
    return {column: value for column, value in row.items() if value}


def _number(value: Any) -> Any:
    """A cell as a number if it is one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return int(number) if str(value).lstrip("-").isdigit() else number
