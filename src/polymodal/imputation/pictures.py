"""Pictures that rows of a table lack, written as files beside the completed table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.readers.pictures import picture_bytes, picture_header
from polymodal.data.sources.images import KeyedEntry, Pictures
from polymodal.data.tables import UserTable
from polymodal.imputation.rows import Named
from polymodal.runs.files import write_output

USUAL = ".png"
LOOKED_AT = 200  # pictures, whether all have one size


class LackingPictures:
    """The pictures of one modality that rows of a table lack.

    A new picture has the format of most of those that are there, and their size if all have one
    (and show the whole picture); else it has the size in which the model reads them.

    Args:
        modality: the pictures.
        pictures: those of the rows.
        table: the rows.
        names: of the rows, after which new pictures are named.
        empty: words that stand for an empty cell, beside the usual ones.
    """

    def __init__(
        self,
        modality: Modality,
        pictures: Pictures,
        table: UserTable,
        names: Named,
        empty: Sequence[str] = (),
    ) -> None:
        self.modality, self.column = modality, str(pictures.entry.column)
        files = [file for file in pictures.files if file is not None]
        self.suffix = _most_frequent([file.suffix.lower() for file in files])
        self.size = _common_size(files) if pictures.entry.fit == "stretch" else None
        self.is_keyed = isinstance(pictures.entry, KeyedEntry)
        self.words = table.cells(self.column, empty, as_words=True).as_words()
        self.taken = {word for word in self.words if word is not None}
        self.names = names

    def cells(self, rows: Sequence[int]) -> tuple[list[int], list[str]]:
        """The empty cells among these rows, and the names that are written there."""
        empty = [row for row in rows if self.words[row] is None and not self.is_keyed]
        return empty, [str(self._file(row)) for row in empty]

    def write(self, folder: Path, rows: Sequence[int], values: Tensor) -> None:
        """Writes the pictures (R, C, H, W) of rows (R,) into a folder, one file for each."""
        for row, value in zip(rows, values, strict=True):
            file = self._file(row)
            write_output(folder / file, picture_bytes(value, file.suffix, self.size))

    def _file(self, row: int) -> Path:
        """The name of a row's picture: that of its cell, or that of the row."""
        word = self.words[row]
        if word is not None and Path(word).suffix and not self.is_keyed:
            return Path(word)
        name = str(self.names.values[row]) if word is None else word
        free = _candidates(name.replace("/", "_") or f"row{row}", self.suffix)
        return next(Path(each) for each in free if each not in self.taken)


def _candidates(name: str, suffix: str) -> Iterator[str]:
    """File names, the plainest first."""
    yield f"{name}{suffix}"
    number = 2
    while True:
        yield f"{name}_{number}{suffix}"
        number += 1


def _most_frequent(suffixes: Sequence[str]) -> str:
    return Counter(suffixes).most_common(1)[0][0] if suffixes else USUAL


def _common_size(files: Sequence[Path]) -> tuple[int, int] | None:
    """Height and width of the pictures; None if they differ, or none can be read."""
    sizes: set[tuple[int, int]] = set()
    for file in files[:LOOKED_AT]:
        try:
            sizes.add(picture_header(file)[:2])
        except ValueError:
            continue
    return sizes.pop() if len(sizes) == 1 else None
