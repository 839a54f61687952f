"""Random functions of torch that repeat their numbers, for laws 'with the same noise'."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

RANDOM = {
    "bernoulli_",
    "exponential_",
    "multinomial",
    "normal_",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "uniform_",
}


class FixedNoise(TorchFunctionMode):
    """Inside, every random function of torch starts from the same state: what it draws depends on
    its name and the shape only, not on the calls before it.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in RANDOM:
            torch.default_generator.manual_seed(0)
        return func(*args, **(kwargs or {}))
