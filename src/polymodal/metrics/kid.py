"""The kernel distance (KID) of real and generated values: an unbiased squared maximum mean
discrepancy, with its standard error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from polymodal.metrics.features import GROUPS, classifier_features, few, group_of, jackknife_error
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, generated

ROWS = 1024  # rows of a kernel matrix that exist at once


class _Sums(NamedTuple):
    """Sums of k(x_i, y_j) over i of one group and j of another, (G, G); of k(x_i, x_i), (G,); sizes
    (G,) of the groups.
    """

    pairs: Tensor
    own: Tensor
    sizes: Tensor


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x.y / F + 1)^3 of features (N, F) and (M, F), (N, M): Binkowski et al. (2018), section 4.

    >>> kernel(torch.ones(1, 2), torch.ones(1, 2))
    tensor([[8.]])
    """
    return (x @ y.T / x.shape[1] + 1).pow(3)


def _sums(x: Tensor, y: Tensor, groups: int) -> _Sums:
    in_x, in_y = (one_hot(group_of(v, groups), groups).to(x) for v in (x, y))
    pairs = x.new_zeros(groups, groups)
    for i in range(0, len(x), ROWS):
        rows = slice(i, i + ROWS)
        pairs += in_x[rows].T @ (kernel(x[rows], y) @ in_y)
    own = in_x.T @ (x.square().sum(1) / x.shape[1] + 1).pow(3)
    return _Sums(pairs, own, in_x.sum(0))


def _without_each(sums: _Sums) -> tuple[Tensor, Tensor, Tensor]:
    """`pairs`, `own` and `sizes` in total, (1 + G,): of all groups, then without each of them."""
    total, block = sums.pairs.sum(), sums.pairs.diagonal()
    pairs = total - sums.pairs.sum(0) - sums.pairs.sum(1) + block
    left = [torch.cat([v.sum()[None], v.sum() - v]) for v in (sums.own, sums.sizes)]
    return torch.cat([total[None], pairs]), left[0], left[1]


def kernel_distance(real: Tensor, fake: Tensor, groups: int = GROUPS) -> tuple[float, float]:
    """The squared MMD of two sets of features under `kernel`, unbiased, and its standard error by
    the jackknife over groups of samples; float64.

    mean of k(x_i, x_j), i != j, + mean of k(y_i, y_j), i != j, - 2 mean of k(x_i, y_j): Gretton et
    al. (2012), eq. (3). It may be below 0. The error is NaN for fewer than 2 G samples, and of two
    sets of one law about sqrt(2) times too large (Efron and Stein 1981: it is never too small).

    Args:
        real, fake: (N, F) and (M, F), at least two samples each.

    Raises UnavailableError for fewer.
    """
    if min(len(real), len(fake)) < 2:
        raise UnavailableError(
            "KID needs at least two real and two generated values, got"
            f" {len(real)} and {len(fake)}."
        )
    real, fake = real.double(), fake.double()
    rr, own_r, n = _without_each(_sums(real, real, groups))
    ff, own_f, k = _without_each(_sums(fake, fake, groups))
    rf, _, _ = _without_each(_sums(real, fake, groups))
    values = (rr - own_r) / (n * (n - 1)) + (ff - own_f) / (k * (k - 1)) - 2 * rf / (n * k)
    enough = min(len(real), len(fake)) >= 2 * groups
    return values[0].item(), jackknife_error(values[1:]) if enough else math.nan


@metric(places=generated, direction="lower", unit="squared MMD", labels=True)
def kid(m: Measurement, given: Given, target: str) -> Value | None:
    """Kernel distance of real and generated values, in the classifier's features: unbiased, so that
    it does not depend on the number of samples.
    """
    features = classifier_features(m, given, target)
    if features is None:
        return None
    real, fake = (few(m, each) for each in features)
    return *kernel_distance(real, fake), len(fake)
