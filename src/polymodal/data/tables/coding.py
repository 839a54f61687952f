"""Columns of a table as numbers for a model, and numbers as cells again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from polymodal.batch import CODED, Column
from polymodal.checks import shown
from polymodal.data.tables.cells import NUMBER, Cells
from polymodal.data.tables.dates import EPOCH, written
from polymodal.data.tables.decimals import decimals_of, step_of, with_decimals
from polymodal.data.tables.sizes import LARGEST, SMALLEST, fault_of, too_large
from polymodal.distributions.table import admits

DATE = "date["
ROUNDING = 1e-12  # a mean below this share of the spread is 0
TRUE = "true"


def numbers_of(cells: Cells, column: Column) -> tuple[np.ndarray, dict[str, list[int]]]:
    """The cells as numbers (N,), float32: in the user's units, of coded types places in
    `categories`, NaN where empty; and the words that are no category, with their rows, whose cells
    are NaN, too.

    Raises ValueError for cells that the type cannot have, with their places.
    """
    if column.type in CODED:
        return _places(cells, column)
    if cells.form == "word":
        rows = np.flatnonzero(cells.observed).tolist()
        raise _refusal(cells, column, rows, f"words such as {shown(cells.words[rows[0]])}")
    _check_dates(cells, column)
    values = cells.numbers
    wrong = ~admits(column, values) & ~np.isnan(values)
    if wrong.any():
        rows = np.flatnonzero(wrong).tolist()
        raise _refusal(cells, column, rows, shown(float(values[rows[0]])))
    _check_sizes(cells, column)
    return values.astype(np.float32), {}


def _check_dates(cells: Cells, column: Column) -> None:
    """Raises ValueError for dates in a column of numbers, and for numbers in one of dates."""
    if cells.form == "nothing" or (cells.form == "date") == column.dtype.startswith("date"):
        return
    rows = np.flatnonzero(cells.observed).tolist()
    found = "dates" if cells.form == "date" else shown(float(cells.numbers[rows[0]]))
    raise _refusal(cells, column, rows, found)


def _check_sizes(cells: Cells, column: Column) -> None:
    """Raises ValueError for numbers that 32 bits do not hold."""
    values = cells.numbers
    if fault := fault_of(values[~np.isnan(values)]):
        raise ValueError(f"Column {column.name!r} is out of range: {fault}.")
    if (large := too_large(values)).any():
        rows = np.flatnonzero(large).tolist()
        raise ValueError(
            f"Column {column.name!r} has numbers beyond {LARGEST:g} in size, such as"
            f" {values[rows[0]]:g} in {cells.at(rows)}; correct them, empty the cells, or write the"
            " column in other units."
        )


def _refusal(cells: Cells, column: Column, rows: Sequence[int], value: str) -> ValueError:
    between = f" between {column.low:g} and {column.high:g}"
    plain = "dates" if column.dtype.startswith("date") else "numbers"
    what = {
        "positive": "positive numbers",
        "count": "counts 0, 1, ...",
        "bounded": f"numbers{between}",
    }.get(column.type, plain)
    return ValueError(
        f"Column {column.name!r} of type {column.type} must hold {what}, got {value} in"
        f" {cells.at(rows)}; correct the cells, empty them, or give the column another type in the"
        " description."
    )


def _places(cells: Cells, column: Column) -> tuple[np.ndarray, dict[str, list[int]]]:
    """The places of words among the categories of a column."""
    place = {word: k for k, word in enumerate(column.categories)}
    values = np.full(len(words := cells.as_words()), np.nan, np.float32)
    unseen: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        if word is None:
            continue
        if word in place:
            values[row] = place[word]
        else:
            unseen.setdefault(word, []).append(row)
    return values, unseen


def moments(values: np.ndarray, column: Column) -> tuple[float, float]:
    """Location and spread of a column: the mean and the standard deviation of its numbers (N,),
    without NaN; of positive columns of their logarithm, of counts of log(1 + x). Coded columns have
    0 and 1; a constant column has spread 1.

    >>> moments(np.array([1.0, 3.0, np.nan]), Column("x"))
    (2.0, 1.0)
    """
    if column.type in CODED:
        return 0.0, 1.0
    x = values[~np.isnan(values)].astype(np.float64)
    if not len(x):
        return 0.0, 1.0
    if column.type == "positive":
        x = np.log(x)
    if column.type == "count":
        x = np.log1p(x)
    location, spread = float(x.mean()), float(x.std())
    location = location if abs(location) > SMALLEST + ROUNDING * spread else 0.0
    is_constant = spread <= max(SMALLEST, 1e-6 * abs(location)) or not math.isfinite(spread)
    return location, 1.0 if is_constant else spread


# Numbers as cells.


def decoded(values: Sequence[float], column: Column) -> list[Any]:
    """Numbers of a column as the values of cells, which `UserTable.write` writes: whole numbers,
    real numbers, decimals, words, dates, true or false, by the type of the user's cells.

    >>> decoded([1.0, 0.2], Column("x", "category", ("a", "b"), dtype="str"))
    ['b', 'a']
    >>> decoded([18262.2], Column("x", dtype="date[%d.%m.%Y]"))
    ['01.01.2020']
    >>> decoded([2.346, 0.001], Column("x", "positive", dtype="decimal[2]"))
    [Decimal('2.35'), Decimal('0.01')]
    """
    return [_cell(float(value), column) for value in values]


def _cell(value: float, column: Column) -> Any:
    if column.type in CODED:
        last = len(column.categories) - 1
        word = column.categories[min(last, max(0, round(value)))]
        digits = decimals_of(column.dtype)
        return _CASTS.get(column.dtype, str)(word) if digits is None else _decimal(word, digits)
    if column.type == "bounded":
        value = min(column.high, max(column.low, value))
    if column.dtype.startswith("date"):
        return _moment(value, column.dtype)
    if column.dtype == "Int64":
        return float(round(value))
    if column.type == "count" or column.dtype == "int64":
        return round(value)
    digits = decimals_of(column.dtype)
    return value if digits is None else _admitted(with_decimals(value, digits), digits, column)


def _admitted(value: Decimal, digits: int, column: Column) -> Decimal:
    """A rounded number, or the one beside it if only that is one of the column."""
    if column.type == "positive":
        return max(value, step_of(digits))
    if column.type == "bounded" and not column.low <= value <= column.high:
        return value + step_of(digits) * (1 if value < column.low else -1)
    return value


def _true(word: str) -> bool:
    return word.lower() == TRUE


def _whole(word: str) -> int:
    return int(float(word))


def _decimal(word: str, digits: int) -> str | Decimal:
    """The word of a category as a decimal; one that is no number stays."""
    return with_decimals(word, digits) if NUMBER.fullmatch(word) else word


_CASTS: Mapping[str, Any] = {"int64": _whole, "Int64": float, "float64": float, "bool": _true}


def _moment(value: float, dtype: str) -> str | date | datetime:
    """Days since 1970-01-01 as a date; those outside the calendar are its first or last."""
    first, last = datetime(1, 1, 2), datetime(9999, 12, 30)
    least, most = ((moment - EPOCH).days for moment in (first, last))
    moment = EPOCH + timedelta(days=min(most, max(least, value)))
    has_time = dtype == "datetime" or "%H" in dtype
    # A date is the nearest day; a time is written to the second.
    half = timedelta(seconds=0.5) if has_time else timedelta(hours=12)
    moment = (moment + half).replace(microsecond=0)
    if dtype.startswith(DATE):
        return written(moment, dtype[len(DATE) : -1])
    return moment if has_time else moment.date()
