"""The trace and the diagonal of a Jacobian, exact or by random directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vmap

Field = Callable[[Tensor], Tensor]


def jacobian_trace(
    field: Field, x: Tensor, probes: int | None = None, active: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """field(x) (N, d) and tr grad field(x) (N,): exactly with d directions, or by Hutchinson's
    estimate.

    Args:
        probes: how many random sign vectors for each sample; None: exact.
        active: (N, d) or (d,) bool: the trace over only these coordinates; None: all.
    """
    exact = probes is None
    directions = _axes(x, active) if probes is None else _signs(x, probes)
    if active is not None:
        directions = directions * active
    value, each = _slopes(field, x, directions)
    return value, each.sum(0) if exact else each.mean(0)


def diagonal(field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
    """field(x) and the derivative of each of its coordinates by the same coordinate of x, both
    (N, d).
    """
    value, each = _slopes(field, x, _axes(x, None))
    return value, each.T


def _slopes(field: Field, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """field(x) (N, d) and v' grad field(x) v for directions v (K, N, d), (K, N)."""
    if not len(directions):
        return field(x), directions.sum(-1)
    values, slopes = vmap(lambda v: jvp(field, (x,), (v,)))(directions)  # type: ignore[misc]
    return values[0], (directions * slopes).sum(-1)


def _axes(x: Tensor, active: Tensor | None) -> Tensor:
    """The unit vectors of the coordinates that are active for some sample, (K, N, d)."""
    samples, d = x.shape
    axes = torch.eye(d).to(x)
    if active is not None:
        axes = axes[active.reshape(-1, d).any(0)]
    return axes.unsqueeze(1).expand(len(axes), samples, d)


def _signs(x: Tensor, probes: int) -> Tensor:
    """Random sign vectors, (probes, N, d)."""
    return torch.randint(0, 2, (probes, *x.shape), device=x.device).to(x) * 2 - 1
