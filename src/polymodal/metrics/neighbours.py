"""Quality and diversity of generated values apart: precision, recall, density and coverage, from
the nearest neighbours of features.

Kynkaanniemi et al. (2019), eq. (1) and (2); Naeem et al. (2020), eq. (3) and (4), each with k = 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.metrics.features import classifier_features, few
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, generated
from polymodal.metrics.statistics import mean_of

K = 5  # neighbours
ROWS = 1024  # rows of a matrix of distances that exist at once
SAME = 1e-6  # distances below this share of the features' spread are those of equal values


class Neighbourhoods(NamedTuple):
    """For each generated value (M,) or real one (N,), float64.

    Args:
        precision: (M,), 1 if it is in the ball of some real value: up to that one's k-th nearest
            real neighbour.
        density: (M,), in how many of these balls it is, over k.
        recall: (N,), 1 if it is in the ball of some generated value.
        coverage: (N,), 1 if its own ball holds a generated value.
    """

    precision: Tensor
    density: Tensor
    recall: Tensor
    coverage: Tensor


def distances(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """|x_i - y_j| for x (N, F) and y (M, F): slices of N rows with their distances (n, M).

    Raises UnavailableError for values that are not finite, which would be as near as anything.
    """
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise UnavailableError("Distances need finite values; some features are not.")
    center = y.mean(0)  # of all: the product of matrices behind the distances rounds off
    x, y = x - center, y - center
    for i in range(0, len(x), ROWS):
        rows = slice(i, i + ROWS)
        yield rows, torch.cdist(x[rows], y)


def size_of(x: Tensor, among: Tensor) -> Tensor:
    """|x_i - c| for x (N, F), with the mean c of `among` (M, F): (N,)."""
    return (x - among.mean(0)).norm(dim=1)


def radii(x: Tensor, k: int = K) -> Tensor:
    """The distance of each x (N, F) to the k-th nearest of the others, (N,).

    Raises UnavailableError for k samples or fewer, and values that are not finite.
    """
    if len(x) <= k:
        raise UnavailableError(
            f"Neighbourhoods need more than {k} real and {k} generated values, got {len(x)}."
        )
    return torch.cat([d.kthvalue(k + 1, dim=1).values for _, d in distances(x, x)])


def real_radii(x: Tensor, k: int = K) -> Tensor:
    """`radii` of real values. Raises UnavailableError also if they are 0 for most."""
    found = radii(x, k)
    if found.median() <= SAME * size_of(x, x).median():
        raise UnavailableError(
            f"Most values have more than {k} copies, so that their neighbourhoods are points."
        )
    return found


def neighbourhoods(
    real: Tensor, fake: Tensor, k: int = K, around_real: Tensor | None = None
) -> Neighbourhoods:
    """Who is in whose ball, of real (N, F) and generated (M, F) features.

    Args:
        around_real: `real_radii(real, k)`, if they are known.

    Raises UnavailableError as `real_radii`. Generated values may all be the same one.
    """
    around_real = real_radii(real, k) if around_real is None else around_real
    around_fake = radii(fake, k)
    inside, recalled = [], torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = recalled.clone()
    for rows, distance in distances(fake, real):
        in_real = distance < around_real
        inside.append(in_real.sum(1))
        covered |= in_real.any(0)
        recalled |= (distance < around_fake[rows, None]).any(0)
    count = torch.cat(inside).double()
    return Neighbourhoods((count > 0).double(), count / k, recalled.double(), covered.double())


def _measured(m: Measurement, given: Given, target: str) -> Neighbourhoods | None:
    """Kept for the four metrics; None if the values are the labels themselves."""
    features = classifier_features(m, given, target)
    if features is None:
        return None
    real = few(m, features[0])
    around = m.cached(("radii", target), lambda: real_radii(real))
    return m.cached(
        ("neighbourhoods", given, target),
        lambda: neighbourhoods(real, few(m, features[1]), around_real=around),
    )


def _mean(m: Measurement, given: Given, target: str, what: str) -> Value | None:
    measured = _measured(m, given, target)
    return None if measured is None else mean_of(getattr(measured, what))


@metric(places=generated, direction="higher", unit="share", labels=True)
def precision(m: Measurement, given: Given, target: str) -> Value | None:
    """Quality: share of generated values that look like some real one, in the classifier's
    features.
    """
    return _mean(m, given, target, "precision")


@metric(places=generated, direction="higher", unit="share", labels=True)
def recall(m: Measurement, given: Given, target: str) -> Value | None:
    """Diversity: share of real values that look like some generated one, in the classifier's
    features.
    """
    return _mean(m, given, target, "recall")


@metric(places=generated, direction="higher", unit="ratio", labels=True)
def density(m: Measurement, given: Given, target: str) -> Value | None:
    """Quality that few outliers do not raise: real neighbourhoods that hold a generated value, over
    those that hold a real one.
    """
    return _mean(m, given, target, "density")


@metric(places=generated, direction="higher", unit="share", labels=True)
def coverage(m: Measurement, given: Given, target: str) -> Value | None:
    """Diversity that few outliers do not raise: share of real neighbourhoods that hold a generated
    value.
    """
    return _mean(m, given, target, "coverage")
