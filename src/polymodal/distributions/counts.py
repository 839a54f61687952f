"""Poisson and negative binomial counts, exact over the range of float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

STIRLING = 10.0  # inverse dispersions above it use Stirling's series
LARGEST = 1e15  # rate of a draw
LEAST, MOST = -5.0, 10.0  # logarithms of inverse dispersions at the start


class Counts(Distribution):
    """Independent counts of any shape with the mean exp(log_mean). Abstract.

    A log-density of float32 is the difference of numbers of 1e8 nats and more, so that it is
    computed in float64.

    Args:
        log_mean: (..., B, *shape).
        event_dim: axes of the shape.
    """

    arg_constraints: dict = {}

    def __init__(self, log_mean: Tensor, event_dim: int) -> None:
        self.log_mean = log_mean
        batch_dim = log_mean.dim() - event_dim
        super().__init__(log_mean.shape[:batch_dim], log_mean.shape[batch_dim:], False)

    def _log_pmf(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _rate(self, shape: torch.Size) -> Tensor:
        """The rates of Poisson draws, float64."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    def log_prob(self, x: Tensor) -> Tensor:
        axes = tuple(range(-len(self.event_shape), 0))
        return self.entry_log_prob(x).sum(axes).to(self.log_mean.dtype)

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """The log-probability of each count, (..., B, *shape), nats, float64."""
        return self._log_pmf(_exact(x))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            rate = self._rate(self._extended_shape(sample_shape))
            return torch.poisson(rate.clamp(max=LARGEST)).to(self.log_mean.dtype)


class PoissonCounts(Counts):
    """log p(x) = x a - e^a - log x! with a = log_mean."""

    def _log_pmf(self, x: Tensor) -> Tensor:
        a = _exact(self.log_mean)
        return x * a - a.exp() - (x + 1).lgamma()

    def _rate(self, shape: torch.Size) -> Tensor:
        return _exact(self.log_mean).exp().expand(shape)


class NegativeBinomialCounts(Counts):
    """Counts of mean m = e^a and variance m + m^2 / r, with the inverse dispersion r = e^b.

    log p(x) = log Gamma(x + r) - log Gamma(r) - x log r - log x! + x a - (x + r) log(1 + m / r).

    Args:
        log_mean, log_inverse_dispersion: a and b, (..., B, *shape).
        event_dim: axes of the shape.
    """

    def __init__(self, log_mean: Tensor, log_inverse_dispersion: Tensor, event_dim: int) -> None:
        super().__init__(log_mean, event_dim)
        self.log_inverse_dispersion = log_inverse_dispersion

    def _log_pmf(self, x: Tensor) -> Tensor:
        a, b = _exact(self.log_mean), _exact(self.log_inverse_dispersion)
        r = b.exp()
        excess = torch.logaddexp(a - b, torch.zeros_like(a))  # log(1 + m / r)
        return log_rising(x, r) - (x + 1).lgamma() + x * a - (x + r) * excess

    def _rate(self, shape: torch.Size) -> Tensor:
        a, b = _exact(self.log_mean).expand(shape), _exact(self.log_inverse_dispersion)
        return torch._standard_gamma(b.exp().expand(shape).contiguous()) * (a - b).exp()


def log_rising(x: Tensor, r: Tensor) -> Tensor:
    """log Gamma(x + r) - log Gamma(r) - x log r, which tends to 0 for r -> infinity.

    Above r = 10 the difference of Stirling's series: (x + r - 1/2) log(1 + x / r) - x and the terms
    in 1 / 12 z and 1 / 360 z^3; the terms left out are below 1e-8 nats.
    """
    small, large = r.clamp(max=STIRLING), r.clamp(min=STIRLING)
    direct = (x + small).lgamma() - small.lgamma() - x * small.log()
    leading = (x + large - 0.5) * (x / large).log1p() - x
    series = leading + _tail(x + large) - _tail(large)
    return torch.where(r < STIRLING, direct, series)


def poisson_start(mean: Tensor, variance: Tensor) -> Tensor:
    """The decoder's output at which counts have this mean."""
    return mean.log()


def negative_binomial_start(mean: Tensor, variance: Tensor) -> Tensor:
    """The decoder's outputs (2, ...) at which counts have this mean and variance."""
    dispersion = (variance - mean).clamp_min(1e-12) / mean.square()
    return torch.stack([mean.log(), -dispersion.log().clamp(-MOST, -LEAST)])


def _tail(z: Tensor) -> Tensor:
    return 1 / (12 * z) - 1 / (360 * z**3)


def _exact(x: Tensor) -> Tensor:
    """float64, where the device has it."""
    return x if x.device.type == "mps" else x.double()
