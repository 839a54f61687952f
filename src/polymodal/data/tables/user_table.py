"""`UserTable`: a table of a user, read so that it can be written with only its holes filled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.checks import unknown
from polymodal.data.tables.cells import Cells, Places

# Columns, each with the rows (n,) that are filled, and what is written there.
Filled = Mapping[str, tuple[Sequence[int], Sequence[Any]]]
MAX_MB = 500.0  # of a file, and of what it holds


class UserTable(ABC):
    """A table of N rows in a file.

    Args:
        path: the file.
        columns: their names, in order.
        places: where the rows stand, for sentences.
        keeps: whether the cells of all columns are kept, not only those of the last one.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], places: Places, keeps: bool = True
    ) -> None:
        self.path, self.columns, self.places = path, tuple(columns), places
        self.keeps = keeps
        self._known: dict[tuple[Any, ...], Cells] = {}
        if twice := next((name for name in columns if columns.count(name) > 1), None):
            raise ValueError(f"{path} has the column {twice!r} twice; rename one of them.")

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows, without the header."""

    def cells(
        self,
        column: str,
        empty: Sequence[str] = (),
        *,
        as_words: bool = False,
        date_format: str | None = None,
    ) -> Cells:
        """The cells of a column, read once, or again if not all are kept.

        Args:
            empty: words that stand for an empty cell, beside the usual ones.
            as_words: the cells are words, whatever they look like.
            date_format: the cells are dates in this format; None: it is guessed.

        Raises ValueError, naming the file, for an unknown column (with the nearest), and for cells
        of several types.
        """
        if column not in self.columns:
            raise unknown(f"column {column!r} in {self.path}", column, self.columns)
        how = (column, tuple(empty), as_words, date_format)
        if how not in self._known:
            if not self.keeps:
                self._known.clear()
            try:
                self._known[how] = self._cells(column, empty, as_words, date_format)
            except ValueError as error:
                raise ValueError(f"{self.path} cannot be read: {error}") from None
        return self._known[how]

    @abstractmethod
    def _cells(
        self, column: str, empty: Sequence[str], as_words: bool, date_format: str | None
    ) -> Cells:
        """The cells of a column that there is."""

    def in_parts(self, rows: int) -> Iterator[UserTable]:
        """The table as tables of so many rows, one after the other; of one that is in memory, the
        table itself.
        """
        yield self

    @abstractmethod
    def encoded(self, filled: Filled, suffix: str) -> bytes:
        """The bytes of the table with what is filled in a file of this suffix; see `write`."""

    def write(self, path: Path, filled: Filled) -> None:
        """Writes the table with other values in some cells; all other cells stay as they are, in
        text character by character.

        Args:
            path: the new file; it gets its name when it is complete.
            filled: {column: (rows, values)}; rows are counted from 0, and values are what
                `polymodal.data.tables.coding.decoded` gives.

        Raises ValueError for an unknown column or row, and if it cannot be written.
        """
        from polymodal.checks.files import write

        for name, (rows, values) in filled.items():
            if name not in self.columns:
                raise unknown(f"column {name!r} in {self.path}", name, self.columns)
            if len(rows) != len(values) or any(not 0 <= row < len(self) for row in rows):
                raise ValueError(
                    f"Column {name!r} needs one value for each row that is filled, of rows 0 to"
                    f" {len(self) - 1}, got {len(rows)} rows and {len(values)} values."
                )
        write(Path(path), self.encoded(filled, Path(path).suffix))
