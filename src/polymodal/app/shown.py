"""Values of a modality as people look at them: pictures, texts, or cells in the user's units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from polymodal.app.inputs import SWITCH, Input, is_switch
from polymodal.batch import CODED, Column
from polymodal.data.kinds import kind_of, mosaic, png
from polymodal.data.tables.coding import decoded
from polymodal.data.tables.delimited import digits
from polymodal.data.words import texts_of
from polymodal.imputation.columns import columns_of

DIGITS = 4  # of a real number on the page
LONGEST = 1e12  # size from which numbers are written with an exponent


@dataclass(frozen=True)
class Shown:
    """n values of one modality; of the three forms one is not empty.

    Args:
        pictures: PNG files, and their size (height, width) in pixels.
        texts: one for each value.
        columns, cells: names, and words for each value; "" in holes.
    """

    pictures: Sequence[bytes] = ()
    size: tuple[int, int] = (0, 0)
    texts: Sequence[str] = ()
    columns: Sequence[str] = ()
    cells: Sequence[Sequence[str]] = ()

    def __len__(self) -> int:
        return len(self.pictures or self.texts or self.cells)


def shown(x: Tensor, asked: Input, span: tuple[float, float] | None = None) -> Shown:
    """Values (n, *shape) as people look at them.

    Args:
        span: the values that are black and white; None: by `Kind.span` of x.
    """
    m = asked.modality
    if asked.form == "text":
        return Shown(texts=texts_of(x, m))
    if asked.form == "cells":
        rows = x.detach().cpu().double().tolist()
        if asked.is_choice:
            return Shown(columns=asked.classes, cells=[[f"{v:.2f}" for v in row] for row in rows])
        columns = columns_of(m)
        words = [[word_of(v, c) for v, c in zip(row, columns, strict=True)] for row in rows]
        return Shown(columns=[c.name for c in columns], cells=words)
    kind = kind_of(m)
    images = kind.show(x, m, kind.span(x, m) if span is None else span)
    pixels = [mosaic([image[None]]) for image in images]
    return Shown([png(p) for p in pixels], pixels[0].shape[:2])


def word_of(value: float, column: Column) -> str:
    """A number as a word in the user's units; "" for NaN, and a probability for a mean of zeros
    and ones.

    >>> word_of(1.0, Column("x", "category", ("a", "b"))), word_of(1234.567, Column("x"))
    ('b', '1235')
    >>> word_of(math.nan, Column("x"))
    ''
    """
    if math.isnan(value):
        return ""
    if column.type in CODED and value != round(value):
        return f"{value:.2f}"
    if is_switch(column):
        return SWITCH[str(round(value))]
    cell = decoded([value], column)[0]
    return short(cell) if isinstance(cell, float) else digits(cell)


def short(value: float) -> str:
    """A number with four significant digits, and all digits before the point.

    >>> short(1234567.0), short(0.123456), short(-2.5)
    ('1234567', '0.1235', '-2.5')
    """
    if 10**DIGITS <= abs(value) < LONGEST:
        return str(round(value))
    return digits(float(f"{value:.{DIGITS}g}"))
