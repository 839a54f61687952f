"""The metric of an item: linear coordinates in which its density is as round as possible, z = A u.

It is learned from positions *and* gradients (Seyboldt, Carlson & Carpenter 2026, arXiv:2603.18845):
the matrix that minimises the Fisher divergence of the density of u from N(0, I) is the geometric
mean of the positions' covariance and the gradients' inverse covariance. For a normal density g = -P
(z - mean), so this is P^-1 whatever the distribution of the points: chains that start too far apart
teach the metric as well as settled chains, from D + 1 points on.
"""

from __future__ import annotations

import torch
from torch import Tensor

DENSE_LIMIT = 128
SHRINKAGE = 0.1


def forward(factor: Tensor | None, u: Tensor) -> Tensor:
    """A u. Args: `factor` (B, D, D), its diagonal (B, D), or None for the identity; `u` (..., B,
    D).
    """
    if factor is None:
        return u
    return factor * u if factor.dim() == 2 else torch.einsum("bij,...bj->...bi", factor, u)


def backward(factor: Tensor | None, grad: Tensor) -> Tensor:
    """A^T grad, the gradient with respect to u. Args: as in `forward`."""
    if factor is None or factor.dim() == 2:
        return forward(factor, grad)
    return torch.einsum("bji,...bj->...bi", factor, grad)


def scale(z: Tensor, grad: Tensor) -> Tensor:
    """The best diagonal factor, (Var z / Var grad)^(1/4), (B, D).

    Args:
        z: (N, B, D) points.
        grad: (N, B, D), gradients of the log-density there.
    """
    return _root(_variance(z), _variance(grad))


def _variance(x: Tensor) -> Tensor:
    """The variance over the points (N, B, D), (B, D); 1 for a single point."""
    return x.var(0, correction=0) if len(x) > 1 else torch.ones_like(x[0])


def first(z: Tensor, grad: Tensor) -> Tensor:
    """A first metric: `scale` as a matrix (B, D, D); as a diagonal (B, D) above DENSE_LIMIT
    dimensions. Arguments as for `scale`.
    """
    factor = scale(z, grad)
    return factor if z.shape[-1] > DENSE_LIMIT else torch.diag_embed(factor)


def _root(spread: Tensor, slope: Tensor) -> Tensor:
    """(spread / slope)^(1/4), bounded to what one estimate can show; 1 where either is unknown."""
    ratio = (spread / slope).pow(0.25)
    return torch.where((spread > 0) & (slope > 0) & ratio.isfinite(), ratio, 1).clamp(1e-4, 1e4)


def update(factor: Tensor, z: Tensor, grad: Tensor) -> Tensor:
    """The factor A with A A^T the geometric mean of cov(z) and cov(grad)^-1, shrunk a little
    towards the old one.

    Args:
        factor: the old A, (B, D, D), or (B, D) for a diagonal metric.
        z: (N, B, D) points.
        grad: (N, B, D), gradients of the log-density there.

    Returns: the new A, of the shape of the old one.
    """
    if factor.dim() == 2:
        return factor * scale(z / factor, grad * factor)
    weight = len(z) / (len(z) + SHRINKAGE)
    u = torch.linalg.solve(factor, (z - z.mean(0)).permute(1, 2, 0))
    slope = factor.mT @ (grad - grad.mean(0)).permute(1, 2, 0)
    spread, size = _covariance(u, weight)
    steepness, steep = _covariance(slope, weight)
    lower = torch.linalg.cholesky(steepness)
    values, vectors = torch.linalg.eigh(lower.mT @ spread @ lower)
    # The root A A^T = L^-T V values^(1/2) V^T L^-1 solves  A A^T steepness A A^T = spread.
    vectors = vectors * values.clamp_min(1e-12).pow(0.25).unsqueeze(-2)
    root = torch.linalg.solve_triangular(lower.mT, vectors, upper=True)
    moved = (size > 0) & (steep > 0)
    new = factor @ root * _root(size, steep)[:, None, None]
    return torch.where(moved[:, None, None], new, factor)


def _covariance(x: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """Covariance of (B, D, N) over its mean variance, shrunk to I; and the mean variance. I where
    it is not finite.
    """
    eye = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    size = x.square().mean((1, 2))
    normed = x / size.clamp_min(torch.finfo(x.dtype).tiny).sqrt()[:, None, None]
    covariance = weight * (normed @ normed.mT / x.shape[2]) + (1 - weight) * eye
    good = covariance.isfinite().all(-1).all(-1) & (size > 0)
    return torch.where(good[:, None, None], covariance, eye), torch.where(good, size, torch.nan)
