"""`Frame`: a DataFrame as a table whose holes can be filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from polymodal.checks import shown
from polymodal.data.tables.arrow import Typed, cell_of, is_decimal
from polymodal.data.tables.cells import Cells, Places
from polymodal.data.tables.decimals import with_decimals
from polymodal.data.tables.guess import Guess, guess
from polymodal.data.tables.user_table import Filled


class FramePlaces(Places):
    """Rows of a DataFrame, and what can be done about its cells in Python."""

    def of(self, row: int) -> str:
        return f"iloc[{row}]"

    def words_remedy(self, column: str, words: Sequence[str]) -> str:
        return (
            'if they stand for nothing, pandas.to_numeric(..., errors="coerce") empties them; if'
            ' they are categories, write astype("category")'
        )

    def dates_remedy(self, column: str) -> str:
        return "make days of them with pandas.to_datetime(..., dayfirst=True or False)"


class Frame(Typed):
    """A DataFrame, whose columns may have any names.

    Args:
        frame: the table.
        name: its name in sentences.

    Raises ValueError for columns of several types, and names that come twice.
    """

    def __init__(self, frame: pd.DataFrame, name: str) -> None:
        self.frame = frame
        named = frame.set_axis([str(column) for column in frame.columns], axis=1)
        if len(set(named.columns)) < len(named.columns):
            twice = named.columns[named.columns.duplicated()][0]
            raise ValueError(f"{name} has the column {twice!r} twice; rename one of them.")
        columns = {column: _arrow(named[column], name) for column in named.columns}
        if not columns:
            raise ValueError(f"{name} has no columns.")
        super().__init__(Path(name), pa.table(columns).unify_dictionaries())
        self.places = FramePlaces()

    def _cells(
        self, column: str, empty: Sequence[str], as_words: bool, date_format: str | None
    ) -> Cells:
        """Categories are words, whatever they look like."""
        is_category = isinstance(self._dtype(column), pd.CategoricalDtype)
        return super()._cells(column, empty, as_words or is_category, date_format)

    def _dtype(self, column: str) -> Any:
        return self.frame.dtypes.iloc[self.columns.index(column)]

    def guess(self, column: str) -> Guess:
        """What a column is: what its type says, then what its cells suggest."""
        cells = self.cells(column)
        found = guess(cells)
        dtype = self._dtype(column)
        if cells.form == "nothing":
            return found
        if isinstance(dtype, pd.CategoricalDtype):
            return Guess(column, "ordinal" if dtype.ordered else "category", "a categorical column")
        return found

    def completed(self, filled: Filled) -> pd.DataFrame:
        """A copy with other values in some cells, of the same types.

        Args:
            filled: see `UserTable.write`.
        """
        frame = self.frame.copy()
        for name, (rows, values) in filled.items():
            if len(rows):
                place = self.columns.index(name)
                column = frame.iloc[:, place].copy()
                type_ = self.table.schema.field(name).type
                is_exact = is_decimal(type_)
                cells = _decimals(values, column, type_) if is_exact else _values(values, column)
                column.iloc[list(rows)] = cells
                frame.isetitem(place, column)
        return frame


def _arrow(column: pd.Series, name: str) -> Any:
    """A column for Arrow."""
    if column.dtype == object and column.map(lambda v: isinstance(v, complex)).any():
        raise ValueError(f"Column {column.name!r} of {name} holds complex numbers; give real ones.")
    dtype: Any = column.dtype
    if isinstance(dtype, pd.SparseDtype):
        column = column.sparse.to_dense()
    if dtype.name == "float128":
        column = column.astype(np.float64)
    try:
        array = pa.chunked_array([pa.Array.from_pandas(column)])
        if pa.types.is_dictionary(array.type):
            array.cast(array.type.value_type)
        return array
    except (pa.ArrowException, TypeError, OverflowError, UnicodeError):
        kinds = sorted({type(v).__name__ for v in column.dropna().head(1000)})
        raise ValueError(
            f"Column {column.name!r} of {name} must hold numbers, words, dates or true and false,"
            f" all of one type, got {shown(kinds)}; convert it, for example by astype(str)."
        ) from None


def _values(values: Sequence[Any], column: pd.Series) -> list[Any]:
    """Values as the cells of a column have them."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        by_word = _by_word(dtype.categories)
        return [by_word[str(value)] for value in values]
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return _moments(values, column)
    if pd.api.types.is_integer_dtype(dtype):
        return [round(value) for value in values]
    return [float(v) if isinstance(v, Decimal) else v for v in values]


def _decimals(values: Sequence[Any], column: pd.Series, type_: pa.DataType) -> list[Decimal]:
    """Values as decimals of a type; objects of Python hold any size."""
    if column.dtype == object:
        return [with_decimals(value, type_.scale) for value in values]
    return [cell_of(value, type_) for value in values]


def _moments(values: Sequence[Any], column: pd.Series) -> list[pd.Timestamp]:
    """Moments in the time zone of a column; whole days if all of its cells are."""
    zone = getattr(column.dtype, "tz", None)
    moments = [pd.Timestamp(value) for value in values]
    if zone is not None:
        moments = [moment.tz_localize("UTC").tz_convert(zone) for moment in moments]
    observed = column.dropna()
    is_day = bool((observed == observed.dt.normalize()).all())
    return [moment.round("D") for moment in moments] if is_day else moments


def _by_word(categories: pd.Index) -> Mapping[str, Any]:
    """Categories by their words: those of numbers without a point where they are whole."""
    return {str(c): c for c in categories} | {
        str(int(c)): c for c in categories if isinstance(c, float) and c == int(c)
    }
