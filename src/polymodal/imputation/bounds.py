"""Intervals of what was filled, a row for each cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from polymodal.batch import Column, Modality
from polymodal.data.tables import decoded
from polymodal.imputation.columns import columns_of
from polymodal.imputation.completion import Completion
from polymodal.imputation.conformal import Calibration


class Bound(NamedTuple):
    """What is known of one filled cell.

    Args:
        row: counted from 0.
        column: its name.
        value: what was filled in, as the cells of the column are.
        lower, upper: of numbers and dates, between which the value lies with the probability of the
            interval; None for categories.
        probability: of a category; None for numbers and dates.
    """

    row: int
    column: str
    value: Any
    lower: Any
    upper: Any
    probability: float | None


def bounds_of(
    modality: Modality,
    completion: Completion,
    calibration: Calibration | None,
    holes: Tensor,
    prefix: str = "",
) -> Iterator[Bound]:
    """The bounds of the entries of a table or vector that were filled, column by column.

    Args:
        calibration: of intervals and probabilities; None: the model's own are written.
        holes: (N, d) bool, the cells of the whole table that are filled.
        prefix: of the columns' names.
    """
    rows, filled = completion.rows, completion.filled[modality.name]
    bounds = completion.bounds(modality, calibration)
    probabilities = completion.probabilities(modality, calibration)
    for k, column in enumerate(columns_of(modality)):
        at = holes[rows, k].nonzero().squeeze(1)
        places = rows[at].tolist()
        values = decoded(filled.center[at, k].tolist(), column)
        lower, upper, share = _of_column(
            column, filled.center[at, k], bounds[:, at, k], probabilities.get(k), at
        )
        name = prefix + column.name
        for row in zip(places, values, lower, upper, share, strict=True):
            yield Bound(row[0], name, *row[1:])


def _of_column(
    column: Column, center: Tensor, bounds: Tensor, probabilities: Tensor | None, at: Tensor
) -> Sequence[Sequence[Any]]:
    """Lower and upper bounds of the cells `at` of a column, and probabilities.

    Args:
        center, bounds: (n,) and (2, n), of these cells.
        probabilities: (R, K) of a coded column.
    """
    none = [None] * len(at)
    if probabilities is not None:
        shares = probabilities[at]
        place = center.round().long().clamp(0, shares.shape[1] - 1)
        return none, none, shares.gather(1, place[:, None]).squeeze(1).tolist()
    low, high = (decoded(q.tolist(), column) for q in bounds)
    return low, high, none
