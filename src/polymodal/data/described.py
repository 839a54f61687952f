"""Data sets from a description: `read_described`."""

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
from polymodal.data.covariates import covariate_of, places_of
from polymodal.data.dataset import Dataset
from polymodal.data.description import (
    Description,
    Split,
    description_of,
    section_of,
)
from polymodal.data.joining import ABSENT, Joined, joined, parts_by_column, random_parts, unmatched
from polymodal.data.readers.mapped import Room
from polymodal.data.rows import pick
from polymodal.data.sources import Place, Samples
from polymodal.data.sources.table import check_columns
from polymodal.data.splits import PARTS, Splits
from polymodal.data.suggestion import suggested
from polymodal.data.tables import UserTable, is_table

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
    together = joined(samples, main_keys(description, place))
    parts = _parts(description, place, together, seed)
    modalities = [
        each.describe(m, _known(together.rows[m], parts["train"])) for m, each in samples.items()
    ]
    values = {m.name: samples[m.name].values(m) for m in modalities}
    notes = [note for _, _, notes in values.values() for note in notes]
    notes += unmatched(samples, together)
    label = _label(description, place, together)
    modalities, places, told = _covariates(modalities, description, place, together, parts["train"])
    notes += told
    is_large = not room.holds(sum(x.numel() * x.element_size() for x, _, _ in values.values()))
    data = {}
    for part, chosen in parts.items():
        data[part], kept = _dataset(modalities, values, together, chosen, label, places, is_large)
        if lost := len(chosen) - len(kept):
            notes.append(
                f"{lost} samples of the {part} part have no value at all, and are left out."
            )
        parts = parts | {part: kept}
    splits = Splits(data["train"], data["val"], data["test"], name)
    return Described(splits, description, samples, together, parts, notes)


def main_keys(description: Description, place: Place) -> Sequence[str] | int | None:
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


def _named(
    column: str, what: str, description: Description, place: Place, together: Joined
) -> list[str | None]:
    """`column_of`. Raises ValueError if there is no main table; `what` is the field."""
    if description.file is None:
        raise ValueError(f"{what}: {column} is looked up in the main table; write data.file.")
    return column_of(column, place, together)


def column_of(column: str, place: Place, together: Joined) -> list[str | None]:
    """The words of a column of the main table, for every sample; None where there is none."""
    words = place.table().cells(column, place.empty).as_words()
    return [None if row == ABSENT else words[row] for row in together.main.tolist()]


def _parts(
    description: Description, place: Place, together: Joined, seed: int
) -> dict[str, np.ndarray]:
    """The samples of every part. Parts that a column does not name are split off at random."""
    split = description.split
    if not isinstance(split, str):
        by = split.by and _named(split.by, "split.by", description, place, together)
        return random_parts(len(together), split, seed, by or None)
    named = parts_by_column(_named(split, "split", description, place, together), split)
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
    words = _named(column, "label", description, place, together)
    if lacking := [k for k, word in enumerate(words) if word is None]:
        raise ValueError(
            f"The label {column!r} is empty in {len(lacking)} of {len(words)} samples; fill it, or"
            " leave label: out of the description."
        )
    cells = place.table().cells(column, place.empty)
    if cells.form == "number" and cells.dtype == "int64":
        return np.array([int(word or 0) for word in words])
    return np.array(words, dtype=str)


def _covariates(
    modalities: Sequence[Modality],
    description: Description,
    place: Place,
    together: Joined,
    train: np.ndarray,
) -> tuple[list[Modality], dict[str, Tensor], list[str]]:
    """The modalities with their covariates, the places of the categories of all samples, and
    sentences on those that have none.
    """
    found, places, notes = [], {}, []
    for m in modalities:
        if column := description.batch_keys.get(m.name):
            words = _named(column, f"batch_key of {m.name!r}", description, place, together)
            covariate = covariate_of(column, words, train, m.name)
            m = replace(m, covariate=covariate)
            places[m.name], told = places_of(covariate, words, m.name)
            notes += told
        found.append(m)
    return found, places, notes


Values = Mapping[str, tuple[Tensor, Tensor, list[str]]]


def _dataset(
    modalities: Sequence[Modality],
    values: Values,
    together: Joined,
    chosen: np.ndarray,
    label: np.ndarray | None,
    places: Mapping[str, Tensor],
    is_large: bool,
) -> tuple[Dataset, np.ndarray]:
    """The chosen samples that have a value, and their places among all; streamed, if values are
    large, from the tables as they are.
    """
    present = {m: present_of(together.rows[m][chosen], values[m][1]) for m in values}
    kept = chosen[torch.stack(list(present.values())).any(0).numpy()]
    if not len(kept):
        raise ValueError("A part has no sample with any value; lower split.val and split.test.")
    masks = {m: present_of(together.rows[m][kept], values[m][1]) for m in values}
    absent = {m: mask for m, mask in masks.items() if not mask.all()}
    own = None if label is None else label[kept]
    told = {m: x[torch.from_numpy(kept)] for m, x in places.items()}
    if is_large:
        whole = {m: x for m, (x, _, _) in values.items()}
        rows = {m: _rows(together.rows[m][kept]) for m in values}
        return Dataset(modalities, whole, rows, absent, own, covariates=told).stream(), kept
    tables = {m: gathered(together.rows[m][kept], values[m][0]) for m in values}
    return Dataset(modalities, tables, present=absent, label=own, covariates=told), kept


def present_of(rows: np.ndarray, present: Tensor) -> Tensor:
    """Which samples have a value, (N,) bool."""
    at = torch.from_numpy(rows)
    return (at != ABSENT) & present[at.clamp_min(0)]


def gathered(rows: np.ndarray, x: Tensor) -> Tensor:
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
