"""Real and generated values in the features of the target's classifier, which the Frechet distance,
KID, precision and its kin share; and the jackknife by which they get their errors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polymodal.metrics.measurement import Measurement
from polymodal.metrics.places import Given

GROUPS = 10  # of the jackknife
LARGEST = 5000  # samples of a set of which all distances are computed


def real_classifier_features(m: Measurement, target: str) -> Tensor | None:
    """Features (N, F) of the real values; None if the values are the labels themselves, which have
    none.

    Raises UnavailableError if the target has no classifier.
    """
    classifier = m.classifier(target)
    if classifier.net is None:
        return None
    return m.real_features(target, "classifier", lambda x: classifier(x, m.options.precision)[0])


def classifier_features(m: Measurement, given: Given, target: str) -> tuple[Tensor, Tensor] | None:
    """Features of real values (N, F) and of generated ones (K, F), otherwise as
    `real_classifier_features`.
    """
    real = real_classifier_features(m, target)
    return None if real is None else (real, m.classify(given, target)[0])


def drawn_rows(count: int, most: int, seed: int) -> Tensor:
    """`most` of `count` rows in a random order that depends on the seed only; all, in their own
    order, if they are no more.

    >>> drawn_rows(3, 5, seed=0), len(drawn_rows(9, 5, seed=0).unique())
    (tensor([0, 1, 2]), 5)
    """
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most]


def few(m: Measurement, features: Tensor) -> Tensor:
    """At most LARGEST of the features (N, F), float64, always the same for one N."""
    rows = drawn_rows(len(features), LARGEST, m.options.seed)
    return features[rows.to(features.device)].double()


def group_of(x: Tensor, groups: int = GROUPS) -> Tensor:
    """The group of each sample of x (N, ...): i modulo the number of groups, (N,).

    Pairs (a value and the one generated for it) stay together.
    """
    return torch.arange(len(x), device=x.device) % groups


def jackknife_error(values: Tensor) -> float:
    """The standard error of a statistic whose `values` (G,) leave out one group of samples each.

    sqrt((G - 1) / G sum_g (d_g - mean d)^2), Efron and Stein (1981).
    """
    return math.sqrt((len(values) - 1) * values.double().var(correction=0).item())
