"""Forms of data that `Imputer` takes, as tables and back: DataFrames, arrays, mappings of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import issparse
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import shown
from polymodal.data import Dataset
from polymodal.data.sources.table import ColumnEntry, Rows, Taken
from polymodal.data.tables.frame import Frame
from polymodal.data.tables.guess import LEFT_OUT, TEXT, Guess
from polymodal.data.tables.values import filled, holes_of, values_of

TABLE = "X"  # the modality of data that are one table


class Forms:
    """Tables of N rows, one for each modality, that stand for the data of a user.

    Args:
        tables: {modality: its table}.
    """

    def __init__(self, tables: Mapping[str, Frame]) -> None:
        sizes = {m: len(table) for m, table in tables.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"All modalities must have the same number of rows, got {sizes}.")
        self.tables, self.size = dict(tables), next(iter(sizes.values()))

    @property
    def names(self) -> list[str]:
        """The modalities that are filled in."""
        return list(self.tables)

    def describe(self, numbers: Sequence[str]) -> tuple[list[Modality], dict[str, list[Guess]]]:
        """The modalities, and the columns of each table that are left out.

        Args:
            numbers: the tables whose columns are real numbers, whatever their values.

        Raises ValueError for tables without a column that can be used.
        """
        modalities, left_out = [], {}
        for m, table in self.tables.items():
            guesses = [_number(table, c) if m in numbers else table.guess(c) for c in table.columns]
            used = [g for g in guesses if g.type not in (LEFT_OUT, TEXT)]
            left_out[m] = [g for g in guesses if g.type in (LEFT_OUT, TEXT)]
            if not used:
                why = "; ".join(f"{g.name}: {g.reason}" for g in left_out[m][:3])
                raise ValueError(f"{m} has no column that can be used ({why}).")
            taken = [Taken(partial(table.cells, g.name), ColumnEntry(), g) for g in used]
            described = Rows(table, taken, left_out[m], None, ()).describe(m, range(self.size))
            modalities.append(replace(described, holes=True))
        return modalities, left_out

    def dataset(self, modalities: Sequence[Modality]) -> tuple[Dataset, list[str]]:
        """The rows as samples, and sentences on what was not read as it stands; a modality without
        a table is absent.
        """
        values: dict[str, Tensor] = {}
        notes: list[str] = []
        for m in modalities:
            if m.name in self.tables:
                values[m.name], more = values_of(self.tables[m.name], m.columns)
                notes += more
            else:
                values[m.name] = torch.full((self.size, *m.shape), torch.nan)
        return Dataset(modalities, values), notes

    def holes(self, modalities: Sequence[Modality]) -> dict[str, Tensor]:
        """The cells that are filled, (N, d) bool for each modality that has a table."""
        tables = self.tables
        return {m.name: holes_of(tables[m.name], m) for m in modalities if m.name in tables}

    def completed(
        self,
        modalities: Sequence[Modality],
        values: Mapping[str, Tensor],
        holes: Mapping[str, Tensor],
    ) -> dict[str, pd.DataFrame]:
        """The tables with values (N, d) in their holes."""
        done = {m: table.frame for m, table in self.tables.items()}
        for m in modalities:
            if m.name in values and m.name in self.tables:
                table = self.tables[m.name]
                cells = filled(table, m, values[m.name], (), holes[m.name])
                done[m.name] = table.completed(cells)
        return done


def check_form(X: Any) -> None:
    """Raises ValueError in one sentence for data that are no table and no mapping of tables."""
    if X is None or isinstance(X, str | bytes | os.PathLike):
        raise ValueError(
            "X must be a DataFrame, an array (rows, columns) or a mapping of them, got"
            f" {shown(X)}; read a file first (read_csv of pandas)."
        )
    is_mapping = isinstance(X, Mapping) and not issparse(X)
    if is_mapping and (other := [m for m in X if not isinstance(m, str)]):
        raise ValueError(f"Modalities are named by words, got {shown(other[0])}.")
    if isinstance(X, pd.DataFrame) and len(types := {type(c).__name__ for c in X.columns}) > 1:
        raise ValueError(
            f"The columns of X must have names of one type, got {shown(sorted(types))}; write"
            " X.columns = X.columns.astype(str)."
        )
    if isinstance(X, list | tuple):
        _check_rows(X)
    if isinstance(X, np.ndarray | Tensor | pd.Series):
        _check_array(X)


def _check_rows(rows: Sequence[Any]) -> None:
    """Raises ValueError for a list that is no list of equally long rows."""
    if rows and isinstance(rows[0], Mapping):
        raise ValueError("X is a list of mappings; make a DataFrame of it.")
    sizes = {len(row) for row in rows if hasattr(row, "__len__")}
    if len(sizes) > 1:
        raise ValueError(f"X has rows of {min(sizes)} to {max(sizes)} numbers; make them equal.")


def _check_array(x: Any) -> None:
    """Raises ValueError for complex numbers, and one axis."""
    if str(x.dtype).removeprefix("torch.").startswith("complex"):
        raise ValueError("Complex data not supported; give real numbers.")
    if x.ndim == 1:
        raise ValueError(
            f"X must have rows and columns, got one axis of {len(x)} numbers. Reshape your data:"
            " x.reshape(-1, 1) is one column, x.reshape(1, -1) one row."
        )


def _number(table: Frame, column: str) -> Guess:
    """A column of an array: real numbers."""
    found = table.guess(column)
    nothing = table.cells(column).form == "nothing"
    return found if nothing else Guess(column, "real", "a column of an array")


def frame_of(x: Any, columns: Sequence[str] | None, prefix: str = "x") -> pd.DataFrame:
    """An array (N, d), or (N,), as a DataFrame.

    Args:
        columns: their names; None: x0, x1, ...

    Raises ValueError for what holds no real numbers, or has another shape.
    """
    array = x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            "A modality must be a DataFrame or an array (rows, columns) of real numbers, got an"
            f" array of {array.dtype} of shape {array.shape}."
        )
    names = columns or [f"{prefix}{k}" for k in range(array.shape[1])]
    if len(names) != array.shape[1]:
        raise ValueError(f"There must be {len(names)} columns, got {array.shape[1]}.")
    return pd.DataFrame(array, columns=list(names))
