"""Metrics of the sampler that draws a subset's latents, from its reports; not defined for subsets
that are drawn in closed form.
"""

from __future__ import annotations

from torch import Tensor

from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, subsets
from polymodal.metrics.statistics import mean_of
from polymodal.sampling.diagnostics import ACCEPTANCE, RHAT


def _share(good: Tensor) -> Value:
    """The share of samples that are good."""
    return mean_of(good.double())


def _mean(m: Measurement, given: Given, figure: str) -> Value | None:
    """The mean of a figure of the reports over the samples for which it is finite."""
    values = m.reported(given, figure)
    if values is None or not values.isfinite().any():
        return None
    return mean_of(values[values.isfinite()])


@metric(places=subsets, direction="none", unit="probability")
def sampler_acceptance(m: Measurement, given: Given, target: str) -> Value | None:
    """Mean acceptance of the sampler, where one was used."""
    return _mean(m, given, "acceptance")


@metric(places=subsets, direction="higher", unit="share")
def sampler_acceptance_ok(m: Measurement, given: Given, target: str) -> Value | None:
    """Share of samples whose chains accept .6 to .95 of the proposals."""
    values = m.reported(given, "acceptance")
    low, high = ACCEPTANCE
    return None if values is None else _share((values >= low) & (values <= high))


@metric(places=subsets, direction="lower", unit="trajectories")
def sampler_divergent(m: Measurement, given: Given, target: str) -> Value | None:
    """Diverging trajectories per sample."""
    return _mean(m, given, "divergent")


@metric(places=subsets, direction="higher", unit="share")
def sampler_rhat_ok(m: Measurement, given: Given, target: str) -> Value | None:
    """Share of samples with R-hat below 1.05."""
    values = m.reported(given, "rhat")
    return None if values is None else _share(values < RHAT)


@metric(places=subsets, direction="higher", unit="draws")
def sampler_ess(m: Measurement, given: Given, target: str) -> Value | None:
    """Effective sample size, mean over the samples."""
    return _mean(m, given, "ess")


@metric(places=subsets, direction="none", unit="points")
def network_calls(m: Measurement, given: Given, target: str) -> Value | None:
    """Points that went through a diffusion's network for each sample."""
    return _mean(m, given, "points_per_item")
