"""Rows of another table, or of other files, as samples of modalities that have been described."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import FilePath
from polymodal.data.covariates import places_of
from polymodal.data.dataset import Dataset
from polymodal.data.described import Values, column_of, gathered, main_keys, present_of
from polymodal.data.description import (
    Description,
    description_of,
    is_description,
    read_section,
)
from polymodal.data.joining import ABSENT, Joined, joined
from polymodal.data.readers.cells import is_cells, read_cells
from polymodal.data.sources import Place, Samples, Source, source_of
from polymodal.data.sources.images import Pictures
from polymodal.data.suggestion import modality_name, suggested
from polymodal.data.tables import UserTable, is_table, read_table
from polymodal.data.tables.values import values_of

log = logging.getLogger("polymodal")


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
        description = description_of_rows(section, path)
        place = description.place()
        values, together = _of_files(modalities, description, place)
    else:
        description = description_of(section)
        place = _place_of_table(description, path)
        values, together = _of_table(modalities, description, place)
    covariates, told = _covariates(modalities, description, place, together)
    for note in told:
        log.warning("%s", note)
    for _, _, notes in values.values():
        for note in notes:
            log.warning("%s", note)
    rows = together.rows
    return Dataset(
        modalities,
        {m: gathered(rows[m], values[m][0]) for m in values},
        present={m: present_of(rows[m], values[m][1]) for m in values},
        covariates=covariates,
    )


def _covariates(
    modalities: Sequence[Modality], description: Description, place: Place, together: Joined
) -> tuple[dict[str, Tensor], list[str]]:
    """The places of the categories of samples, also of modalities that they lack, and sentences on
    those that have none.
    """
    places: dict[str, Tensor] = {}
    notes: list[str] = []
    for m in modalities:
        if m.covariate is not None:
            column = description.batch_keys.get(m.name, m.covariate.column)
            words: Sequence[str | None] = [None] * len(together)
            if place.file is not None and column in place.table().columns:
                words = column_of(column, place, together)
            places[m.name], told = places_of(m.covariate, words, m.name)
            notes += told
    return places, notes


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


def _of_files(
    modalities: Sequence[Modality], description: Description, place: Place
) -> tuple[Values, Joined]:
    """Values of the files of a description; of modalities that it does not name, none."""
    values = {}
    sources = description.sources.items()
    samples = {name: source.read(name, entry, place) for name, (source, entry) in sources}
    together = joined(samples, main_keys(description, place))
    rows = dict(together.rows)
    for m in modalities:
        if m.name in samples:
            values[m.name] = samples[m.name].values(m)
        else:
            values[m.name] = _nothing(m, 1)
            rows[m.name] = np.full(len(together), ABSENT)
    return values, replace(together, rows=rows)


def _place_of_table(description: Description, path: FilePath) -> Place:
    """Where a table of new rows lies."""
    if not is_table(path):
        raise ValueError(f"New rows are read from a table or a description, got {path}.")
    table = read_table(path, separator=description.separator, encoding=description.encoding)
    return _place_of(description, table)


def _of_table(
    modalities: Sequence[Modality], description: Description, place: Place
) -> tuple[Values, Joined]:
    """Values of one table, in which the columns of all modalities are looked up."""
    table = place.table()
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
