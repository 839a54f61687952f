"""Rows of a table whose columns have types, names and units of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from torch import Tensor

from polymodal.batch import CODED, Column, Modality, escaped
from polymodal.data.kinds.draws import draws_as_csv
from polymodal.data.kinds.kind import Kind, Shape, register
from polymodal.data.kinds.lettering import width_of, written

LINES, LONGEST, DARK = 14, 28, 0  # lines of a picture, letters of a line, grey of its ink
DIGITS = 6  # of numbers in tables
EPOCH = date(1970, 1, 1)
HOLE = "?"


@register
class Table(Kind):
    """Rows (d,) in the user's units: numbers, counts, and places of categories; NaN in holes."""

    name = "table"
    likelihood = "table"

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 1

    def network(self, modality: Modality) -> str:
        return "table"

    def are_shares(self, modality: Modality) -> bool:
        return False

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Rows as small pictures of words: `column value`, one below the other."""
        rows = [line_of_words(row, modality.columns) for row in x.detach().cpu().double().tolist()]
        lines = [[(line, DARK) for line in row[:LINES]] for row in rows]
        width = width_of([line for row in rows for line in row[:LINES]])
        return written(lines, width, min(LINES, len(modality.columns)))

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """`<name>.csv`, the name `escaped`: all draws, in the user's units and words."""

        def cells(x: Tensor) -> list[list[str]]:
            rows = x.detach().cpu().double().tolist()
            return [
                [in_words(v, c) for v, c in zip(row, modality.columns, strict=True)] for row in rows
            ]

        names = [column.name for column in modality.columns]
        return {f"{escaped(modality.name)}.csv": draws_as_csv(draws, names, cells)}


def line_of_words(row: Sequence[float], columns: Sequence[Column]) -> list[str]:
    """`column value` for each column, at most LONGEST letters."""
    lines = []
    for value, column in zip(row, columns, strict=True):
        word = in_words(value, column, 3)
        lines.append(f"{column.name[: max(1, LONGEST - len(word) - 1)]} {word}")
    return lines


def in_words(value: float, column: Column, digits: int = DIGITS) -> str:
    """A cell as the user's table writes it; a hole is "?".

    >>> in_words(1.0, Column("a", "category", ("x", "y"))), in_words(2.5, Column("b"))
    ('y', '2.5')
    >>> in_words(18993.2, Column("c", dtype="datetime64[ns]")), in_words(1.7, Column("d", "count"))
    ('2022-01-01', '2')
    """
    if math.isnan(value):
        return HOLE
    if column.type in CODED:
        return column.categories[min(max(round(value), 0), len(column.categories) - 1)]
    if column.dtype.startswith("datetime"):
        return (EPOCH + timedelta(days=round(value))).isoformat()
    if column.type == "count" or "int" in column.dtype.lower():
        return str(round(value))
    return f"{value:.{digits}g}"
