"""Modalities suggested for one table: groups of columns by their prefixes, texts, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.batch.modality import SEPARATORS
from polymodal.data.description import Description
from polymodal.data.finding import arrays_in, cells_in, picture_columns, pictures_by_column
from polymodal.data.readers.archives import is_arrays
from polymodal.data.readers.cells import is_cells
from polymodal.data.tables import Guess, UserTable, guess
from polymodal.data.tables.guess import LEFT_OUT, TEXT

PREFIXES = ("__", ":", ".")  # between the name of a group and that of a column
LEAST = 2  # groups, and columns of each
TABLE, IMAGE = "table", "image"


def suggested(
    description: Description,
    groups: Mapping[str, Sequence[str]] | None = None,
    tables: dict[Path, UserTable] | None = None,
    folders: Sequence[str] | None = None,
) -> Description:
    """The description with modalities for all columns of the main table that have no other use, and
    for the pictures that columns name; of a file of cells or arrays, for all that it holds.

    Args:
        groups: {modality: columns}; None: by prefixes of the columns' names, such as blood.iron and
            blood.zinc, if all have one and there are several groups of several columns; else one
            modality, `table`.
        tables: those that have been read, by path; the main table is added.
        folders: of pictures that columns name; None: that of the table and those in it.
    """
    root = Path(description.path or ".").expanduser()
    if is_cells(description.file or ""):
        return description.model_copy(update={"modalities": cells_in(root / str(description.file))})
    if is_arrays(description.file or ""):
        found = arrays_in(root / str(description.file), None, description.key)
        named = {modality_name(name): section for name, section in found.items()}
        return description.model_copy(update={"modalities": named})
    guessed = guesses_of(description, tables)
    pictures = picture_columns(description.place(tables).table(), root, folders)
    guesses = [g for g in guessed.values() if g.type != LEFT_OUT and g.name not in pictures]
    usable = [g.name for g in guesses if g.type != TEXT]
    texts = [g.name for g in guesses if g.type == TEXT]
    chosen = groups or prefixed(usable) or {TABLE: usable}
    modalities: dict[str, dict[str, Any]] = {
        modality_name(name): {"columns": list(columns)}
        for name, columns in chosen.items()
        if columns
    }
    if groups is None:
        for name in texts:
            free = _free(modality_name(name), modalities)
            modalities[free] = {"source": "text", "column": name}
    for name, section in pictures_by_column(pictures, IMAGE).items():
        modalities[_free(modality_name(name), modalities)] = section
    if not modalities:
        modalities = {TABLE: {}}  # which is refused with the reasons
    return description.model_copy(update={"modalities": modalities})


def guesses_of(
    description: Description, tables: dict[Path, UserTable] | None = None
) -> dict[str, Guess]:
    """What the columns of the main table are that have no other use, by name."""
    place = description.model_copy(update={"modalities": {}}).place(tables)
    table = place.table()
    used = set(place.taken.get(description.file or "", ()))
    free = [column for column in table.columns if column not in used]
    return {column: guess(table.cells(column, description.empty)) for column in free}


def prefixed(columns: Sequence[str]) -> dict[str, list[str]]:
    """Groups of columns by the prefixes of their names; none if they suggest none.

    >>> prefixed(["a.x", "a.y", "b.x", "b.y"])
    {'a': ['a.x', 'a.y'], 'b': ['b.x', 'b.y']}
    >>> prefixed(["a.x", "y"])
    {}
    """
    for mark in PREFIXES:
        groups: dict[str, list[str]] = {}
        for column in columns:
            groups.setdefault(column.partition(mark)[0] if mark in column else "", []).append(
                column
            )
        sizes = [len(group) for group in groups.values()]
        if "" not in groups and len(sizes) >= LEAST and min(sizes) >= LEAST:
            return groups
    return {}


def modality_name(text: str) -> str:
    """A column's name as that of a modality.

    >>> modality_name(" a+b ")
    'a_b'
    """
    kept = "".join("_" if c in SEPARATORS or not c.isprintable() else c for c in text).strip()
    return kept[:60] or TABLE


def _free(name: str, taken: Mapping[str, Any]) -> str:
    """The name, or the name with a number that is not taken."""
    names = (name, *(f"{name}_{k}" for k in range(2, len(taken) + 3)))
    return next(each for each in names if each not in taken)
