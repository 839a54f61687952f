"""Modalities found in a user's files beside the columns of a table: pictures, cells, arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.checks import shown
from polymodal.data.readers.archives import read_arrays, samples_in
from polymodal.data.readers.cells import read_cells
from polymodal.data.readers.pictures import is_picture
from polymodal.data.sources.cells import is_counts
from polymodal.data.sources.images import stems
from polymodal.data.tables import UserTable

TRIED = 200  # cells of a column that are looked up as files
MOST = 0.5  # share of them that must be there
COUNTS = "counts"  # the usual layer of counts
FEATURES, MANY = 2000, 4000  # of so many, those that vary most are suggested

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
    """A modality for each of a file of cells, see `cell_sections`.

    Args:
        file: the path in the description; None: it is its main table.
    """
    sections = cell_sections(read_cells(path).modalities, path.name.partition(".")[0])
    if file is None:
        return sections
    return {name: {**section, "file": file} for name, section in sections.items()}


def cell_sections(held: Mapping[str, Any], only: str) -> Sections:
    """What a description says of each modality of cells: the layer of counts where X has none, and
    a choice of features where there are many.

    Args:
        held: objects of anndata by name.
        only: the name of one that has none.
    """
    modalities: Sections = {}
    for name, data in held.items():
        section: dict[str, Any] = {"source": "cells"}
        if name:
            section["modality"] = name
        x = data.X
        if COUNTS in data.layers and not (x is not None and is_counts(_stored(x))):
            section["layer"] = COUNTS
        if data.n_vars > MANY:
            section["features"] = FEATURES
        modalities[name or only] = section
    return modalities


def _stored(x: Any) -> Any:
    return x.tocsr() if hasattr(x, "tocsr") else x


def arrays_in(path: Path, file: str | None, key: str | None) -> Sections:
    """A modality for each array of numbers of an .npz or .npy file.

    Args:
        file: the path in the description; None: it is its main file, of which lists of one value
            for each sample are no modalities.
        key: the array of keys, if the file has one of this name.
    """
    arrays = read_arrays(path)
    size = samples_in(arrays)
    numeric = [
        name
        for name, x in arrays.items()
        if x.dtype.kind in "biuf" and name != key and (file or (x.ndim > 1 and len(x) == size))
    ]
    if not numeric:
        raise ValueError(f"{path} holds no array of numbers, got {shown(sorted(arrays))}.")
    modalities: Sections = {}
    for name in numeric:
        section: dict[str, Any] = {"source": "array"}
        if file is not None:
            section["file"] = file
        if name:
            section["array"] = name
        if key in arrays:
            section["key"] = str(key)
        x = arrays[name]
        if x.ndim == 2 and x.dtype.kind in "iu" and x.dtype.itemsize > 1 and is_counts(x):
            section["counts"] = True
        modalities[name or path.name.partition(".")[0]] = section
    return modalities
