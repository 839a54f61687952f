"""Tables: columns of several types, whose cells may be empty."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from polymodal.batch import Column, Modality, escaped
from polymodal.checks.files import regular
from polymodal.data.kinds.draws import draws_as_csv
from polymodal.data.kinds.kind import Kind, Shape, register
from polymodal.data.kinds.lettering import width_of, written
from polymodal.data.kinds.named_values import LINES, WIDEST
from polymodal.data.tables.coding import decoded
from polymodal.data.tables.delimited import digits
from polymodal.data.tables.reading import is_table, read_table
from polymodal.data.tables.values import values_of

INK, PALE = 20, 150  # of cells, and of empty ones
LONGEST = 28  # characters of a line in a picture


@register
class Table(Kind):
    """A row (d,) of a table, in the user's units; of coded columns, places in their categories. NaN
    is an empty cell.
    """

    name = "table"
    likelihood = "table"
    asked = "cells"

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 1

    def network(self, modality: Modality) -> str:
        return "table"

    def are_shares(self, modality: Modality) -> bool:
        return False

    def read(self, file: Path, modality: Modality) -> Tensor:
        """The rows of a table with columns of these names, or of an array."""
        if not is_table(file):
            return super().read(file, modality)
        values, notes = values_of(read_table(regular(file)), modality.columns)
        if values.isnan().all():
            raise ValueError(" ".join(notes) or f"All cells of {file} are empty.")
        return values

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Rows as small pictures of words: the names of columns and the cells below one another."""
        columns = modality.columns[:LINES]
        rows = [_words(row, modality) for row in x.detach().cpu().double().tolist()]
        lines = [[_line(c, word) for c, word in zip(columns, row, strict=False)] for row in rows]
        widest = [_line(c, max((WIDEST, *c.categories), key=len))[0] for c in columns]
        if (more := len(modality.columns) - len(columns)) > 0:
            lines = [[*each, (f"and {more} more", PALE)] for each in lines]
        return written(lines, width_of(widest), max(map(len, lines)))

    def encode(self, x: Tensor, modality: Modality) -> tuple[str, bytes]:
        """A .csv file of one row."""
        content = io.StringIO()
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow([column.name for column in modality.columns])
        writer.writerow(_words(x.detach().cpu().double().tolist(), modality))
        return ".csv", content.getvalue().encode()

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """`<name>.csv`, the name `escaped`: sample, draw, and a column for each of the table's."""
        names = [column.name for column in modality.columns]

        def cells(sample: Tensor) -> list[list[str]]:
            return [_words(row, modality) for row in sample.detach().cpu().double().tolist()]

        return {f"{escaped(modality.name)}.csv": draws_as_csv(draws, names, cells)}


def _words(row: Sequence[float], modality: Modality) -> list[str]:
    """The cells of a row as text, "" where empty."""
    return [_word(v, column) for v, column in zip(row, modality.columns, strict=True)]


def _word(value: float, column: Column) -> str:
    cell: Any = "" if value != value else decoded([value], column)[0]
    return digits(cell)


def _line(column: Column, word: str) -> tuple[str, int]:
    """A line of a picture and how dark it is; a long name is cut, not the cell behind it."""
    cell = (word or "-")[: LONGEST - 2]
    return f"{column.name[: LONGEST - 1 - len(cell)]} {cell}", PALE if word == "" else INK
