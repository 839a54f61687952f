"""DIFFUSIONS: the samplers of diffusion priors by name, as recipes and commands call them."""

from __future__ import annotations

from collections.abc import Callable

from polymodal.diffusion.sampler import Diffusion, DiffusionSampler
from polymodal.diffusion.twisted import Twisted

DIFFUSIONS: dict[str, Callable[..., DiffusionSampler]] = {
    "diffusion": Diffusion,  # the reverse process, the default for diffusion priors
    "twisted": Twisted,  # twisted sequential Monte Carlo for diffusion priors: weighted particles
}
