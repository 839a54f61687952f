"""`read_table`: a table in any of the files that are read."""

from __future__ import annotations

from pathlib import Path

from polymodal.checks import FilePath
from polymodal.checks.files import regular
from polymodal.data.readers.mapped import Room
from polymodal.data.tables.user_table import UserTable

TEXT = (".csv", ".tsv", ".tab", ".csv.gz", ".tsv.gz", ".tab.gz")
TYPED = (".parquet", ".pq", ".feather", ".arrow")
SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
TABLES = (*TEXT, *TYPED)


def is_table(path: FilePath) -> bool:
    """Whether a file is read as a table, by the end of its name.

    >>> is_table("a/people.csv.gz"), is_table("people.npz")
    (True, False)
    """
    return str(path).lower().endswith(TABLES)


def read_table(
    path: FilePath,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    room: Room | None = None,
) -> UserTable:
    """The table in a file: .csv, .tsv, .tab (also packed, .gz), .parquet or .feather.

    Args:
        separator: between the cells of text; None: it is found.
        encoding: of text; None: UTF-8.
        room: typed tables that it does not hold stay on disk; None: all are read.

    Raises ValueError in one sentence for other files, and files that are absent, damaged, too large
    or no table.
    """
    file = Path(path).expanduser()
    name = file.name.lower()
    if name.endswith(SHEETS):
        raise ValueError(f"{file} is a file of a spreadsheet; save the sheet as CSV in UTF-8.")
    if not is_table(name):
        raise ValueError(f"A table is one of {', '.join(TABLES)} files, got {file}.")
    regular(file)
    if name.endswith(TYPED):
        from polymodal.data.tables.arrow import read_typed

        return read_typed(file, room)
    from polymodal.data.tables.delimited import read_delimited

    return read_delimited(file, separator, encoding)
