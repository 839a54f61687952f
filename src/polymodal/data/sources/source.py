"""`Source`: where the values of one modality of a description come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import Group, check_name, shown, typed
from polymodal.data.readers.archives import is_arrays, lists_in, read_arrays
from polymodal.data.readers.cells import is_cells, read_cells
from polymodal.data.readers.mapped import Room
from polymodal.data.tables import UserTable, read_table


@dataclass(frozen=True)
class Place:
    """Where the files of a description lie, and how they are read.

    Args:
        folder: paths are relative to it, and do not lead out of it.
        file: the main table; None: there is none.
        key: the column that names the samples; None: sample i is row i.
        empty: words that stand for an empty cell, beside the usual ones.
        separator, encoding: of tables of text.
        taken: columns of each file that have another use.
        tables: those that have been read, by path.
        room: what a modality may take in memory; None: it is not looked at.
        arrays: those of files that need not be read, by path and name.
    """

    folder: Path
    file: str | None = None
    key: str | None = None
    empty: Sequence[str] = ()
    separator: str | None = None
    encoding: str | None = None
    taken: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tables: dict[Path, UserTable] = field(default_factory=dict)
    room: Room | None = None
    arrays: Mapping[Path, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def path(self, name: str) -> Path:
        """The path of a file or folder that the description names.

        Raises ValueError for one outside of `folder`.
        """
        if Path(name).is_absolute() or name.startswith("~") or ".." in Path(name).parts:
            raise ValueError(
                f"Paths in a description are relative to its folder and stay in it, got"
                f" {shown(name)}; put the file there, or give the folder on the command line"
                " (--data FOLDER)."
            )
        return self.folder / name

    def table(self, file: str | None = None) -> UserTable:
        """A table, read once; None: the main one.

        Raises ValueError if there is none, and as `read_table`.
        """
        name = file or self.file
        if name is None:
            raise ValueError("The description names no table; write file: into data or modalities.")
        path = self.path(name)
        if path not in self.tables:
            self.tables[path] = self._read(path)
        return self.tables[path]

    def _read(self, path: Path) -> UserTable:
        """A table, what a file of cells says of each cell, or the lists in a file of arrays."""
        if not is_cells(path) and not is_arrays(path):
            how = {"separator": self.separator, "encoding": self.encoding}
            return read_table(path, **how, room=self.room)
        import pandas as pd

        from polymodal.data.tables.frame import Frame

        if is_cells(path):
            return Frame(read_cells(path).obs, str(path))
        arrays = read_arrays(path, room=self.room)
        return Frame(pd.DataFrame(lists_in(arrays)), str(path))

    def keys(self, table: UserTable, key: str | None = None) -> list[str] | None:
        """The names of the samples in the rows of a table; None: they have none.

        Args:
            key: the column; None: that of the description.

        Raises ValueError for keys that are empty or come twice.
        """
        if (key or self.key) is None:
            return None
        words = table.cells(key or self.key or "", self.empty).as_words()
        first: dict[str, int] = {}
        for row, word in enumerate(words):
            if word is None:
                raise ValueError(f"{table.path} has no key in {table.places.of(row)}; write one.")
            if word in first:
                raise ValueError(
                    f"{table.path} has the key {shown(word)} in {table.places.of(first[word])} and"
                    f" {table.places.of(row)}; each sample needs a key of its own. To keep rows of"
                    " one key in the same part, leave out key: and write split: {by: COLUMN}."
                )
            first[word] = row
        return list(first)


class Samples(ABC):
    """The n values of one modality, in the order of their files.

    Args:
        keys: the names of the samples, all different; None: value i is that of sample i.
    """

    keys: Sequence[str] | None = None

    @abstractmethod
    def __len__(self) -> int:
        """n."""

    @abstractmethod
    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        """The modality, with the statistics of `rows`, those of the training part."""

    @abstractmethod
    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        """The values (n, *shape) of a modality that may have been described elsewhere, which are
        present (n,), and sentences on what was not read as it stands.
        """


class Source(ABC):
    """A kind of place from which a modality is read. A new one is a file in
    `polymodal.data.sources` that registers a subclass.

    `name` is what a description calls it (`source: table`), and `Entry` has the fields of a
    modality in a description.
    """

    name: ClassVar[str]
    Entry: ClassVar[type[Group]]

    @abstractmethod
    def read(self, name: str, entry: Any, place: Place) -> Samples:
        """The samples of the modality `name`.

        Args:
            entry: an `Entry`.

        Raises ValueError for files that cannot be read.
        """

    def taken(self, entry: Any) -> Sequence[str]:
        """The columns of the entry's table that this modality uses."""
        return ()

    def by_column(self, entry: Any, key: str | None) -> Any:
        """The entry for new rows in one table.

        Args:
            key: the column that names the samples; None: there is none.
        """
        return entry


SOURCES: dict[str, Source] = {}
USUAL = "table"


def register(source: type[Source]) -> type[Source]:
    """Puts an instance of a class of sources into `SOURCES`, under its `name`."""
    SOURCES[source.name] = source()
    return source


def source_of(name: str, section: Mapping[str, Any]) -> tuple[Source, Any]:
    """The source that a modality of a description names, and its checked `Entry`.

    Raises ValueError for an unknown source, field, or value.
    """
    path = f"data.modalities.{name}"
    chosen = section.get("source", USUAL)
    check_name(chosen, SOURCES, "source", f" for {path}")
    source = SOURCES[chosen]
    fields = {key: value for key, value in section.items() if key != "source"}
    return source, typed(source.Entry, fields, path)
