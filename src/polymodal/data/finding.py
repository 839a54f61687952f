"""Modalities found in a user's files beside the columns of a table: pictures, cells, arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.checks import shown
from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.cells import read_cells
from polymodal.data.readers.pictures import is_picture
from polymodal.data.sources.cells import MAX_DENSE, is_counts
from polymodal.data.sources.images import stems
from polymodal.data.tables import UserTable

TRIED = 200  # cells of a column that are looked up as files
MOST = 0.5  # share of them that must be there
COUNTS = "counts"  # the usual layer of counts
GENES = 2000

Sections = dict[str, dict[str, Any]]


def picture_columns(
    table: UserTable, root: Path, folders: Sequence[str] | None = None
) -> dict[str, str]:
    """{column: folder} for the columns that name most of their pictures in a folder.

    Args:
        root: the folder of the description.
        folders: relative to it; if no column names their pictures, one may without their endings.
            None: `root` and the folders in it.
    """
    found: dict[str, str] = {}
    for folder in _folders(root) if folders is None else folders:
        named = _columns_of(table, root / folder, set())
        if folders is not None and not named:
            named = _columns_of(table, root / folder, set(stems(root / folder)))[:1]
        for column in named:
            found.setdefault(column, folder)
    return found


def _columns_of(table: UserTable, folder: Path, names: set[str]) -> list[str]:
    """The columns most words of which are pictures in a folder, or in `names`."""
    return [column for column in table.columns if _are_in(_words(table, column), folder, names)]


def _folders(root: Path) -> Iterator[str]:
    yield "."
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield path.name


def _words(table: UserTable, column: str) -> list[str]:
    words = table.cells(column, as_words=True).as_words()
    return [word for word in words if word is not None][:TRIED]


def _are_in(words: Sequence[str], folder: Path, names: set[str]) -> bool:
    """Whether most words are pictures in a folder."""
    there = 0
    for word in words:
        safe = ".." not in Path(word).parts and not Path(word).is_absolute()
        is_file = safe and is_picture(Path(word)) and os.path.isfile(folder / word)
        there += is_file or word in names
    return bool(words) and there >= MOST * len(words)


def pictures_by_column(columns: Mapping[str, str], name: str) -> Sections:
    """Modalities for columns that name pictures, called after their folders.

    Args:
        columns: {column: folder}.
        name: of a modality, if a column lies in no folder of its own.
    """
    modalities: Sections = {}
    for column, folder in columns.items():
        own = Path(folder).name or name
        own = own if own not in modalities else column
        modalities[own] = {"source": "images", "column": column}
        if folder != ".":
            modalities[own]["folder"] = folder
    return modalities


def cells_in(path: Path, file: str | None = None) -> Sections:
    """A modality for each of a file of cells, of counts where there are some.

    Args:
        file: the path in the description; None: it is its main table.
    """
    held = read_cells(path).modalities
    modalities: Sections = {}
    for name, data in held.items():
        section: dict[str, Any] = {"source": "cells"}
        if file is not None:
            section["file"] = file
        if name:
            section["modality"] = name
        x = data.X
        if COUNTS in data.layers and not (x is not None and is_counts(_stored(x))):
            section["layer"] = COUNTS
        if data.n_obs * data.n_vars * 4 > MAX_DENSE * 2**30:
            section["genes"] = GENES
        modalities[name or path.name.partition(".")[0]] = section
    return modalities


def _stored(x: Any) -> Any:
    return x.tocsr() if hasattr(x, "tocsr") else x


def arrays_in(path: Path, file: str, key: str | None) -> Sections:
    """A modality for each array of numbers of an .npz or .npy file.

    Args:
        file: the path in the description.
        key: the array of keys, if the file has one of this name.
    """
    arrays = read_arrays(path)
    numeric = [name for name, x in arrays.items() if x.dtype.kind in "biuf" and name != key]
    if not numeric:
        raise ValueError(f"{path} holds no array of numbers, got {shown(sorted(arrays))}.")
    modalities: Sections = {}
    for name in numeric:
        section = {"source": "array", "file": file}
        if name:
            section["array"] = name
        if key in arrays:
            section["key"] = str(key)
        modalities[name or path.name.partition(".")[0]] = section
    return modalities


def is_array(path: Path) -> bool:
    """Whether a file holds arrays, by its name."""
    return path.name.lower().endswith((".npz", ".npy"))
