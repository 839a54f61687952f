"""SAMPLERS: the samplers by name, as recipes and commands call them; `Sampler`: what they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from polymodal.checks import call, find
from polymodal.sampling.diagnostics import SamplerReport
from polymodal.sampling.importance import Importance
from polymodal.sampling.kernels import LogProb
from polymodal.sampling.mcmc import HMC, MALA
from polymodal.sampling.smc import SMC


class Sampler(Protocol):
    """Draws from an unnormalised log-density, for all items of a batch at once."""

    def __call__(
        self,
        log_prob: LogProb,
        start: Callable[[int], Tensor],
        start_log_prob: LogProb,
        n: int,
        /,
    ) -> tuple[Tensor, SamplerReport]:
        """n draws of each item, (n, B, D), and their report.

        Args:
            log_prob: (..., B, D) -> (..., B), the unnormalised target, nats.
            start: n -> (n, B, D), draws of something wider than the target.
            start_log_prob: its log-density, normalised.
        """


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "hmc": HMC,  # Hamiltonian Monte Carlo, the default for products of experts
    "mala": MALA,  # Langevin's algorithm with acceptance: one gradient for each transition
    "smc": SMC,  # sequential Monte Carlo, for products with separate modes
    "importance": Importance,  # importance resampling of draws from the experts
}


def make_sampler(
    name: str, registry: Mapping[str, Callable[..., Any]] = SAMPLERS, /, **settings: Any
) -> Any:
    """The sampler `name` of a registry, with its settings. Raises ValueError for an unknown name or
    setting, with the nearest.

    >>> make_sampler("hmc", chains=8).chains
    8
    """
    return call(registry[find(name, registry, "sampler")], settings, "")
