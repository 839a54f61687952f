"""SAMPLERS: the samplers by name, as recipes and commands call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from polymodal.checks import call, find
from polymodal.sampling.importance import Importance
from polymodal.sampling.mcmc import HMC, MALA
from polymodal.sampling.smc import SMC

SAMPLERS: dict[str, Callable[..., Any]] = {
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
