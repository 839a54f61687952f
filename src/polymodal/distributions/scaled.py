"""Normal and Laplace values of any shape with one scale, or one for each entry."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Isotropic(Distribution):
    """Independent values of any shape around `loc`, computed in few passes over memory. Abstract.

    Args:
        loc: (..., B, *shape).
        scale: one number, or a tensor that broadcasts to the shape.
        event_dim: axes of the shape.
    """

    arg_constraints: dict = {}

    def __init__(self, loc: Tensor, scale: float | Tensor, event_dim: int) -> None:
        self.loc, self.scale = loc, scale
        batch_dim = loc.dim() - event_dim
        super().__init__(loc.shape[:batch_dim], loc.shape[batch_dim:], validate_args=False)

    def _summed(self, x: Tensor) -> Tensor:
        return x.sum(tuple(range(-len(self.event_shape), 0)))

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each entry, (..., B, *shape), nats."""
        raise NotImplementedError

    def _noise(self, like: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        return self.loc

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            loc = self.loc.expand(self._extended_shape(sample_shape))
            return loc + self.scale * self._noise(loc)


class IsotropicNormal(Isotropic):
    """Independent N(loc, scale^2)."""

    def log_prob(self, x: Tensor) -> Tensor:
        if isinstance(self.scale, Tensor):
            return self._summed(self.entry_log_prob(x))
        constant = self.event_shape.numel() * (math.log(self.scale) + HALF_LOG_2PI)
        return self._summed((x - self.loc).square()) * (-0.5 / self.scale**2) - constant

    def entry_log_prob(self, x: Tensor) -> Tensor:
        scale = torch.as_tensor(self.scale)
        return -0.5 * ((x - self.loc) / scale).square() - scale.log() - HALF_LOG_2PI

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn_like(like)


class IsotropicLaplace(Isotropic):
    """Laplace(loc, scale): -|x - loc| / scale - log(2 scale), summed over the event.

    # -2 (1 / .5 + log 1)
    >>> IsotropicLaplace(torch.zeros(5, 2), 0.5, event_dim=1).log_prob(torch.ones(2))[0]
    tensor(-4.)
    """

    def log_prob(self, x: Tensor) -> Tensor:
        if isinstance(self.scale, Tensor):
            return self._summed(self.entry_log_prob(x))
        constant = self.event_shape.numel() * math.log(2 * self.scale)
        return self._summed((x - self.loc).abs()) * (-1 / self.scale) - constant

    def entry_log_prob(self, x: Tensor) -> Tensor:
        scale = torch.as_tensor(self.scale)
        return -(x - self.loc).abs() / scale - (2 * scale).log()

    def _noise(self, like: Tensor) -> Tensor:
        size = torch.empty_like(like).exponential_()
        sign = torch.empty_like(like).bernoulli_(0.5).mul_(2).sub_(1)
        return size * sign
