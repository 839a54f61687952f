"""SAMPLERS: the samplers by name, as recipes and commands call them."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from polymodal.sampling.mcmc import HMC, MALA
from polymodal.sampling.smc import SMC

SAMPLERS: dict[str, Callable[..., Any]] = {"hmc": HMC, "mala": MALA, "smc": SMC}


def make_sampler(name: str, **settings: Any) -> Any:
    """The sampler `name` with its settings. Raises ValueError for an unknown name, naming the nearest.

    >>> make_sampler("hmc", chains=8).chains
    8
    """
    if name not in SAMPLERS:
        near = "".join(f" Did you mean {n!r}?" for n in get_close_matches(name, SAMPLERS, 1))
        raise ValueError(f"There is no sampler {name!r}; there are {list(SAMPLERS)}.{near}")
    return SAMPLERS[name](**settings)
