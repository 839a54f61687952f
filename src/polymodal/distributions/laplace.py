"""Laplace's approximation of a mixture prior times likelihoods, component by component."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily

STEPS, KEPT = 3, 6  # linearisations; components that are kept
NUMBERS = 2**25  # that the covariances of one piece may hold
LOG_2PI = math.log(2 * math.pi)


class NormalLikelihood(Protocol):
    """p(g | z) = N(g; mu(z), diag 1 / w(z)) of observed g, one for each sample."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(g | z) of z (..., B, D), (..., B), nats."""

    def linear(self, z: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Of the samples `rows`, at z (b, C, D): g - mu(z) (b, C, K), the derivative of mu
        (b, C, K, D) and w (b, C, K), 0 in a direction that is not used.
        """


class Powers(NamedTuple):
    """Likelihoods, each raised to `exponent`."""

    likelihoods: Sequence[NormalLikelihood]
    exponent: Tensor | float


class LaplaceMixture(Distribution):
    """A mixture of normals for each sample.

    Args:
        weights: their logarithms, (B, C).
        loc: (B, C, D).
        factor: lower Cholesky factors of the precisions, (B, C, D, D).
    """

    arg_constraints: dict = {}

    def __init__(self, weights: Tensor, loc: Tensor, factor: Tensor) -> None:
        self.weights, self.loc, self.factor = weights.log_softmax(-1), loc, factor
        super().__init__(loc.shape[:1], loc.shape[-1:], validate_args=False)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        shape = torch.Size(sample_shape)
        pick = torch.multinomial(self.weights.exp(), max(shape.numel(), 1), replacement=True)
        row = torch.arange(len(pick), device=pick.device).unsqueeze(-1)
        noise = torch.randn_like(self.loc[row, pick]).unsqueeze(-1)
        upper = self.factor[row, pick].mT
        z = self.loc[row, pick] + torch.linalg.solve_triangular(upper, noise, upper=True)[..., 0]
        return z.transpose(0, 1).reshape(*shape, *z.shape[::2])

    def log_prob(self, z: Tensor) -> Tensor:
        """Of z (..., B, D): (..., B), nats."""
        size = z.shape[-1]
        flat = z.reshape(-1, *z.shape[-2:]).movedim(0, 1).unsqueeze(1)  # (B, 1, n, D)
        white = (flat - self.loc.unsqueeze(-2)) @ self.factor  # (B, C, n, D)
        log_det = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        constant = self.weights + log_det - 0.5 * size * LOG_2PI
        logs = constant.unsqueeze(-1) - 0.5 * white.square().sum(-1)
        return logs.logsumexp(1).T.reshape(z.shape[:-1])


def laplace_mixture(
    prior: MixtureSameFamily,
    likelihoods: Sequence[NormalLikelihood],
    count: int,
    present: Tensor | None = None,
    steps: int = STEPS,
    kept: int = KEPT,
    exponent: Tensor | float = 1.0,
) -> LaplaceMixture:
    """The posterior of a mixture of normals given normal likelihoods, each component's by Gauss and
    Newton's method: the likelihoods' means are linearised at its mode. Exact where they are linear
    and have constant precisions.

    Args:
        prior: C normals with full covariances, of batch_shape ().
        likelihoods: of `count` samples.
        present: (M, B), whether the modality takes part; None: all do.
        steps: how often the means are linearised.
        kept: of the components, the most probable of each sample.
        exponent: of every likelihood.

    Memory: numbers of the order B kept D^2.
    """
    normals: Any = prior.component_distribution
    components, size = normals.loc.shape
    piece = max(1, NUMBERS // (components * size**2))
    powers = Powers(likelihoods, exponent)
    parts = [
        _piece(prior, powers, slice(i, min(i + piece, count)), present, steps, kept)
        for i in range(0, count, piece)
    ]
    return LaplaceMixture(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _piece(
    prior: Any,
    powers: Powers,
    rows: slice,
    present: Tensor | None,
    steps: int,
    kept: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-weights, locations and factors of the samples `rows`."""
    normals, count = prior.component_distribution, rows.stop - rows.start
    inverse = torch.cholesky_inverse(normals.scale_tril)
    z = normals.loc.expand(count, -1, -1)
    for _ in range(steps):
        factor, z, _ = _step(z, normals.loc, inverse, powers, rows, present)
    factor, mode, log_likelihood = _step(z, normals.loc, inverse, powers, rows, present)
    log_prior = prior.mixture_distribution.logits + normals.log_prob(z)
    log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    weights = log_prior + log_likelihood - log_det
    best = weights.topk(min(kept, weights.shape[-1]), -1).indices
    index = torch.arange(count, device=best.device).unsqueeze(-1), best
    return weights[index], mode[index], factor[index]


def _step(
    z: Tensor,
    mean: Tensor,
    inverse: Tensor,
    powers: Powers,
    rows: slice,
    present: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step from z (b, C, D): the factor of the precision, the mode of the linearised posterior,
    and the log-likelihood at z without its constant.
    """
    precision = inverse.expand(*z.shape[:2], -1, -1).clone()
    shift = ((mean - z).unsqueeze(-2) @ inverse).squeeze(-2)
    log_likelihood = z.new_zeros(z.shape[:2])
    t = powers.exponent
    for i, likelihood in enumerate(powers.likelihoods):
        left, slope, weight = likelihood.linear(z, rows)
        if present is not None:
            weight = weight * present[i, rows, None, None]
        weighted = t * slope * weight.unsqueeze(-1)
        precision += weighted.mT @ slope
        shift += (weighted * left.unsqueeze(-1)).sum(-2)
        used = torch.where(weight > 0, weight, 1).log() - weight * left.square()
        log_likelihood += 0.5 * t * used.sum(-1)
    factor = torch.linalg.cholesky(precision)
    return factor, z + torch.cholesky_solve(shift.unsqueeze(-1), factor)[..., 0], log_likelihood
