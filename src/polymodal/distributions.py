"""Distributions over latents: batch_shape (B,), event_shape (D,); log_prob of (..., B, D) is (..., B), in nats.

Product, mixture, and mixture of products of experts; draws charged another density; divergences. Missing data lives
here as zero precision in `product`, zero weight in `Mixture` and zero power in `Product`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce, singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, Normal, kl_divergence

from polymodal.noise import noise


class DiagNormal(Independent):
    """Normal with diagonal covariance; `loc` and `scale` of shape (B, D).

    >>> DiagNormal(torch.zeros(4, 2), torch.ones(4, 2)).log_prob(torch.zeros(3, 4, 2)).shape
    torch.Size([3, 4])
    """

    base_dist: Normal

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(Normal(loc, scale, validate_args=False), 1, validate_args=False)

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale

    def log_prob(self, z: Tensor) -> Tensor:
        constant = self.scale.log().sum(-1) + 0.5 * math.log(2 * math.pi) * self.scale.shape[-1]
        return ((z - self.loc) / self.scale).square().sum(-1) * -0.5 - constant

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.loc + self.scale * noise(self.loc, self._extended_shape(sample_shape))

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagNormal:
        return DiagNormal(self.loc.expand(*batch_shape, -1), self.scale.expand(*batch_shape, -1))


class DiagLaplace(Independent):
    """Laplace with independent coordinates; `loc` and `scale` of shape (B, D)."""

    base_dist: Laplace

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(Laplace(loc, scale, validate_args=False), 1, validate_args=False)

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiagLaplace:
        return DiagLaplace(self.loc.expand(*batch_shape, -1), self.scale.expand(*batch_shape, -1))


def product(
    experts: Sequence[DiagNormal], present: Sequence[Tensor] | None = None, over: DiagNormal | None = None
) -> DiagNormal:
    """Normalised product of Gaussian experts; an absent expert has zero precision.

    Without `over` it is prod_m q_m (Wu and Goodman 2018). With `over` = p it is p prod_m (q_m / p): Bayes' rule under
    conditional independence, prod_m q_m / p^(n-1) for n present experts (Senellart et al. 2023, eq. (12)), and p itself
    where none is present. There an expert that is wider than the prior in some coordinate, which no exact posterior
    is, counts as exactly as wide, so that the product is always normalisable.

    Args:
        experts: DiagNormals of batch_shape (B,).
        present: one bool (B,) for each expert, or None: all present.
        over: the prior p, of batch_shape () or (B,).
    """
    precision = torch.stack([q.variance.reciprocal() for q in experts])
    loc = torch.stack([q.loc for q in experts])
    shift = precision * loc
    if over is not None:
        base = over.variance.reciprocal()
        precision = torch.maximum(precision, base)
        precision, shift = precision - base, precision * loc - base * over.loc
    if present is not None:
        mask = torch.stack(list(present)).unsqueeze(-1)
        precision, shift = precision * mask, shift * mask
    total, moment = precision.sum(0), shift.sum(0)
    if over is not None:
        total, moment = total + base, moment + base * over.loc
    variance = total.reciprocal()
    return DiagNormal(variance * moment, variance.sqrt())


class Point(Distribution):
    """All mass at `loc` (B, D), as deterministic encoders give it; its log-density counts as 0."""

    has_rsample = True
    arg_constraints: dict = {}

    def __init__(self, loc: Tensor) -> None:
        self.loc = loc
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_zeros(z.shape[:-1])

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.loc.expand(self._extended_shape(sample_shape))

    @property
    def mean(self) -> Tensor:
        return self.loc

    def expand(self, batch_shape: Any, _instance: Any = None) -> Point:
        return Point(self.loc.expand(*batch_shape, -1))


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
        log_weights = torch.where(weights > 0, weights.clamp_min(1e-30).log(), -math.inf)  # no gradient through log 0
        return torch.logsumexp(logs + log_weights, dim=-1)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        if all(type(q) is DiagNormal for q in self.components):  # pick first, then draw once
            loc, scale = (torch.stack([getattr(q, n) for q in self.components], dim=-2) for n in ("loc", "scale"))
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
        return sum_of(p.log_prob(s) for p, s in zip(self.parts, z.split(self.sizes, dim=-1), strict=True))

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return torch.cat([p.rsample(sample_shape) for p in self.parts], dim=-1)

    @property
    def mean(self) -> Tensor:
        return torch.cat([p.mean for p in self.parts], dim=-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Joint:
        return Joint(*(p.expand(batch_shape) for p in self.parts))


class Proposal(Distribution):
    """Draws from one distribution, is charged the density of another.

    A stratum of a mixture draws from its component and is charged the whole mixture; a nuisance latent draws from an
    auxiliary and is charged its prior, so that its weight cancels.
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


class Product(Distribution):
    """Unnormalised product of experts over a power of the prior, drawn by a sampler (Senellart et al. 2023, eq. (12)).

    log prod = sum_m log q_m(z) - (n - 1) log p(z) for the n experts that are present, so log p(z) where none is. (The
    paper's eq. (21) divides by p once whatever n; that is right for n = 2 alone.)

    Args:
        experts: normalised distributions of batch_shape (B,), encoded already: the sampler only evaluates densities.
        prior: p(z), of batch_shape () or (B,).
        sampler: `sampler(log_prob, start, start_log_prob, n) -> (z (n, B, D), Diagnostics)`, see `polymodal.sampling`.
        present: one bool (B,) for each expert, or None: all present.

    `diagnostics` holds what the sampler last reported. `log_prob` lacks the normalising constant, which is finite only
    where experts' tails are light enough: for those of flows see `widest` of `polymodal.flows.Flow`.
    """

    has_rsample = False
    arg_constraints: dict = {}

    def __init__(
        self,
        experts: Sequence[Distribution],
        prior: Distribution,
        sampler: Callable[..., tuple[Tensor, Any]],
        present: Sequence[Tensor] | None = None,
    ) -> None:
        self.experts, self.prior, self.sampler, self.diagnostics = list(experts), prior, sampler, None
        batch = experts[0].batch_shape
        super().__init__(batch, experts[0].event_shape, validate_args=False)
        self.present = None if present is None else torch.stack(list(present))

    def log_prob(self, z: Tensor) -> Tensor:
        logs = [q.log_prob(z) for q in self.experts]
        if self.present is None:
            return sum_of(logs) - (len(logs) - 1) * self.prior.log_prob(z)
        logs = [torch.where(here, log, 0) for here, log in zip(self.present, logs, strict=True)]
        return sum_of(logs) - (self.present.sum(0) - 1) * self.prior.log_prob(z)

    def start(self) -> Mixture:
        """The equal mixture of the experts that are present, the prior where none is: where the samplers start."""
        if self.present is None:
            return Mixture(self.experts)
        none = ~self.present.any(0)
        if not none.any():
            return Mixture(self.experts, self.present.T.float())
        weights = torch.stack([*self.present, none], dim=-1).float()
        return Mixture([*self.experts, self.prior.expand(self.batch_shape)], weights)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape)
        start = self.start()
        with torch.no_grad():
            z, self.diagnostics = self.sampler(
                self.log_prob, lambda n: start.sample((n,)), start.log_prob, shape.numel()
            )
        return z.reshape(*shape, *z.shape[1:])


def sum_of(values: Any) -> Tensor:
    """Sum of one or more tensors, without the integer 0 that `sum` starts from."""
    return reduce(torch.add, values)


@singledispatch
def detach(q: Distribution) -> Distribution:
    """The same distribution with its parameters out of the graph (for DReG)."""
    raise ValueError(f"detach is not defined for {type(q).__name__}; register it with polymodal.distributions.detach.")


detach.register(DiagNormal)(lambda q: DiagNormal(q.loc.detach(), q.scale.detach()))
detach.register(DiagLaplace)(lambda q: DiagLaplace(q.loc.detach(), q.scale.detach()))
detach.register(Mixture)(lambda q: Mixture([detach(c) for c in q.components], q.weights.detach()))
detach.register(Joint)(lambda q: Joint(*map(detach, q.parts)))
detach.register(Proposal)(lambda q: Proposal(q.draw, detach(q.density)))


def divergence(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL(q || p), (B,) nats: exact where known, by convexity an upper bound for a mixture q, else log q(z) - log p(z).

    Args:
        q: of batch_shape (B,).
        p: of batch_shape () or (B,).
        z: a sample of q, (B, D), used only where no closed form is known.
    """
    if isinstance(q, Mixture):
        parts = torch.stack([divergence(c, p, z) for c in q.components], dim=-1)
        return torch.where(q.weights > 0, q.weights * parts, 0).sum(-1)
    if isinstance(q, Joint) and isinstance(p, Joint):
        return sum_of(divergence(a, b, s) for a, b, s in zip(q.parts, p.parts, z.split(q.sizes, -1), strict=True))
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(z) - p.log_prob(z)
