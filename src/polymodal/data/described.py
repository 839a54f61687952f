"""Data sets from a description: `read_described`; and new rows for a trained model: `read_rows`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import AUTO, FilePath, Memory, Seed, permitted
from polymodal.data.dataset import PARTS, Dataset, Splits
from polymodal.data.description import (
    Description,
    Split,
    description_of,
    is_description,
    read_section,
    section_of,
)
from polymodal.data.joining import ABSENT, Joined, joined, parts_by_column, random_parts, unmatched
from polymodal.data.readers.cells import is_cells, read_cells
from polymodal.data.readers.mapped import Room
from polymodal.data.rows import pick
from polymodal.data.sources import Place, Samples, Source, source_of
from polymodal.data.sources.images import Pictures
from polymodal.data.sources.table import check_columns
from polymodal.data.suggestion import modality_name, suggested
from polymodal.data.tables import UserTable, is_table, read_table
from polymodal.data.tables.values import values_of

log = logging.getLogger("polymodal")


@dataclass(frozen=True)
class Described:
    """What was read of a description.

    Args:
        splits: the parts.
        description: of the files.
        samples: the values of every modality, as the files have them.
        joined: which value each sample has.
        parts: the places among the joined samples of the samples of every part.
        notes: sentences on what was not read as it stands.
    """

    splits: Splits
    description: Description
    samples: Mapping[str, Samples]
    joined: Joined
    parts: Mapping[str, np.ndarray]
    notes: Sequence[str] = field(default_factory=list)


def read_described(
    section: Mapping[str, Any],
    name: str,
    seed: Seed = 0,
    memory: Memory = AUTO,
    tables: dict[Path, UserTable] | None = None,
    arrays: Mapping[Path, Mapping[str, np.ndarray]] | None = None,
) -> Described:
    """The data that a section `data` describes.

    Categories, vocabularies, locations and spreads are those of the training part. A sample without
    any value is left out.

    Args:
        name: of the data set.
        seed: of a random split, unless the description has one.
        tables, arrays: those that need not be read from their files; no pictures are looked for
            beside such a table.

    Raises ValueError in one sentence for files, columns and cells that cannot be read.
    """
    given = description_of(section)
    room = Room(permitted(memory))
    folders: list[str] | None = None if tables is None else []
    tables = {} if tables is None else tables
    if is_table(given.file or ""):
        replace(given.place(tables), room=room).table()
    suggest = partial(suggested, tables=tables, folders=folders)
    description = given if given.modalities else suggest(given)
    each_room = Room(room.limit / len(description.sources))
    place = replace(description.place(tables), room=each_room, arrays=arrays or {})
    samples = {
        m: source.read(m, entry, place) for m, (source, entry) in description.sources.items()
    }
    check_columns(samples)
    together = joined(samples, _main(description, place))
    parts = _parts(description, place, together, seed)
    modalities = [
        each.describe(m, _known(together.rows[m], parts["train"])) for m, each in samples.items()
    ]
    values = {m.name: samples[m.name].values(m) for m in modalities}
    notes = [note for _, _, notes in values.values() for note in notes]
    notes += unmatched(samples, together)
    label = _label(description, place, together)
    is_large = not room.holds(sum(x.numel() * x.element_size() for x, _, _ in values.values()))
    data = {}
    for part, chosen in parts.items():
        data[part], kept = _dataset(modalities, values, together, chosen, label, is_large)
        if lost := len(chosen) - len(kept):
            notes.append(
                f"{lost} samples of the {part} part have no value at all, and are left out."
            )
        parts = parts | {part: kept}
    splits = Splits(data["train"], data["val"], data["test"], name)
    return Described(splits, description, samples, together, parts, notes)


def _main(description: Description, place: Place) -> Sequence[str] | int | None:
    """The keys of the main table, or the number of its rows; None if there is none."""
    if description.file is None:
        return None
    table = place.table()
    keys = place.keys(table)
    return len(table) if keys is None else keys


def _known(rows: np.ndarray, chosen: np.ndarray) -> Any:
    """The places of the values that the chosen samples have, (n,)."""
    places = rows[chosen]
    return places[places != ABSENT]


def _column(
    column: str, what: str, description: Description, place: Place, together: Joined
) -> list[str | None]:
    """The words of a column of the main table, for every sample; None where there is none."""
    if description.file is None:
        raise ValueError(f"{what}: {column} is looked up in the main table; write data.file.")
    words = place.table().cells(column, place.empty).as_words()
    return [None if row == ABSENT else words[row] for row in together.main.tolist()]


def _parts(
    description: Description, place: Place, together: Joined, seed: int
) -> dict[str, np.ndarray]:
    """The samples of every part. Parts that a column does not name are split off at random."""
    split = description.split
    if not isinstance(split, str):
        by = split.by and _column(split.by, "split.by", description, place, together)
        return random_parts(len(together), split, seed, by or None)
    named = parts_by_column(_column(split, "split", description, place, together), split)
    if len(named) == len(PARTS):
        return named
    shares = random_parts(len(named["train"]), Split(), seed)
    lacking = {part: shares[part] for part in PARTS if part not in named}
    left = np.setdiff1d(np.arange(len(named["train"])), np.concatenate([*lacking.values()]))
    chosen = {"train": left, **lacking}
    return {part: named["train"][chosen[part]] if part in chosen else named[part] for part in PARTS}


def _label(description: Description, place: Place, together: Joined) -> np.ndarray | None:
    """The labels of all samples, whole numbers or words. Raises ValueError for empty ones."""
    column = description.label
    if column is None:
        return None
    words = _column(column, "label", description, place, together)
    if lacking := [k for k, word in enumerate(words) if word is None]:
        raise ValueError(
            f"The label {column!r} is empty in {len(lacking)} of {len(words)} samples; fill it, or"
            " leave label: out of the description."
        )
    cells = place.table().cells(column, place.empty)
    if cells.form == "number" and cells.dtype == "int64":
        return np.array([int(word or 0) for word in words])
    return np.array(words, dtype=str)


Values = Mapping[str, tuple[Tensor, Tensor, list[str]]]


def _dataset(
    modalities: Sequence[Modality],
    values: Values,
    together: Joined,
    chosen: np.ndarray,
    label: np.ndarray | None,
    is_large: bool,
) -> tuple[Dataset, np.ndarray]:
    """The chosen samples that have a value, and their places among all; streamed, if values are
    large, from the tables as they are.
    """
    present = {m: _present(together.rows[m][chosen], values[m][1]) for m in values}
    kept = chosen[torch.stack(list(present.values())).any(0).numpy()]
    if not len(kept):
        raise ValueError("A part has no sample with any value; lower split.val and split.test.")
    masks = {m: _present(together.rows[m][kept], values[m][1]) for m in values}
    absent = {m: mask for m, mask in masks.items() if not mask.all()}
    own = None if label is None else label[kept]
    if is_large:
        whole = {m: x for m, (x, _, _) in values.items()}
        rows = {m: _rows(together.rows[m][kept]) for m in values}
        return Dataset(modalities, whole, rows, absent, own).stream(), kept
    tables = {m: _gathered(together.rows[m][kept], values[m][0]) for m in values}
    return Dataset(modalities, tables, present=absent, label=own), kept


def _present(rows: np.ndarray, present: Tensor) -> Tensor:
    """Which samples have a value, (N,) bool."""
    at = torch.from_numpy(rows)
    return (at != ABSENT) & present[at.clamp_min(0)]


def _gathered(rows: np.ndarray, x: Tensor) -> Tensor:
    """The values of samples (N, *shape); any value where there is none."""
    return pick(x, _rows(rows))


def _rows(rows: np.ndarray) -> Tensor:
    """The rows of samples (N,); the first one where there is no value."""
    return torch.from_numpy(rows).clamp_min(0)


def described(
    given: FilePath | Mapping[str, Any], *, seed: Seed = 0, memory: Memory = AUTO, **changes: Any
) -> Splits:
    """The data of a description (.yaml), or of one table, all columns of which are a modality,
    `table`, with texts as modalities of their own; see `read_described`.

    Args:
        given: the file, or a section `data`.
        changes: fields of `Description` that win over the file's.
    """
    section = given if isinstance(given, Mapping) else section_of(given)
    file = str(section.get("file") or "data") if isinstance(given, Mapping) else given
    name = Path(file).name.partition(".")[0]
    read = read_described({**section, **changes}, name, seed, memory)
    for note in read.notes:
        log.warning("%s", note)
    return read.splits


# New rows.


def read_rows(
    modalities: Sequence[Modality], section: Mapping[str, Any], path: FilePath
) -> Dataset:
    """The rows of another table, or of the files of another description, as samples of modalities
    that have been described before: with their categories, locations and spreads.

    Row i of a table is sample i. Columns that it does not have are empty, further ones are not
    looked at, and a word that is no category of training is read as empty; all is logged. A sample
    may lack all values.

    Args:
        section: the section `data` by which the modalities were read.
        path: a table, a file of cells, or a description.

    Raises ValueError in one sentence for what cannot be read.
    """
    if is_description(path) or is_cells(path):
        values, together = _of_files(modalities, description_of_rows(section, path))
    else:
        values, together = _of_table(modalities, description_of(section), path)
    for _, _, notes in values.values():
        for note in notes:
            log.warning("%s", note)
    rows = together.rows
    return Dataset(
        modalities,
        {m: _gathered(rows[m], values[m][0]) for m in values},
        present={m: _present(rows[m], values[m][1]) for m in values},
    )


def rows_table(section: Mapping[str, Any], path: FilePath) -> UserTable:
    """The table that `read_rows` reads, to be written with its holes filled."""
    description = description_of(section)
    return read_table(path, separator=description.separator, encoding=description.encoding)


def description_of_rows(section: Mapping[str, Any], path: FilePath) -> Description:
    """What `read_rows` reads of a description, or of a file of cells: the modalities of training
    that it has.
    """
    if is_description(path):
        return description_of(read_section(path))
    return _with_cells(description_of(section), Path(path))


def _with_cells(description: Description, path: Path) -> Description:
    """The description with another file of cells."""
    fields: dict[str, Any] = {"file": path.name, "path": str(path.expanduser().parent)}
    changed = description.model_copy(update={**fields, "key": None})
    if not description.modalities:
        return suggested(changed)
    modalities = {
        name: {k: v for k, v in section.items() if k != "file"}
        for name, section in description.modalities.items()
        if section.get("source") == "cells" and _is_held(section, path)
    }
    return changed.model_copy(update={"modalities": modalities})


def _is_held(section: Mapping[str, Any], path: Path) -> bool:
    """Whether a file of cells has the modality that a description says."""
    held = read_cells(path).modalities
    return section.get("modality") is None or list(held) == [""] or section["modality"] in held


def _of_files(modalities: Sequence[Modality], description: Description) -> tuple[Values, Joined]:
    """Values of the files of a description; of modalities that it does not name, none."""
    place, values = description.place(), {}
    sources = description.sources.items()
    samples = {name: source.read(name, entry, place) for name, (source, entry) in sources}
    together = joined(samples, _main(description, place))
    rows = dict(together.rows)
    for m in modalities:
        if m.name in samples:
            values[m.name] = samples[m.name].values(m)
        else:
            values[m.name] = _nothing(m, 1)
            rows[m.name] = np.full(len(together), ABSENT)
    return values, replace(together, rows=rows)


def _of_table(
    modalities: Sequence[Modality], description: Description, path: FilePath
) -> tuple[Values, Joined]:
    """Values of one table, in which the columns of all modalities are looked up."""
    if not is_table(path):
        raise ValueError(f"New rows are read from a table or a description, got {path}.")
    table = read_table(path, separator=description.separator, encoding=description.encoding)
    place = _place_of(description, table)
    values = {m.name: _of_columns(m, description, place) for m in modalities}
    rows = np.arange(len(table))
    return values, Joined(dict.fromkeys(values, rows), rows)


def _place_of(description: Description, table: UserTable) -> Place:
    """Where the files lie that a new table names: row i is sample i."""
    place = description.place()
    place = replace(place, folder=table.path.parent, file=table.path.name, key=None)
    place.tables[place.path(table.path.name)] = table
    return place


def _of_columns(
    modality: Modality, description: Description, place: Place
) -> tuple[Tensor, Tensor, list[str]]:
    """The values of a modality in the main table; nothing if it does not have its columns."""
    table = place.table()
    if modality.columns:
        x, notes = values_of(table, modality.columns, place.empty)
        return x, ~torch.isnan(x).all(1), notes
    samples = _in_columns(modality, description, place)
    return _nothing(modality, len(table)) if samples is None else samples.values(modality)


def _in_columns(modality: Modality, description: Description, place: Place) -> Samples | None:
    """The samples of a modality that is no table, in the columns of the main table; None if it
    does not have them.
    """
    table = place.table()
    source, entry = _source_of(modality, description, table)
    entry = source.by_column(entry, description.key)
    columns = source.taken(entry)
    if not columns or not set(columns) <= set(table.columns):
        return None
    entry = entry.model_copy(update={"file": None, "key": None})
    return source.read(modality.name, entry, place)


def _source_of(
    modality: Modality, description: Description, table: UserTable
) -> tuple[Source, Any]:
    """The source of a modality that is no table, and what the description says of it."""
    if description.modalities:
        return description.sources[modality.name]
    texts = (c for c in table.columns if modality_name(c) == modality.name)
    return source_of(modality.name, {"source": "text", "column": next(texts, "")})


def text_column(modality: Modality, section: Mapping[str, Any], table: UserTable) -> str | None:
    """The column of a table that holds the texts of a modality; None if it has none."""
    source, entry = _source_of(modality, description_of(section), table)
    columns = source.taken(entry)
    return columns[0] if len(columns) == 1 and columns[0] in table.columns else None


def pictures_of(
    modality: Modality, section: Mapping[str, Any], table: UserTable
) -> Pictures | None:
    """The pictures of a modality that the rows of a table name; None if they name none."""
    description = description_of(section)
    if modality.columns or not description.modalities:
        return None
    samples = _in_columns(modality, description, _place_of(description, table))
    return samples if isinstance(samples, Pictures) else None


def _nothing(modality: Modality, count: int) -> tuple[Tensor, Tensor, list[str]]:
    """Values of a modality that is absent everywhere."""
    return torch.zeros(count, *modality.shape), torch.zeros(count, dtype=torch.bool), []
