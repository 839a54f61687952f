"""Intervals around a median, how far a value lies from it in half widths, and how they stretch."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.batch import LOGARITHMIC, Column

FLOOR = 1e-3  # least half width, in standard deviations of the column
SMALLEST = 1e-30  # of positive values
STEP = 0.5  # on each side of a count's interval


class Shape(NamedTuple):
    """How the half widths that a factor stretches come from those of a model.

    Args:
        floor: the least one; of positive columns in logarithms, like all of them.
        share: of a half width that is the typical one instead of the model's, from 0 to 1.
        typical: half width of the column.
    """

    floor: float = 0.0
    share: float = 0.0
    typical: float = 0.0


def half_widths(quantiles: Tensor, column: Column, shape: Shape = Shape()) -> tuple[Tensor, Tensor]:
    """Below and above the median, each (n,), of positive columns in logarithms.

    Args:
        quantiles: (3, n), lower bound, median and upper bound in the user's units.
    """
    lower, median, upper = scaled(quantiles, column)
    step = STEP if column.type == "count" else 0.0
    own = [(width + step).clamp_min(shape.floor) for width in (median - lower, upper - median)]
    below, above = ((1 - shape.share) * w + shape.share * shape.typical for w in own)
    return below, above


def scores(x: Tensor, quantiles: Tensor, column: Column, shape: Shape = Shape()) -> Tensor:
    """How far values lie from the median, in half widths of their intervals on the side on which
    they lie, (n,): of the model's own intervals at most 1 inside.

    Args:
        x: (n,), in the user's units.
        quantiles: (3, n), lower bound, median and upper bound.
    """
    value, median = scaled(x, column), scaled(quantiles[1], column)
    below, above = half_widths(quantiles, column, shape)
    distance = (value - median).abs()
    return torch.where(distance == 0, 0, distance / torch.where(value < median, below, above))


def stretched(quantiles: Tensor, column: Column, factor: float, shape: Shape = Shape()) -> Tensor:
    """Lower and upper bounds (2, n) whose `scores` are `factor`, inside the column's own bounds and
    below its `top_of`; of counts whole numbers.

    Args:
        quantiles: (3, n), lower bound, median and upper bound in the user's units.
    """
    median = scaled(quantiles[1], column)
    below, above = half_widths(quantiles, column, shape)
    bounds = torch.stack([median - factor * below, median + factor * above])
    if column.type == "positive":
        return bounds.clamp(-math.log(1e30), math.log(1e30)).exp().clamp_max(top_of(column))
    if column.type == "bounded":
        return bounds.clamp(column.low, column.high)
    if column.type == "count":
        whole = torch.stack([bounds[0].ceil(), bounds[1].floor()])
        return whole.clamp(0, top_of(column))
    return bounds


def top_of(column: Column) -> float:
    """The largest value of training of positive numbers and counts: of n + 1 values that are
    exchangeable the last lies above all others with probability 1 / (n + 1) at most. Infinite of
    other columns.
    """
    if column.largest is None or column.type not in LOGARITHMIC:
        return math.inf
    return column.largest


def floor_of(x: Tensor, column: Column) -> float:
    """The least half width of a column with these values (n,)."""
    spread = scaled(x, column).std(correction=0).item() if len(x) else 0.0
    return FLOOR * spread or FLOOR


def scaled(x: Tensor, column: Column) -> Tensor:
    """Values as float64; logarithms of positive columns."""
    return x.double().clamp_min(SMALLEST).log() if column.type == "positive" else x.double()


def conformal_quantile(scores: Tensor, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores; infinite if n is too small.

    >>> conformal_quantile(torch.arange(1.0, 10.0), 0.5), conformal_quantile(torch.ones(3), 0.9)
    (5.0, inf)
    """
    place = math.ceil((len(scores) + 1) * level)
    return math.inf if place > len(scores) else scores.sort().values[place - 1].item()
