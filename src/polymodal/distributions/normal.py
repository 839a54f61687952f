"""Normal and Laplace distributions of latents, points, and the product of normal experts.

All have batch_shape (B,) and event_shape (D,); log_prob of (..., B, D) is (..., B), in nats. An
absent expert has zero precision in `product`, zero weight in `Mixture` and zero power in `Product`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Laplace, Normal

from polymodal.rng import noise


class Diagonal(Independent):
    """Base of `DiagNormal` and `DiagLaplace`: independent coordinates of one family, `loc` and
    `scale` of shape (B, D). Abstract.
    """

    family: type[Normal] | type[Laplace]
    base_dist: Normal | Laplace

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(self.family(loc, scale, validate_args=False), 1, validate_args=False)

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Self:
        return type(self)(self.loc.expand(*batch_shape, -1), self.scale.expand(*batch_shape, -1))


class DiagNormal(Diagonal):
    """Normal with diagonal covariance; `loc` and `scale` of shape (B, D).

    >>> DiagNormal(torch.zeros(4, 2), torch.ones(4, 2)).log_prob(torch.zeros(3, 4, 2)).shape
    torch.Size([3, 4])
    """

    family = Normal

    def log_prob(self, z: Tensor) -> Tensor:
        constant = self.scale.log().sum(-1) + 0.5 * math.log(2 * math.pi) * self.scale.shape[-1]
        return ((z - self.loc) / self.scale).square().sum(-1) * -0.5 - constant

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.loc + self.scale * noise(self.loc, self._extended_shape(sample_shape))


class DiagLaplace(Diagonal):
    """Laplace with independent coordinates; `loc` and `scale` of shape (B, D)."""

    family = Laplace

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:
        u = noise(self.loc, self._extended_shape(sample_shape), _signed_uniform)
        return self.loc - self.scale * u.sign() * torch.log1p(-u.abs())


def _signed_uniform(*shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draws from (-1, 1), as `torch.distributions.Laplace` takes them."""
    return torch.empty(shape, dtype=dtype, device=device).uniform_(torch.finfo(dtype).eps - 1, 1)


def product(
    experts: Sequence[DiagNormal],
    present: Sequence[Tensor] | None = None,
    over: DiagNormal | None = None,
) -> DiagNormal:
    """Normalised product of Gaussian experts; an absent expert has zero precision.

    Without `over` it is prod_m q_m (Wu and Goodman 2018). With `over` = p it is p prod_m (q_m / p):
    Bayes' rule under conditional independence, prod_m q_m / p^(n-1) for n present experts
    (Senellart et al. 2023, eq. (12)), the expert itself if only one is present, and p if none is.
    Where two or more are present, an expert that is wider than the prior in some coordinate, which
    no exact posterior is, counts as exactly as wide, so that the product can always be normalised.

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
        precision = _bounded(precision, base, present)
        precision, shift = precision - base, precision * loc - base * over.loc
    if present is not None:
        mask = torch.stack(list(present)).unsqueeze(-1)
        precision, shift = precision * mask, shift * mask
    total, moment = precision.sum(0), shift.sum(0)
    if over is not None:
        total, moment = total + base, moment + base * over.loc
    variance = total.reciprocal()
    return DiagNormal(variance * moment, variance.sqrt())


def _bounded(precision: Tensor, base: Tensor, present: Sequence[Tensor] | None) -> Tensor:
    """Precisions (n, B, D) of at least the prior's precision `base` where two or more experts are
    present.
    """
    if len(precision) < 2:
        return precision
    bounded = torch.maximum(precision, base)
    if present is None:
        return bounded
    several = (torch.stack(list(present)).sum(0) > 1).unsqueeze(-1)
    return torch.where(several, bounded, precision)


class Point(Distribution):
    """A point mass at `loc` (B, D), of deterministic encoders; its log-density counts as 0."""

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
