"""Whether q(z|x_S) is the posterior of the model itself: simulation-based calibration, and the
coverage of random balls.

Draws z ~ p(z) and x ~ p(x|z), and asks where z lies among draws of q(z|x_S): its rank in every
dimension (Talts et al. 2018), and how many draws lie nearer to a random point than z does (TARP,
Lemos et al. 2023, algorithm 2). Both are uniform if q(z|x_S) = p(z|x_S).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, subsets
from polymodal.metrics.statistics import mean_of
from polymodal.model import MultimodalVAE

REPEATS = 200  # of what chance makes of a deviation


class Simulated(NamedTuple):
    """z (N, D) ~ p(z), x ~ p(x|z) with a value of each modality for each z, and points (N, D) ~
    p(z) that have nothing to do with them.
    """

    z: Tensor
    x: Batch
    points: Tensor


class Calibration(NamedTuple):
    """Uniform on [0, 1] if posteriors are exact, float64.

    Args:
        ranks: (N, D), the share of draws below the true z in each dimension.
        nearer: (N,), the share of draws that are nearer to a random point than the true z is.
    """

    ranks: Tensor
    nearer: Tensor


@torch.no_grad()
def simulated(model: MultimodalVAE, count: int, names: Sequence[str]) -> Simulated:
    """`count` joint samples of the model, with values of the modalities `names` drawn from
    p(x_m|z).
    """
    z, points = (model.latents(None, count).squeeze(1) for _ in range(2))
    x = model.decode(z.unsqueeze(0), names, mean=False)
    return Simulated(z, Batch({m: v[0] for m, v in x.items()}), points)


def ranks(z: Tensor, draws: Tensor) -> Tensor:
    """How many of the draws (L, N, D) lie below z (N, D): (N, D) whole numbers from 0 to L.

    >>> ranks(torch.zeros(1, 1), torch.tensor([[[-1.0]], [[-2.0]], [[3.0]]]))
    tensor([[2]])
    """
    return (draws < z).sum(0)


def nearer(z: Tensor, draws: Tensor, points: Tensor) -> Tensor:
    """How many of the draws (L, N, D) are nearer to the points (N, D) than z (N, D) is: (N,)."""
    return ((draws - points).norm(dim=-1) < (z - points).norm(dim=-1)).sum(0)


def calibration(
    model: MultimodalVAE, sample: Simulated, given: Sequence[str], draws: int, batch: int = 256
) -> Calibration:
    """Where the true z of a sample lie among `draws` draws of q(z|x_S), with a uniform shift inside
    each step of a rank. Distances are in standard deviations of z.
    """
    scale = sample.z.std(0)
    parts = []
    for rows in torch.arange(len(sample.z), device=sample.z.device).split(batch):
        with torch.no_grad():
            drawn = model.posterior(sample.x.rows(rows).only(given)).sample(torch.Size((draws,)))
        z, points = sample.z[rows], sample.points[rows]
        counts = ranks(z, drawn), nearer(z / scale, drawn / scale, points / scale)
        shifted = ((c + torch.rand(c.shape, device=c.device)) / (draws + 1) for c in counts)
        parts.append([v.double() for v in shifted])
    return Calibration(*(torch.cat(each) for each in zip(*parts, strict=True)))


def deviation(values: Tensor) -> Tensor:
    """The largest distance of the empirical distribution of values (N, ...) from the uniform one,
    (...): Kolmogorov and Smirnov's statistic.

    >>> deviation(torch.tensor([0.5, 0.5]))
    tensor(0.5000)
    """
    size = len(values)
    steps = torch.arange(size, dtype=values.dtype).view(-1, *[1] * (values.dim() - 1)) / size
    ordered = values.cpu().sort(0).values
    return torch.maximum(ordered - steps, steps + 1 / size - ordered).amax(0)


def expected_deviation(size: int, dims: int, seed: int = 0) -> tuple[float, float]:
    """The mean, over `REPEATS` draws, of the largest deviation of `dims` independent sets of `size`
    uniform values, and its standard error.

    >>> round(expected_deviation(100, 1)[0], 2)  # 0.87 / sqrt(100)
    0.09
    """
    generator = torch.Generator().manual_seed(seed)
    found = torch.stack(
        [
            deviation(torch.rand(size, dims, generator=generator, dtype=torch.float64)).max()
            for _ in range(REPEATS)
        ]
    )
    return found.mean().item(), found.std().item() / math.sqrt(REPEATS)


def p_value(values: Tensor) -> float:
    """The probability that D sets (N, D) of uniform values deviate as much: the smallest p-value of
    Kolmogorov and Smirnov's exact test times D (Bonferroni), at most 1;
    NaN if a value is.
    """
    from scipy.stats import kstwo

    size, dims = values.shape
    return min(dims * float(kstwo.sf(deviation(values).max().item(), size)), 1.0)


def _measured(m: Measurement, given: Given) -> Calibration:
    """Kept for all metrics; the simulated samples serve all subsets.

    Raises UnavailableError if the model does not generate what is given.
    """
    if unknown := [name for name in given if name not in m.model.decoders]:
        names = " and ".join(unknown)
        raise UnavailableError(f"The model does not generate {names}, which cannot be simulated.")
    return m.cached(("calibration", given), lambda: _calibration(m, given))


def _calibration(m: Measurement, given: Given) -> Calibration:
    options = m.options
    with m.stream("simulated"):
        names = list(m.model.decoders)
        sample = m.cached("simulated", lambda: simulated(m.model, options.sbc_simulations, names))
    with m.stream("calibration", given):
        return calibration(m.model, sample, given, options.sbc_draws, options.batch)


def _expected(m: Measurement, values: Tensor) -> Value:
    found = m.cached(
        ("expected deviation", values.shape),
        lambda: expected_deviation(len(values), values.shape[1], m.options.seed),
    )
    return *found, len(values)


def _largest(values: Tensor) -> Value:
    return deviation(values).max().item(), math.nan, len(values)


@metric(places=subsets, direction="lower", unit="share", default=False)
def sbc_deviation(m: Measurement, given: Given, target: str) -> Value:
    """Largest deviation of the ranks of simulated latents among posterior draws from uniform, over
    all dimensions.
    """
    return _largest(_measured(m, given).ranks)


@metric(places=subsets, direction="none", unit="share", default=False)
def sbc_deviation_expected(m: Measurement, given: Given, target: str) -> Value:
    """What `sbc_deviation` is on average of exact posteriors."""
    return _expected(m, _measured(m, given).ranks)


@metric(places=subsets, direction="none", unit="probability", default=False)
def sbc_p_value(m: Measurement, given: Given, target: str) -> Value:
    """Probability that `sbc_deviation` is as large of exact posteriors, by Kolmogorov and Smirnov's
    test.
    """
    values = _measured(m, given).ranks
    return p_value(values), math.nan, len(values)


@metric(places=subsets, direction="none", unit="ratio", default=False)
def sbc_dispersion(m: Measurement, given: Given, target: str) -> Value:
    """Variance of the ranks over that of uniform ones, mean over dimensions: above 1 for posteriors
    that are too narrow or shifted, below 1 for too wide ones.
    """
    return mean_of(12 * (_measured(m, given).ranks - 0.5).square().mean(1))


@metric(places=subsets, direction="lower", unit="share", default=False)
def tarp_deviation(m: Measurement, given: Given, target: str) -> Value:
    """Largest difference of how often random balls hold the truth (TARP) from their posterior
    probability.
    """
    return _largest(_measured(m, given).nearer[:, None])


@metric(places=subsets, direction="none", unit="share", default=False)
def tarp_deviation_expected(m: Measurement, given: Given, target: str) -> Value:
    """What `tarp_deviation` is on average of exact posteriors."""
    return _expected(m, _measured(m, given).nearer[:, None])


@metric(places=subsets, direction="none", unit="probability", default=False)
def tarp_p_value(m: Measurement, given: Given, target: str) -> Value:
    """Probability that `tarp_deviation` is as large of exact posteriors, by Kolmogorov and
    Smirnov's test.
    """
    values = _measured(m, given).nearer[:, None]
    return p_value(values), math.nan, len(values)
