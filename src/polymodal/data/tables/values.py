"""Values of the columns that a model knows, from any table of a user, and back into its holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import CODED, Column, Modality
from polymodal.checks import shown
from polymodal.data.tables.cells import Cells
from polymodal.data.tables.coding import DATE, decoded, numbers_of
from polymodal.data.tables.decimals import decimals_of
from polymodal.data.tables.user_table import UserTable


def values_of(
    table: UserTable, columns: Sequence[Column], empty: Sequence[str] = ()
) -> tuple[Tensor, list[str]]:
    """The columns of a table as numbers (N, d), float32, NaN where a cell is empty, a word is no
    category, or the table has no such column; and sentences on the last two.

    Args:
        columns: those of a modality.
        empty: words that stand for an empty cell, beside the usual ones.

    Raises ValueError, naming the file, for cells that a column cannot have.
    """
    values, notes = np.full((len(table), len(columns)), np.nan, np.float32), []
    absent = [column.name for column in columns if column.name not in table.columns]
    if absent:
        notes.append(
            f"{table.path} has no column {', '.join(map(repr, absent[:5]))}"
            f"{f' and {len(absent) - 5} more' if len(absent) > 5 else ''}; all of"
            f" {'its' if len(absent) == 1 else 'their'} cells are empty."
        )
    for k, column in enumerate(columns):
        if column.name not in absent:
            values[:, k], unseen = _numbers(table, column, empty)
            notes += _remarks(table, column, unseen)
    return torch.from_numpy(values), notes


def numbers_in(table: UserTable, column: Column, empty: Sequence[str] = ()) -> np.ndarray:
    """One column that the table has as numbers (N,); see `values_of`."""
    return _numbers(table, column, empty)[0]


def _numbers(
    table: UserTable, column: Column, empty: Sequence[str]
) -> tuple[np.ndarray, dict[str, list[int]]]:
    cells = _cells(table, column, empty)
    try:
        return numbers_of(cells, column)
    except ValueError as error:
        raise ValueError(f"{table.path} cannot be read: {error}") from None


def _remarks(table: UserTable, column: Column, unseen: Mapping[str, list[int]]) -> list[str]:
    """A sentence on words that are no category."""
    if not unseen:
        return []
    rows = sorted(row for rows in unseen.values() for row in rows)
    few = ", ".join(shown(word) for word in list(unseen)[:3])
    more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
    return [
        f"Column {column.name!r} of {table.path} has {few}{more}, not among the categories of"
        f" training, in {len(rows)} rows (first: {table.places.of(rows[0])}); these cells are read"
        " as empty."
    ]


def holes_of(table: UserTable, modality: Modality, empty: Sequence[str] = ()) -> Tensor:
    """Which cells of the columns of a modality are to be filled, (N, d) bool: those that hold
    nothing. A word that is no category is none of them, and neither are columns that the table does
    not have.
    """
    known, _ = values_of(table, modality.columns, empty)
    holes = torch.isnan(known)
    for k, column in enumerate(modality.columns):
        holes[:, k] &= column.name in table.columns
        if holes[:, k].any():
            holes[:, k] &= torch.from_numpy(~_cells(table, column, empty).observed)
    return holes


def filled(
    table: UserTable,
    modality: Modality,
    values: Tensor,
    empty: Sequence[str] = (),
    holes: Tensor | None = None,
) -> dict[str, tuple[list[int], list[Any]]]:
    """What is written into the empty cells of the columns of a modality, for `UserTable.write`.

    Args:
        values: (N, d), one value for every row and column, as a model gives it: in the user's
            units, of coded columns places in `categories`. Those of cells that are not empty are
            not looked at.
        holes: those of `holes_of`, if they are known.

    Raises ValueError for another shape, and for NaN where a cell is to be filled.
    """
    if tuple(values.shape) != (len(table), len(modality.columns)):
        raise ValueError(
            f"The table {table.path} of {len(table)} rows needs values of shape"
            f" ({len(table)}, {len(modality.columns)}), got {tuple(values.shape)}."
        )
    written = {}
    holes = holes_of(table, modality, empty) if holes is None else holes
    for k, column in enumerate(modality.columns):
        if column.name not in table.columns:
            continue
        rows = holes[:, k]
        chosen = values[rows, k].double()
        if not chosen.isfinite().all():
            raise ValueError(f"Column {column.name!r} has no value for some of its empty cells.")
        as_here = as_written(table, column, empty)
        written[column.name] = (rows.nonzero()[:, 0].tolist(), decoded(chosen.tolist(), as_here))
    return written


def as_written(table: UserTable, column: Column, empty: Sequence[str] = ()) -> Column:
    """The column with as many digits behind the point as real numbers have in this table, if it has
    some; a table of training may have had others.
    """
    if column.name not in table.columns or not _is_real(column.dtype):
        return column
    cells = _cells(table, column, empty)
    is_other = cells.form == "number" and _is_real(cells.dtype)
    return replace(column, dtype=cells.dtype) if is_other else column


def _is_real(dtype: str) -> bool:
    return dtype == "float64" or decimals_of(dtype) is not None


def _cells(table: UserTable, column: Column, empty: Sequence[str]) -> Cells:
    """The cells of a column, read as those of training were."""
    as_words = column.type in CODED and column.dtype == "str"
    date_format = column.dtype[len(DATE) : -1] if column.dtype.startswith(DATE) else None
    return table.cells(column.name, empty, as_words=as_words, date_format=date_format)
