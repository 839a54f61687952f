"""Point values that lie between a model's and the column's mean.

A filled number becomes mean + w (number - mean). The weight w, between 0 and 1, is the upper end of
one standard error above the slope of the regression of hidden validation values on what the model
says of them, both as distances to the mean of training. Where nothing foretells a column, what the
model says is noise around the mean: the slope is about 0, and w takes part of that noise away.
Where the model is right the slope is 1, and w is 1 unless the slope falls by chance more than a
standard error below, which costs less than 0.1 of a residual variance divided by the number of
samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import CountOrZero, Group, Share
from polymodal.imputation.columns import columns_of, numeric
from polymodal.imputation.fill import Filled
from polymodal.imputation.hiding import WHOLE, Pattern

FEWEST = 30  # samples with a hidden value, below which w is 1


class Shrinkage(Group):
    """How far the filled numbers of one column are moved towards its mean.

    Args:
        pattern: "entries", or "whole" if the sample lacks the modality.
        modality, column: their names.
        n: validation samples behind it.
        weight: w; 1: they stay.
        mean: of the column in training.
    """

    pattern: Pattern
    modality: str
    column: str
    n: CountOrZero
    weight: Share
    mean: float


def shrinkages_of(
    pattern: Pattern,
    modality: Modality,
    truth: Tensor,
    mask: Tensor,
    filled: Filled,
    means: Sequence[float],
    times: int = 1,
) -> list[Shrinkage]:
    """The shrinkage of every numeric column of a modality.

    Args:
        truth: (N, d).
        mask: (N, d) bool, the entries that were hidden.
        filled: what the model says of the N samples.
        means: of the columns in training, (d,).
        times: how often each sample is among the N.
    """
    columns, found = columns_of(modality), []
    for i in numeric(modality):
        hidden, mean = mask[:, i], means[i]
        said = torch.where(hidden, filled.center[:, i].double() - mean, 0.0)
        true = torch.where(hidden, truth[:, i].double() - mean, 0.0)
        samples = hidden.reshape(times, -1).any(0).sum().item()
        weight = weight_of(said, true, times) if samples >= FEWEST else 1.0
        place = {"pattern": pattern, "modality": modality.name, "column": columns[i].name}
        found.append(Shrinkage(**place, n=samples, weight=weight, mean=mean))
    return found


def weight_of(said: Tensor, true: Tensor, times: int = 1) -> float:
    """The slope of the regression of true values on what is said of them, without intercept, and
    one standard error, between 0 and 1. The error allows for variances that differ, and for copies
    of a sample.

    Args:
        said, true: (times * n,), distances to the mean, the n samples one time after another; zeros
            where nothing was hidden.

    >>> said = torch.tensor([1.0, -1.0, 1.0, -1.0])
    >>> weight_of(said, torch.tensor([0.5, 0.5, -0.5, -0.5])), weight_of(said, 2 * said)
    (0.25, 1.0)
    """
    size = said.square().sum()
    if not size > 0:
        return 1.0
    slope = (said * true).sum() / size
    gaps = ((true - slope * said) * said).reshape(times, -1).sum(0)
    upper = slope + gaps.square().sum().sqrt() / size
    return upper.clamp(0.0, 1.0).item() if upper.isfinite() else 1.0


def moved(
    filled: Filled, shrinkages: Sequence[Shrinkage], modality: Modality, whole: Tensor | None = None
) -> Filled:
    """What is known of a modality of N samples, its best single numbers moved towards the columns'
    means; of patterns that were not measured, and at the weight 1, they stay.

    Args:
        whole: (N,) bool, the samples that lack the modality; None: none of them.
    """
    own = [s for s in shrinkages if s.modality == modality.name and s.weight < 1]
    if not own:
        return filled
    center = filled.center.clone()
    places = {column.name: i for i, column in enumerate(columns_of(modality))}
    absent = torch.zeros(len(center), dtype=torch.bool) if whole is None else whole
    for s in own:
        rows, i = absent if s.pattern == WHOLE else ~absent, places[s.column]
        pulled = s.mean + s.weight * (center[rows, i].double() - s.mean)
        center[rows, i] = pulled.to(center.dtype)
    return replace(filled, center=center)
