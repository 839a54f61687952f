"""The trace of a Jacobian, exact or by random directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vmap


def divergence(
    field: Callable[[Tensor], Tensor],
    x: Tensor,
    probes: int | None = None,
    active: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """field(x) (N, d) and tr grad field(x) (N,): exactly with d directions, or by Hutchinson's
    estimate.

    Args:
        probes: None: exact; else random sign vectors, so many for each sample.
        active: (N, d) or (d,) bool: the trace over these coordinates alone; None: all.
    """
    d = x.shape[1]
    if probes is None:
        each = torch.eye(d).to(x)
        if active is not None:
            each = each[active.reshape(-1, d).any(0)]
        directions = each.unsqueeze(1).expand(len(each), len(x), d)
    else:
        directions = torch.randint(0, 2, (probes, *x.shape), device=x.device).to(x) * 2 - 1
    if active is not None:
        directions = directions * active
    found: tuple[Tensor, Tensor] = vmap(lambda v: jvp(field, (x,), (v,)))(directions)  # type: ignore[assignment]
    total = (directions * found[1]).sum(-1)
    return found[0][0], total.sum(0) if probes is None else total.mean(0)
