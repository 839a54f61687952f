"""Metrics of the sampler that draws q(z|x_S): they are measured only where there is a sampler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor

from polymodal.metrics.means import averaged
from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, subsets
from polymodal.sampling.diagnostics import ACCEPTANCE, RHAT

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement


@metric(direction="none", unit="probability", places=subsets)
def mcmc_acceptance(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Mean acceptance probability of the sampler."""
    return _mean(measurement.reported(given, "acceptance"))


@metric(direction="higher", unit="share", places=subsets)
def mcmc_acceptance_ok(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Share of samples whose chains accept with a probability between 0.6 and 0.95."""
    return _share(measurement.reported(given, "acceptance"), *ACCEPTANCE)


@metric(direction="lower", unit="trajectories", places=subsets)
def mcmc_divergent(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Mean number of diverging trajectories for each sample."""
    return _mean(measurement.reported(given, "divergent"))


@metric(direction="higher", unit="share", places=subsets)
def mcmc_rhat_ok(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Share of samples whose chains have an R-hat below 1.05."""
    return _share(measurement.reported(given, "rhat"), high=math.nextafter(RHAT, 0))


@metric(direction="higher", unit="draws", places=subsets)
def mcmc_ess(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Effective sample size of the sampler's draws, as a mean over the samples."""
    return _mean(measurement.reported(given, "ess"))


@metric(direction="none", unit="calls", places=subsets)
def network_calls(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Calls of a diffusion model's network for each draw of a latent."""
    return _mean(measurement.reported(given, "calls_per_draw"))


def _mean(figures: Tensor | None) -> Value | None:
    """The mean over the samples whose figure is finite."""
    return None if figures is None else averaged(figures[figures.isfinite()])


def _share(figures: Tensor | None, low: float = -math.inf, high: float = math.inf) -> Value | None:
    """The share of samples with low <= figure <= high; a NaN lies outside."""
    if figures is None:
        return None
    return averaged(((figures >= low) & (figures <= high)).double())
