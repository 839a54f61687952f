"""Decimals: numbers that all have the same number of digits behind the point, as prices have."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Context, Decimal

FRACTION = re.compile(r"[-+]?\d*[.,](\d+)")
DTYPE = re.compile(r"decimal\[(\d+)\]")  # of the cells of a column
MOST = 6  # digits behind the point in text; more are those of a measurement or of a program
EXACT = Context(prec=200)


def decimal_dtype(digits: int) -> str:
    """The type of cells with so many digits behind the point."""
    return f"decimal[{digits}]"


def decimals_of(dtype: str) -> int | None:
    """How many digits cells of a type have behind the point; None: that is open.

    >>> decimals_of("decimal[2]"), decimals_of("float64")
    (2, None)
    """
    found = DTYPE.fullmatch(dtype)
    return None if found is None else int(found[1])


def decimals_in(words: Collection[str]) -> int | None:
    """How many digits all numbers have behind the point or comma; None if they differ, if there is
    none, and if there are more than `MOST`.

    >>> decimals_in(["12.50", "-3.00"]), decimals_in(["12.5", "3.25"])
    (2, None)
    """
    found = [FRACTION.fullmatch(word) for word in words]
    digits = {None if each is None else len(each[1]) for each in found}
    only = digits.pop() if len(digits) == 1 else None
    return only if only is not None and only <= MOST else None


def with_decimals(value: float | int | str | Decimal, digits: int) -> Decimal:
    """A number with so many digits behind the point; fewer than 0: in steps of 10, 100, ...

    >>> with_decimals(2.346, 2), with_decimals(-0.001, 2), with_decimals(1234, -2)
    (Decimal('2.35'), Decimal('0.00'), Decimal('1.2E+3'))
    """
    exact = Decimal(value).quantize(step_of(digits), context=EXACT)
    return abs(exact) if exact.is_zero() else exact


def step_of(digits: int) -> Decimal:
    """The step between numbers with so many digits behind the point."""
    return Decimal(1).scaleb(-digits)
