"""The Frechet distance between two sets of features, exactly, and its standard error."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, pairs, targets

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement

GROUPS = 10


@metric(direction="lower", unit="squared distance", places=pairs, labels=True)
def frechet(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Frechet distance between real and generated values, in the features of a classifier."""
    return _distance_of(measurement.features(given, target))


@metric(direction="lower", unit="squared distance", places=targets, labels=True)
def joint_frechet(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Frechet distance between real values and joint samples from the prior, in the features of a
    classifier.
    """
    return _distance_of(measurement.features(given, target))


@metric(direction="lower", unit="squared distance", places=pairs, default=False)
def fid(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Frechet distance between real and generated images, in Inception features; needs the extra
    `image`.
    """
    return _distance_of(measurement.inception_features(given, target))


def _distance_of(features: tuple[Tensor, Tensor] | None) -> Value | None:
    """The distance between features of real and of generated values."""
    if features is None:
        return None
    real, generated = features
    return *frechet_with_error(real, generated), len(generated)


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (F,) of features (N, F), and a triangular R with R^T R their covariance (divisor N -
    1), float64.

    Raises ValueError for fewer than two samples.
    """
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(
            "The Frechet distance needs features (N, F) of N >= 2 samples, got"
            f" {tuple(features.shape)}."
        )
    features = features.double()
    mean = features.mean(0)
    factor = torch.linalg.qr((features - mean) / math.sqrt(len(features) - 1), mode="r").R
    return mean, factor


def distance(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> float:
    """The squared Frechet distance of two normals from their `moments`.

    |m - n|^2 + tr(S + T - 2 (S T)^(1/2)): Heusel et al. (2017), eq. (6). With S = A^T A and T = B^T
    B the eigenvalues of S T are the squared singular values of A B^T, so that the last trace is
    their sum: no square root of a matrix, no eigenvalue that rounding makes negative, and exact for
    covariances without full rank.
    """
    (m, a), (n, b) = first, second
    cross = torch.linalg.svdvals(a @ b.T).sum()
    return ((m - n).square().sum() + a.square().sum() + b.square().sum() - 2 * cross).item()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """The squared Frechet distance between normals fitted to two sets of features, float64.

    It is biased upwards: compare only sets of the same size. For N white features in each of two
    sets the bias is about 2 F / N (means) + F (F + 1) / 2 N (covariances).

    Args:
        real, fake: (N, F) and (K, F), at least two samples each.

    Raises: ValueError for other shapes.

    >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> abs(frechet_distance(x, x)) < 1e-12, round(frechet_distance(x, x + 2), 9)
    (True, 12.0)
    """
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            f"The features must be of one kind, got {tuple(real.shape)} and {tuple(fake.shape)}."
        )
    return distance(moments(real), moments(fake))


def frechet_with_error(real: Tensor, fake: Tensor, groups: int = GROUPS) -> tuple[float, float]:
    """`frechet_distance`, and its standard error by the jackknife over `groups` groups of samples
    that are left out in turn.

    Sample i of both sets belongs to group i modulo `groups`: pairs (a value and what was generated
    for it) stay together. The error is sqrt((G - 1) / G sum_g (d_g - mean d)^2), Efron and Stein
    (1981). Unlike the bootstrap it needs few distances, and their bias, which is almost the same in
    all of them, does not enter. NaN for fewer than 2 G samples.
    """
    value = frechet_distance(real, fake)
    if min(len(real), len(fake)) < 2 * groups:
        return value, math.nan
    without = torch.tensor(
        [
            frechet_distance(_without(real, group, groups), _without(fake, group, groups))
            for group in range(groups)
        ]
    )
    return value, math.sqrt((groups - 1) * without.var(correction=0).item())


def _without(x: Tensor, group: int, groups: int) -> Tensor:
    """The samples of x (N, F) that do not belong to one of the groups."""
    return x[torch.arange(len(x), device=x.device) % groups != group]


def inception(device: torch.device) -> Callable[[Tensor], Tensor]:
    """Images (B, 1 or 3, H, W) in [0, 1] -> Inception-v3 features (B, 2048), as FID is defined
    (Heusel et al. 2017).

    Grey is repeated to three channels. Raises ValueError where the extra `image` is not installed.
    """
    if find_spec("torch_fidelity") is None:
        raise ValueError(
            "FID needs the Inception network: pip install polymodal[image], or ask for `frechet`"
            " instead."
        )
    from torchmetrics.image.fid import NoTrainInceptionV3

    net = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"]).to(device)

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        return net((x.expand(-1, 3, -1, -1).clamp(0, 1) * 255).to(torch.uint8)).float()

    return features
