"""Intervals that hold: split-conformal factors on the half widths of a model's own intervals.

The interval [lower, upper] of a column at one level becomes [median - f (median - lower),
median + f (upper - median)], of positive columns in logarithms. f is the smallest number for which
ceil((n + 1) level) of n validation values lie inside (Papadopoulos et al. 2002; Lei et al. 2018):
then a new value that is exchangeable with these lies inside with probability at least `level`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Column, Modality
from polymodal.checks import CountOrZero, Group, NonNegative, typed
from polymodal.imputation.columns import columns_of, numeric
from polymodal.imputation.fill import Filled
from polymodal.imputation.hiding import ENTRIES, WHOLE, Pattern

LEVELS = (0.5, 0.8, 0.9, 0.95)
QUANTILES = (*((1 - v) / 2 for v in reversed(LEVELS)), 0.5, *((1 + v) / 2 for v in LEVELS))
ENOUGH = 100  # values of a column from which it can have factors of its own
NOISE = 2.0  # standard errors within which the common factors hold for a column
SHOWN = 2  # place of the level, 90 %, by which this is seen
FLOOR = 1e-3  # least half width, in standard deviations of the column
SMALLEST = 1e-30  # of positive values
Four = tuple[NonNegative, NonNegative, NonNegative, NonNegative]  # one for each of LEVELS
STEP = 0.5  # on each side of a count's interval


def quantiles_of(level: float) -> tuple[float, float, float]:
    """The levels of the quantiles that bound an interval, and of its median: those that `fill` is
    asked for.

    >>> quantiles_of(0.5)
    (0.25, 0.5, 0.75)
    """
    return (1 - level) / 2, 0.5, (1 + level) / 2


class Factor(Group):
    """How much wider the intervals of one column are than the model's own.

    Args:
        pattern: "entries", or "whole" if the sample lacks the modality.
        modality, column: their names.
        n: validation values behind the factors.
        pooled: whether they are those of all columns of the modality, because this one has less
            than `ENOUGH` values, or because they hold for it, too.
        factors: one for each of `LEVELS`.
        coverage: what share of the validation values of this column the model's own intervals hold,
            one for each of `LEVELS`.
        floor: the least half width, in the user's units; of positive columns in logarithms.
    """

    pattern: Pattern
    modality: str
    column: str
    n: CountOrZero
    pooled: bool
    factors: Four
    coverage: Four
    floor: NonNegative


@dataclass(frozen=True)
class Calibration:
    """The factors of all columns and patterns."""

    factors: Sequence[Factor]

    def factor(self, pattern: Pattern, modality: str, column: str) -> Factor | None:
        """The factors of a column; those of the other pattern if this one was not measured."""
        found = {
            f.pattern: f for f in self.factors if f.modality == modality and f.column == column
        }
        return found.get(pattern) or next(iter(found.values()), None)

    def records(self) -> list[dict[str, Any]]:
        """Plain mappings, for JSON."""
        return [f.model_dump() for f in self.factors]

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> Calibration:
        """The inverse of `records`. Raises ValueError for other mappings."""
        return cls(tuple(typed(list[Factor], list(records))))


def scores(x: Tensor, quantiles: Tensor, column: Column, floor: float) -> Tensor:
    """How far values lie from the median, in half widths of their intervals on the side on which
    they lie, (n,): at most 1 inside.

    Args:
        x: (n,), in the user's units.
        quantiles: (3, n), lower bound, median and upper bound.
        floor: least half width.
    """
    value, (lower, median, upper) = _scaled(x, column), _scaled(quantiles, column)
    below, above = _half_widths(lower, median, upper, column, floor)
    return (value - median).abs() / torch.where(value < median, below, above)


def stretched(quantiles: Tensor, column: Column, floor: float, factor: float) -> Tensor:
    """Lower and upper bounds (2, n) whose `scores` are `factor`, inside the column's own bounds;
    of counts whole numbers.

    Args:
        quantiles: (3, n), lower bound, median and upper bound in the user's units.
        floor: least half width.
    """
    lower, median, upper = _scaled(quantiles, column)
    below, above = _half_widths(lower, median, upper, column, floor)
    bounds = torch.stack([median - factor * below, median + factor * above])
    if column.type == "positive":
        return bounds.clamp(-math.log(1e30), math.log(1e30)).exp()
    if column.type == "bounded":
        return bounds.clamp(column.low, column.high)
    if column.type == "count":
        return torch.stack([bounds[0].ceil().clamp_min(0), bounds[1].floor().clamp_min(0)])
    return bounds


def floor_of(x: Tensor, column: Column) -> float:
    """The least half width of a column with these values (n,)."""
    spread = _scaled(x, column).std(correction=0).item() if len(x) else 0.0
    return FLOOR * spread or FLOOR


def _scaled(x: Tensor, column: Column) -> Tensor:
    """float64; logarithms of positive columns."""
    return x.double().clamp_min(SMALLEST).log() if column.type == "positive" else x.double()


def _half_widths(
    lower: Tensor, median: Tensor, upper: Tensor, column: Column, floor: float
) -> tuple[Tensor, Tensor]:
    step = STEP if column.type == "count" else 0.0
    return (median - lower + step).clamp_min(floor), (upper - median + step).clamp_min(floor)


def conformal_quantile(scores: Tensor, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores; infinite if n is too small.

    >>> conformal_quantile(torch.arange(1.0, 10.0), 0.5), conformal_quantile(torch.ones(3), 0.9)
    (5.0, inf)
    """
    place = math.ceil((len(scores) + 1) * level)
    return math.inf if place > len(scores) else scores.sort().values[place - 1].item()


def factors_of(
    pattern: Pattern, modality: Modality, truth: Tensor, mask: Tensor, quantiles: Tensor
) -> list[Factor]:
    """The factors of every numeric column of a modality.

    They are those of all columns together, which vary less, unless a column has `ENOUGH` values
    that show that it needs others. If all have too few values for a level, it is the largest score,
    and at least 1.

    Args:
        truth: (N, d).
        mask: (N, d) bool, the entries that were hidden.
        quantiles: (len(QUANTILES), N, d), the model's own.
    """
    columns = columns_of(modality)
    measured: dict[int, list[Tensor]] = {}
    floors: dict[int, float] = {}
    for i in numeric(modality):
        rows = mask[:, i]
        x = truth[rows, i]
        floors[i] = floor_of(x, columns[i])
        bounds = quantiles[:, rows, i]
        measured[i] = [
            scores(x, bounds[places_of(k)], columns[i], floors[i]) for k in range(len(LEVELS))
        ]
    if not measured:
        return []
    pool = [torch.cat([each[k] for each in measured.values()]) for k in range(len(LEVELS))]
    return [
        _factor(pattern, modality.name, columns[i].name, own, pool, floors[i])
        for i, own in measured.items()
    ]


def places_of(k: int) -> list[int]:
    """Places in QUANTILES of lower bound, median and upper bound of the k-th of LEVELS."""
    middle = len(LEVELS)
    return [middle - 1 - k, middle, middle + 1 + k]


def _factor(
    pattern: Pattern,
    modality: str,
    column: str,
    own: Sequence[Tensor],
    pool: Sequence[Tensor],
    floor: float,
) -> Factor:
    pooled = len(own[0]) < ENOUGH or _holds(own[SHOWN], pool[SHOWN])
    chosen = pool if pooled else own
    factors = [_finite(s, level) for s, level in zip(chosen, LEVELS, strict=True)]
    coverage = [(s <= 1).double().mean().item() if len(s) else 0.0 for s in own]
    n = len(chosen[0])
    return Factor(
        pattern=pattern,
        modality=modality,
        column=column,
        n=n,
        pooled=pooled,
        factors=factors,
        coverage=coverage,
        floor=floor,
    )


def _holds(own: Tensor, pool: Tensor) -> bool:
    """Whether the factor of all columns gives the scores of one column (n,) the coverage of the
    level `SHOWN`, within `NOISE` standard errors.
    """
    level = LEVELS[SHOWN]
    share = (own <= _finite(pool, level)).double().mean().item()
    return abs(share - level) < NOISE * math.sqrt(level * (1 - level) / len(own))


def _finite(scores: Tensor, level: float) -> float:
    """The conformal quantile; the largest score and at least 1 where n is too small."""
    exact = conformal_quantile(scores, level)
    return exact if exact < math.inf else max([1.0, *scores.tolist()])


def widened(
    filled: Filled,
    calibration: Calibration | None,
    level: float,
    modality: Modality,
    whole: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds (N, d) of intervals at `level`, stretched by the factors of the
    calibration, between those of two of its levels linearly; of coded columns, and without a
    calibration, the model's own.

    Args:
        filled: of `fill(..., levels=quantiles_of(level))`.
        whole: (N,) bool, the samples that lack the modality; None: none of them.

    Raises ValueError for other quantiles than three.
    """
    if len(filled.quantiles) != 3:
        raise ValueError(
            "widened needs three quantiles, of fill(..., levels=quantiles_of(level)), got"
            f" {len(filled.quantiles)}."
        )
    lower, _, upper = filled.quantiles.clone()
    if calibration is None:
        return lower, upper
    absent = torch.zeros(len(lower), dtype=torch.bool) if whole is None else whole
    columns = columns_of(modality)
    patterns: list[tuple[Pattern, Tensor]] = [(ENTRIES, ~absent), (WHOLE, absent)]
    for i, (pattern, rows) in product(numeric(modality), patterns):
        found = calibration.factor(pattern, modality.name, columns[i].name)
        if found is None or not rows.any():
            continue
        factor = float(np.interp(level, LEVELS, found.factors))
        bounds = stretched(filled.quantiles[:, rows, i], columns[i], found.floor, factor)
        lower[rows, i], upper[rows, i] = bounds.to(lower.dtype)
    return lower, upper
