"""Values of a modality as people look at them: pictures, texts, or cells in the user's units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from polymodal.app.inputs import Input
from polymodal.batch import CODED, Column
from polymodal.data.kinds import kind_of, mosaic, png
from polymodal.data.tables.coding import decoded
from polymodal.data.tables.delimited import digits
from polymodal.data.words import texts_of
from polymodal.imputation.columns import columns_of

DIGITS = 4  # of a real number on the page


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
        columns = _columns(asked)
        rows = [words_of(row, columns) for row in x.detach().cpu().double().tolist()]
        return Shown(columns=[c.name for c in columns], cells=rows)
    kind = kind_of(m)
    images = kind.show(x, m, kind.span(x, m) if span is None else span)
    pixels = [mosaic([image[None]]) for image in images]
    return Shown([png(p) for p in pixels], pixels[0].shape[:2])


def _columns(asked: Input) -> Sequence[Column]:
    """The columns of a row; of a choice, the share of each class."""
    if not asked.is_choice:
        return columns_of(asked.modality)
    names = asked.modality.names or [str(k) for k in range(asked.modality.shape[0])]
    return [Column(name, "bounded") for name in names]


def words_of(row: Sequence[float], columns: Sequence[Column]) -> list[str]:
    """A row of numbers as words, "" in holes."""
    return [word_of(value, column) for value, column in zip(row, columns, strict=True)]


def word_of(value: float, column: Column) -> str:
    """A number as a word in the user's units; "" for NaN, and a probability for a mean of zeros
    and ones.

    >>> word_of(1.0, Column("x", "category", ("a", "b"))), word_of(1234.567, Column("x"))
    ('b', '1235')
    """
    if math.isnan(value):
        return ""
    if column.type in CODED and value != round(value):
        return f"{value:.2f}"
    cell = decoded([value], column)[0]
    return short(cell) if isinstance(cell, float) else digits(cell)


def short(value: float) -> str:
    """A number with four significant digits, and all digits before the point.

    >>> short(1234567.0), short(0.123456), short(-2.5)
    ('1234567', '0.1235', '-2.5')
    """
    if abs(value) >= 10**DIGITS and math.isfinite(value):
        return digits(float(round(value)))
    return digits(float(f"{value:.{DIGITS}g}"))
