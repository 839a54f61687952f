"""Intervals that hold: split-conformal factors on the half widths of a model's own intervals; and
`Calibration`, which has these factors, temperatures of probabilities, and shrinkages of numbers.

The interval of a column at one level becomes [median - f below, median + f above], of positive
columns in logarithms. f is the smallest number for which ceil((n + 1) level) of n validation values
lie inside (Papadopoulos et al. 2002; Lei et al. 2018): then a new value that is exchangeable with
these lies inside with probability at least `level`. The half widths `below` and `above` are the
model's own, or, where that gives a clearly better interval score, nearer to their mean in the
column: a model whose widths say little of its errors would need a large factor. Intervals of
positive numbers and counts end at the largest value of training; validation values above it lie
outside whatever the factor, so that the others make up for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Column, Modality
from polymodal.checks import CountOrZero, Group, NonNegative, Share, typed
from polymodal.imputation.columns import columns_of, numeric
from polymodal.imputation.fill import Filled
from polymodal.imputation.hiding import ENTRIES, WHOLE, Pattern
from polymodal.imputation.intervals import (
    Shape,
    conformal_quantile,
    floor_of,
    half_widths,
    scaled,
    scores,
    stretched,
    top_of,
)
from polymodal.imputation.shrinkage import Shrinkage, moved
from polymodal.imputation.temperature import Temperature, tempered

LEVELS = (0.5, 0.8, 0.9, 0.95)
QUANTILES = (*((1 - v) / 2 for v in reversed(LEVELS)), 0.5, *((1 + v) / 2 for v in LEVELS))
ENOUGH = 100  # values of a column from which it can have factors of its own
FEWEST = 5  # values of a column from which a typical half width is taken
NOISE = 2.0  # standard errors within which the common factors hold for a column
SHOWN = 2  # place of the level, 90 %, by which choices are made
SHARES = (0.0, 0.5, 1.0)  # of a half width that may be the column's typical one
BETTER = 0.97  # interval score, relative to that of the model's own half widths, that is worth it
Four = tuple[NonNegative, NonNegative, NonNegative, NonNegative]  # one for each of LEVELS


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
        floor, share, typical: how half widths come from the model's, see
            `polymodal.imputation.intervals.Shape`; a typical one for each of `LEVELS`.
    """

    pattern: Pattern
    modality: str
    column: str
    n: CountOrZero
    pooled: bool
    factors: Four
    coverage: Four
    floor: NonNegative
    share: Share
    typical: Four

    def at(self, level: float) -> tuple[float, Shape]:
        """The factor and the shape at a level, between those of two of `LEVELS` linearly."""
        factor, typical = (
            float(np.interp(level, LEVELS, each)) for each in (self.factors, self.typical)
        )
        return factor, Shape(self.floor, self.share, typical)


@dataclass(frozen=True)
class Calibration:
    """What validation data say of a model: factors of the intervals of all columns and patterns,
    temperatures of the probabilities of all modalities and patterns, and how far numbers are moved
    towards their column's mean.
    """

    factors: Sequence[Factor]
    temperatures: Sequence[Temperature] = ()
    shrinkages: Sequence[Shrinkage] = ()

    def factor(self, pattern: Pattern, modality: str, column: str) -> Factor | None:
        """The factors of a column; those of the other pattern if this one was not measured."""
        found = {
            f.pattern: f for f in self.factors if f.modality == modality and f.column == column
        }
        return found.get(pattern) or next(iter(found.values()), None)

    def temperature(self, pattern: Pattern, modality: str) -> float:
        """That of a modality; of the other pattern if this one was not measured; else 1."""
        found = {t.pattern: t.value for t in self.temperatures if t.modality == modality}
        return found.get(pattern) or next(iter(found.values()), 1.0)

    def tempered(self, probabilities: Tensor, modality: str, whole: Tensor | None) -> Tensor:
        """Probabilities (N, ..., K) at the temperature of the pattern of each of N samples.

        Args:
            whole: (N,) bool, the samples that lack the modality; None: none of them.
        """
        entries, lacking = (
            tempered(probabilities, self.temperature(p, modality)) for p in (ENTRIES, WHOLE)
        )
        if whole is None:
            return entries
        return torch.where(whole.reshape(-1, *[1] * (entries.dim() - 1)), lacking, entries)

    def moved(self, filled: Filled, modality: Modality, whole: Tensor | None = None) -> Filled:
        """What is known of a modality, its numbers moved towards the means, see `moved`."""
        return moved(filled, self.shrinkages, modality, whole)

    def records(self) -> dict[str, list[dict[str, Any]]]:
        """Plain mappings, for JSON."""
        return {
            "factors": [f.model_dump() for f in self.factors],
            "temperatures": [t.model_dump() for t in self.temperatures],
            "shrinkages": [s.model_dump() for s in self.shrinkages],
        }

    @classmethod
    def from_records(cls, records: Mapping[str, Any] | Sequence[Any]) -> Calibration:
        """The inverse of `records`; a sequence holds factors only. Raises ValueError for other
        mappings.
        """
        kept = records if isinstance(records, Mapping) else {"factors": records}
        return cls(
            tuple(typed(list[Factor], list(kept.get("factors", ())))),
            tuple(typed(list[Temperature], list(kept.get("temperatures", ())))),
            tuple(typed(list[Shrinkage], list(kept.get("shrinkages", ())))),
        )

    def joined(self, other: Calibration) -> Calibration:
        """This one and another, of other patterns."""
        return Calibration(
            (*self.factors, *other.factors),
            (*self.temperatures, *other.temperatures),
            (*self.shrinkages, *other.shrinkages),
        )


def places_of(k: int) -> list[int]:
    """Places in QUANTILES of lower bound, median and upper bound of the k-th of LEVELS."""
    middle = len(LEVELS)
    return [middle - 1 - k, middle, middle + 1 + k]


@dataclass(frozen=True)
class _Column:
    """The validation values of one column.

    Args:
        column: which.
        x: (n,).
        quantiles: (len(QUANTILES), n), the model's own.
    """

    column: Column
    x: Tensor
    quantiles: Tensor

    @cached_property
    def floor(self) -> float:
        return floor_of(self.x, self.column)

    @cached_property
    def typical(self) -> list[float]:
        """The mean half width at each of LEVELS; 0 without values."""
        means = []
        for k in range(len(LEVELS)):
            widths = half_widths(self.quantiles[places_of(k)], self.column, Shape(self.floor))
            means.append(torch.cat(widths).mean().item() if len(self.x) else 0.0)
        return means

    def shape(self, k: int, share: float) -> Shape:
        return Shape(self.floor, share, self.typical[k])

    def scores(self, k: int, share: float) -> Tensor:
        """Of the k-th of LEVELS, (n,); infinite of values that no factor reaches."""
        bounds = self.quantiles[places_of(k)]
        found = scores(self.x, bounds, self.column, self.shape(k, share))
        return found.masked_fill(self.x > top_of(self.column), math.inf)

    def is_inside(self, k: int) -> Tensor:
        """Whether the values lie in the model's own intervals, (n,)."""
        bounds = self.quantiles[places_of(k)]
        return scores(self.x, bounds, self.column, Shape(self.floor)) <= 1

    def interval_score(self, factor: float, share: float) -> float:
        """The sum over the values of the interval score at the level SHOWN, in floors: width, and
        2 / alpha times the distance of a value outside (Gneiting and Raftery 2007, eq. 43).
        """
        quantiles = self.quantiles[places_of(SHOWN)]
        bounds = stretched(quantiles, self.column, factor, self.shape(SHOWN, share))
        low, high, x = (scaled(v, self.column) for v in (*bounds, self.x))
        outside = torch.maximum(low - x, x - high).clamp_min(0)
        return (high - low + 2 / (1 - LEVELS[SHOWN]) * outside).sum().item() / self.floor


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
    values = [
        _Column(columns[i], truth[mask[:, i], i], quantiles[:, mask[:, i], i])
        for i in numeric(modality)
    ]
    if not any(len(each.x) for each in values):
        return []
    share = _share(values)
    pool = [_pooled(values, k, share) for k in range(len(LEVELS))]
    return [_factor(pattern, modality.name, each, pool, share) for each in values]


def _pooled(values: Sequence[_Column], k: int, share: float) -> Tensor:
    return torch.cat([each.scores(k, share) for each in values])


def _share(values: Sequence[_Column]) -> float:
    """That of SHARES with the best interval score at the level SHOWN; 0 unless it is clearly better
    than with the model's own half widths.
    """
    total = {}
    for share in SHARES:
        factor = _finite(_pooled(values, SHOWN, share), LEVELS[SHOWN])
        total[share] = math.fsum(each.interval_score(factor, share) for each in values)
    best = min(total, key=lambda share: total[share])
    return best if total[best] < BETTER * total[0.0] else 0.0


def _factor(
    pattern: Pattern, modality: str, values: _Column, pool: Sequence[Tensor], share: float
) -> Factor:
    share = share if len(values.x) >= FEWEST else 0.0
    own = [values.scores(k, share) for k in range(len(LEVELS))]
    pooled = len(values.x) < ENOUGH or _holds(own[SHOWN], pool[SHOWN])
    chosen = pool if pooled else own
    plain = [values.is_inside(k) for k in range(len(LEVELS))]
    return Factor(
        pattern=pattern,
        modality=modality,
        column=values.column.name,
        n=len(chosen[0]),
        pooled=pooled,
        factors=[_finite(s, level) for s, level in zip(chosen, LEVELS, strict=True)],
        coverage=[inside.double().mean().item() if len(inside) else 0.0 for inside in plain],
        floor=values.floor,
        share=share,
        typical=values.typical,
    )


def _holds(own: Tensor, pool: Tensor) -> bool:
    """Whether the factor of all columns gives the scores of one column (n,) the coverage of the
    level `SHOWN`, within `NOISE` standard errors.
    """
    level = LEVELS[SHOWN]
    share = (own <= _finite(pool, level)).double().mean().item()
    return abs(share - level) < NOISE * math.sqrt(level * (1 - level) / len(own))


def _finite(scores: Tensor, level: float) -> float:
    """The conformal quantile; the largest finite score and at least 1 where n is too small."""
    exact = conformal_quantile(scores, level)
    return exact if exact < math.inf else max([1.0, *scores[scores.isfinite()].tolist()])


def held(
    filled: Filled,
    calibration: Calibration | None,
    modality: Modality,
    whole: Tensor | None = None,
) -> dict[int, Tensor]:
    """{place of a coded column: its probabilities (N, K), tempered by the calibration}.

    Args:
        whole: (N,) bool, the samples that lack the modality; None: none of them.
    """
    if calibration is None:
        return filled.probabilities
    known = filled.probabilities.items()
    return {i: calibration.tempered(share, modality.name, whole) for i, share in known}


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
        bounds = stretched(filled.quantiles[:, rows, i], columns[i], *found.at(level))
        lower[rows, i], upper[rows, i] = bounds.to(lower.dtype)
    return lower, upper
