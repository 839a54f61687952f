"""Draws as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

Cells = Callable[[Tensor], Iterable[Sequence[Any]]]


def draws_as_csv(draws: Tensor, columns: Sequence[str], cells: Cells) -> bytes:
    """A table of draws (n, B, ...), a row for each: the numbers of the sample and the draw, counted
    from 0, and its cells.

    Args:
        cells: the draws of one sample (n, ...) -> the cells of each.

    >>> import torch
    >>> draws_as_csv(torch.tensor([[1.0, 2.0]]), ["x"], lambda x: [[float(v)] for v in x])
    b'sample,draw,x\\n0,0,1.0\\n1,0,2.0\\n'
    """
    content = io.StringIO()
    table = csv.writer(content, lineterminator="\n")
    table.writerow(["sample", "draw", *columns])
    for i, sample in enumerate(draws.movedim(1, 0)):
        table.writerows([i, k, *row] for k, row in enumerate(cells(sample)))
    return content.getvalue().encode()
