"""The Frechet distance between real and generated values, in features of classifiers or of
Inception; exactly, and with its standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from polymodal.metrics.features import GROUPS, classifier_features, group_of, jackknife_error
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, pairs, targets

Moments = tuple[Tensor, Tensor]


def moments(features: Tensor) -> Moments:
    """The mean (F,) of features (N, F), and a triangular R with R^T R their covariance (divisor N -
    1), float64.

    Raises UnavailableError for fewer than two samples.
    """
    if features.dim() != 2 or len(features) < 2:
        raise UnavailableError(
            "The Frechet distance needs features (N, F) of N >= 2 samples, got"
            f" {tuple(features.shape)}."
        )
    features = features.double()
    mean = features.mean(0)
    factor = torch.linalg.qr((features - mean) / math.sqrt(len(features) - 1), mode="r").R
    return mean, factor


def distance_of_normals(real: Moments, fake: Moments) -> float:
    """The squared Frechet distance of two normals from their `moments`.

    |m - n|^2 + tr(S + T - 2 (S T)^(1/2)): Heusel et al. (2017), eq. (6). With S = A^T A and T = B^T
    B the eigenvalues of S T are the squared singular values of A B^T, so that the last trace is
    their sum: no square root of a matrix, no eigenvalue that rounding makes negative, and exact for
    covariances without full rank.
    """
    (m, a), (n, b) = real, fake
    cross = torch.linalg.svdvals(a @ b.T).sum()
    return ((m - n).square().sum() + a.square().sum() + b.square().sum() - 2 * cross).item()


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """The squared Frechet distance between normals fitted to two sets of features, float64.

    Biased upwards, for two sets of N white features (F of them) of the same law by about
    2F/N + F(F + 1)/(2N): compare sets of the same size only.

    Args:
        real, fake: (N, F) and (K, F), at least two samples each.

    Raises ValueError for other shapes.

    >>> x = torch.randn(100, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> abs(frechet_distance(x, x)) < 1e-12, round(frechet_distance(x, x + 2), 9)
    (True, 12.0)
    """
    if real.shape[1:] != fake.shape[1:]:
        raise ValueError(
            "Both sets must have the same number of features, got"
            f" {tuple(real.shape)} and {tuple(fake.shape)}."
        )
    return distance_of_normals(moments(real), moments(fake))


def frechet_with_error(real: Tensor, fake: Tensor, groups: int = GROUPS) -> tuple[float, float]:
    """`frechet_distance`, and its standard error by the jackknife over `groups` groups of samples
    that are left out in turn.

    Unlike the bootstrap it needs few distances, and the bias of the distance, which is almost the
    same in all of them, does not enter. NaN for fewer than 2 G samples.
    """
    value = frechet_distance(real, fake)
    if min(len(real), len(fake)) < 2 * groups:
        return value, math.nan

    def without(x: Tensor, group: int) -> Tensor:
        return x[group_of(x, groups) != group]

    distances = [frechet_distance(without(real, g), without(fake, g)) for g in range(groups)]
    return value, jackknife_error(torch.tensor(distances))


@cache
def inception(device: torch.device) -> Callable[[Tensor], Tensor]:
    """Images (B, 1 or 3, H, W) in [0, 1] -> Inception-v3 features (B, 2048), as FID is defined
    (Heusel et al. 2017).

    Grey is repeated to three channels. Raises UnavailableError if the extra `image` is not
    installed, as the features do for other images.
    """
    if not (find_spec("torch_fidelity") and find_spec("torchmetrics")):
        raise UnavailableError(
            "FID needs the Inception network: pip install polymodal[image], or ask for `frechet`"
            " instead."
        )
    from torchmetrics.image.fid import NoTrainInceptionV3

    net = NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"]).to(device)

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        _check_images(x)
        return net((x.expand(-1, 3, -1, -1) * 255).to(torch.uint8)).float()

    return features


def _check_images(x: Tensor) -> None:
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        raise UnavailableError(
            f"FID needs images of 1 or 3 channels, got values of {(*x.shape[1:],)}."
        )
    low, high = x.aminmax()
    if not (low >= 0 and high <= 1):
        raise UnavailableError(
            f"FID needs images with values in [0, 1], got values from {low:.4g} to {high:.4g};"
            " rescale the data."
        )


def _with_error(real: Tensor, fake: Tensor) -> Value:
    return *frechet_with_error(real, fake), len(fake)


def _in_features_of_classifier(m: Measurement, given: Given, target: str) -> Value | None:
    """None if the values are the labels themselves, which have no features."""
    features = classifier_features(m, given, target)
    return None if features is None else _with_error(*features)


@metric(places=pairs, direction="lower", unit="squared distance", labels=True)
def frechet(m: Measurement, given: Given, target: str) -> Value | None:
    """Frechet distance of real and generated values, in the classifier's features."""
    return _in_features_of_classifier(m, given, target)


@metric(places=targets, direction="lower", unit="squared distance", labels=True)
def joint_frechet(m: Measurement, given: Given, target: str) -> Value | None:
    """Frechet distance of real values and joint samples from the prior, in the classifier's
    features.
    """
    return _in_features_of_classifier(m, given, target)


@metric(places=pairs, direction="lower", unit="squared distance", default=False)
def fid(m: Measurement, given: Given, target: str) -> Value:
    """Frechet distance in Inception features, of images in [0, 1]; needs the extra `image`."""
    features = inception(m.data.device)
    real, z = m.real_features(target, "inception", features), m.latents(given)
    means = m.options.decoding.means(m.model, target, z, most=m.options.batch)
    return _with_error(real, torch.cat([features(mean.float().clamp(0, 1)) for mean in means]))
