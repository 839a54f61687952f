"""Sums and copies over the processes that train together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def add_up(parameters: Sequence[nn.Parameter], sums: Tensor) -> Tensor:
    """Adds up, over the processes, the gradients (in place) and `sums`, in one message.

    Not DistributedDataParallel: a loss is a function of a batch that calls the model's parts, never
    its `forward`, and a parameter may be out of a step's graph; it then adds nothing, and keeps no
    gradient if it is out in every process.
    """
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    dtype = grads[0].dtype
    reached = sums.new_tensor([p.grad is not None for p in parameters], dtype=dtype)
    message = torch.cat([*(g.flatten() for g in grads), reached, sums.to(dtype)])
    torch.distributed.all_reduce(message)
    sizes = [*(g.numel() for g in grads), len(grads), len(sums)]
    *parts, counts, sums = message.split(sizes)
    for p, part, count in zip(parameters, parts, counts.tolist(), strict=True):
        p.grad = part.view_as(p) if count else None
    return sums


def share_buffers(modules: Sequence[nn.Module]) -> None:
    """Gives every process the running statistics of the first one."""
    for module in modules:
        for buffer in module.buffers():
            torch.distributed.broadcast(buffer, 0)
