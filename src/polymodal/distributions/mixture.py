"""Mixtures, independent parts side by side, and proposals that are charged another density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.distributions.normal import DiagLaplace, DiagNormal, Point
from polymodal.distributions.sums import sum_of
from polymodal.rng import noise


def choose(here: Tensor, q: Any, p: Any) -> Distribution:
    """q where `here` (B,), else p, both of batch_shape (B,)."""
    if type(p) is not type(q) or not isinstance(q, Point | DiagNormal | DiagLaplace):
        return Mixture([q, p], torch.stack([here, ~here], dim=-1).float())
    names = ["loc"] if isinstance(q, Point) else ["loc", "scale"]
    mask = here.unsqueeze(-1)
    return type(q)(*(torch.where(mask, getattr(q, n), getattr(p, n)) for n in names))


class Mixture(Distribution):
    """Finite mixture; a pathwise sample picks a component.

    Args:
        components: distributions with the same batch_shape (B,) and event_shape (D,).
        weights: (C,) or (B, C), not negative, normalised here; None: equal.
    """

    has_rsample = True
    arg_constraints: dict = {}

    def __init__(self, components: Sequence[Distribution], weights: Tensor | None = None) -> None:
        self.components = list(components)
        first = self.components[0]
        if weights is None:
            weights = torch.ones(len(self.components))
        self.weights = weights / weights.sum(-1, keepdim=True)
        super().__init__(first.batch_shape, first.event_shape, validate_args=False)

    def log_prob(self, z: Tensor) -> Tensor:
        logs = torch.stack([q.log_prob(z) for q in self.components], dim=-1)
        weights = self.weights.to(logs)
        log_weights = torch.where(
            weights > 0, weights.clamp_min(1e-30).log(), -math.inf
        )  # no gradient through log 0
        return torch.logsumexp(logs + log_weights, dim=-1)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        if all(type(q) is DiagNormal for q in self.components):  # pick first, then draw once
            loc, scale = (
                torch.stack([getattr(q, n) for q in self.components], dim=-2)
                for n in ("loc", "scale")
            )
            pick = self._pick(loc, sample_shape)
            return DiagNormal(*(self._picked(v, pick) for v in (loc, scale))).rsample()
        draws = torch.stack([q.rsample(sample_shape) for q in self.components], dim=-2)
        return self._picked(draws, self._pick(draws, sample_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            if all(q.has_rsample for q in self.components):
                return self.rsample(sample_shape)
            draws = torch.stack([q.sample(sample_shape) for q in self.components], dim=-2)
            return self._picked(draws, self._pick(draws, sample_shape))

    def _pick(self, like: Tensor, shape: Any) -> Tensor:
        """Which component, by weight, for each of shape + (B,)."""
        cumulative = self.weights.to(like).expand(*self.batch_shape, -1).cumsum(-1)
        uniform = noise(like, [*shape, *self.batch_shape, 1], torch.rand) * cumulative[..., -1:]
        return (uniform >= cumulative).sum(-1).clamp_max(len(self.components) - 1)

    @staticmethod
    def _picked(values: Tensor, pick: Tensor) -> Tensor:
        """values (..., B, C, D) of the components in `pick` (..., B)."""
        values = values.expand(*pick.shape, *values.shape[-2:])
        return torch.take_along_dim(values, pick[..., None, None], dim=-2).squeeze(-2)

    @property
    def mean(self) -> Tensor:
        means = torch.stack([q.mean for q in self.components], dim=-2)
        return (self.weights.to(means).unsqueeze(-1) * means).sum(-2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Mixture:
        weights = self.weights if self.weights.dim() == 1 else self.weights.expand(*batch_shape, -1)
        return Mixture([q.expand(batch_shape) for q in self.components], weights)


class Joint(Distribution):
    """Independent parts, laid out one after the other in the last dimension."""

    has_rsample = True
    arg_constraints: dict = {}

    def __init__(self, *parts: Distribution) -> None:
        batch = torch.broadcast_shapes(*(p.batch_shape for p in parts))
        self.parts = [p if p.batch_shape == batch else p.expand(batch) for p in parts]
        self.sizes = [p.event_shape.numel() for p in parts]
        super().__init__(batch, torch.Size([sum(self.sizes)]), validate_args=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return sum_of(
            p.log_prob(s) for p, s in zip(self.parts, z.split(self.sizes, dim=-1), strict=True)
        )

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return torch.cat([p.rsample(sample_shape) for p in self.parts], dim=-1)

    @property
    def mean(self) -> Tensor:
        return torch.cat([p.mean for p in self.parts], dim=-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Joint:
        return Joint(*(p.expand(batch_shape) for p in self.parts))


class Proposal(Distribution):
    """Draws from one distribution, is charged the density of another.

    A stratum of a mixture draws from its component and is charged the whole mixture; a nuisance
    latent draws from an auxiliary and is charged its prior, so that its weight cancels.
    """

    has_rsample = True
    arg_constraints: dict = {}

    def __init__(self, draw: Distribution, density: Distribution) -> None:
        self.draw, self.density = draw, density
        super().__init__(draw.batch_shape, draw.event_shape, validate_args=False)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.draw.rsample(sample_shape)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.density.log_prob(z)

    @property
    def mean(self) -> Tensor:
        return self.draw.mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> Proposal:
        return Proposal(self.draw.expand(batch_shape), self.density)
