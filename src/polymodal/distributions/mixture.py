"""Mixtures, joints of independent parts, and proposals, whose log-density is another's."""

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


def choose(mask: Tensor, q: Any, p: Any) -> Distribution:
    """q where `mask` (B,) is True, p elsewhere; both of batch_shape (B,)."""
    if type(p) is not type(q) or not isinstance(q, Point | DiagNormal | DiagLaplace):
        return Mixture([q, p], torch.stack([mask, ~mask], dim=-1).float())
    names = ["loc"] if isinstance(q, Point) else ["loc", "scale"]
    mask = mask.unsqueeze(-1)
    return type(q)(*(torch.where(mask, getattr(q, n), getattr(p, n)) for n in names))


class Mixture(Distribution):
    """Finite mixture; a reparametrised draw picks one component. Mixtures among the components are
    replaced by their own components.

    Args:
        components: distributions with the same batch_shape (B,) and event_shape (D,).
        weights: (C,) or (B, C), not negative; they need not be normalised. None: equal.
    """

    arg_constraints: dict = {}

    def __init__(self, components: Sequence[Distribution], weights: Tensor | None = None) -> None:
        if weights is None:
            weights = torch.ones(len(components))
        weights = weights / weights.sum(-1, keepdim=True)
        self.components, self.weights = _flat(components, weights)
        first = self.components[0]
        super().__init__(first.batch_shape, first.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return all(q.has_rsample for q in self.components)

    def log_prob(self, z: Tensor) -> Tensor:
        logs = torch.stack([q.log_prob(z) for q in self.components], dim=-1)
        weights = self.weights.to(logs)
        positive = weights.clamp_min(1e-30).log()  # log 0 has no finite gradient
        log_weights = torch.where(weights > 0, positive, -math.inf)
        return torch.logsumexp(logs + log_weights, dim=-1)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        if all(type(q) is DiagNormal for q in self.components):
            return self._rsample_normals(sample_shape)
        draws = torch.stack([q.rsample(sample_shape) for q in self.components], dim=-2)
        return self._picked(draws, self._pick(draws, sample_shape))

    def _rsample_normals(self, sample_shape: Any) -> Tensor:
        """A draw of normal components: picks first, then draws once."""
        normals: list[Any] = self.components
        loc = torch.stack([q.loc for q in normals], dim=-2)
        scale = torch.stack([q.scale for q in normals], dim=-2)
        pick = self._pick(loc, sample_shape)
        return DiagNormal(self._picked(loc, pick), self._picked(scale, pick)).rsample()

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            if self.has_rsample:
                return self.rsample(sample_shape)
            draws = torch.stack([q.sample(sample_shape) for q in self.components], dim=-2)
            return self._picked(draws, self._pick(draws, sample_shape))

    def _pick(self, like: Tensor, shape: Any) -> Tensor:
        """The index of a component drawn by weight, of shape + (B,)."""
        cumulative = self.weights.to(like).expand(*self.batch_shape, -1).cumsum(-1)
        uniform = noise(like, [*shape, *self.batch_shape, 1], torch.rand) * cumulative[..., -1:]
        return (uniform >= cumulative).sum(-1).clamp_max(len(self.components) - 1)

    @staticmethod
    def _picked(values: Tensor, pick: Tensor) -> Tensor:
        """The values (..., B, C, D) of the components `pick` (..., B): (..., B, D)."""
        values = values.expand(*pick.shape, *values.shape[-2:])
        return torch.take_along_dim(values, pick[..., None, None], dim=-2).squeeze(-2)

    @property
    def mean(self) -> Tensor:
        means = torch.stack([q.mean for q in self.components], dim=-2)
        return (self.weights.to(means).unsqueeze(-1) * means).sum(-2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Mixture:
        weights = self.weights if self.weights.dim() == 1 else self.weights.expand(*batch_shape, -1)
        return Mixture([q.expand(batch_shape) for q in self.components], weights)


def _flat(components: Sequence[Distribution], weights: Tensor) -> tuple[list[Distribution], Tensor]:
    """Components and weights in which those of every mixture stand in its place."""
    if not any(isinstance(q, Mixture) for q in components):
        return list(components), weights
    flat, shares = list[Distribution](), list[Tensor]()
    for q, weight in zip(components, weights.split(1, -1), strict=True):
        mixture = q if isinstance(q, Mixture) else None
        flat += [q] if mixture is None else mixture.components
        shares.append(weight if mixture is None else weight * mixture.weights.to(weight.device))
    lead = torch.broadcast_shapes(*(share.shape[:-1] for share in shares))
    return flat, torch.cat([share.expand(*lead, -1) for share in shares], -1)


class Joint(Distribution):
    """Independent parts, concatenated in the last dimension."""

    arg_constraints: dict = {}

    def __init__(self, *parts: Distribution) -> None:
        batch = torch.broadcast_shapes(*(p.batch_shape for p in parts))
        self.parts = [p if p.batch_shape == batch else p.expand(batch) for p in parts]
        self.sizes = [p.event_shape.numel() for p in parts]
        super().__init__(batch, torch.Size([sum(self.sizes)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return all(p.has_rsample for p in self.parts)

    def log_prob(self, z: Tensor) -> Tensor:
        return sum_of(
            p.log_prob(s) for p, s in zip(self.parts, z.split(self.sizes, dim=-1), strict=True)
        )

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return torch.cat([p.rsample(sample_shape) for p in self.parts], dim=-1)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return torch.cat([p.sample(sample_shape) for p in self.parts], dim=-1)

    @property
    def mean(self) -> Tensor:
        return torch.cat([p.mean for p in self.parts], dim=-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Joint:
        return Joint(*(p.expand(batch_shape) for p in self.parts))


class Proposal(Distribution):
    """A distribution that draws from `draw`, and whose log-density is that of `density`.

    A stratum of a mixture draws from its component and has the density of the whole mixture; a
    nuisance latent draws from an auxiliary and has the density of its prior, so that its weight
    cancels.

    Args:
        nuisance: whether `density` depends on none of the parameters of `draw`.
    """

    arg_constraints: dict = {}

    def __init__(self, draw: Distribution, density: Distribution, nuisance: bool = False) -> None:
        self.draw, self.density, self.nuisance = draw, density, nuisance
        super().__init__(draw.batch_shape, draw.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.draw.has_rsample

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.draw.rsample(sample_shape)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.draw.sample(sample_shape)

    def log_prob(self, z: Tensor) -> Tensor:
        return self.density.log_prob(z)

    @property
    def mean(self) -> Tensor:
        return self.draw.mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> Proposal:
        return Proposal(self.draw.expand(batch_shape), self.density, self.nuisance)
