"""SAMPLERS: the samplers by name, as recipes and commands call them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from inspect import signature
from typing import Any

from polymodal.sampling.diffusion import Diffusion
from polymodal.sampling.importance import Importance
from polymodal.sampling.mcmc import HMC, MALA
from polymodal.sampling.smc import SMC
from polymodal.sampling.twisted import Twisted

SAMPLERS: dict[str, Callable[..., Any]] = {"hmc": HMC, "mala": MALA, "smc": SMC, "importance": Importance}
DIFFUSIONS: dict[str, Callable[..., Any]] = {"diffusion": Diffusion, "twisted": Twisted}  # for priors of scores


def make_sampler(name: str, known: Mapping[str, Callable[..., Any]] = SAMPLERS, /, **settings: Any) -> Any:
    """The sampler `name` of `known` with its settings. Raises ValueError for an unknown name or setting, naming the
    nearest.

    >>> make_sampler("hmc", chains=8).chains
    8
    """
    for what, word, names in (
        ("sampler", name, list(known)),
        *(
            (f"setting of the sampler {name}:", key, list(signature(known[name]).parameters))
            for key in settings
            if name in known
        ),
    ):
        if word not in names:
            near = "".join(f" Did you mean {n!r}?" for n in get_close_matches(word, names, 1))
            raise ValueError(f"There is no {what} {word!r}; there are {names}.{near}")
    return known[name](**settings)
