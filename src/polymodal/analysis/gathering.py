"""Rows of a batch that several processes share, gathered in every process."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


class _Gather(torch.autograd.Function):
    """Rows of all ranks, in order of rank; backward gives each rank the sum over ranks of its rows'
    gradients.

    (`torch.distributed.nn.functional.all_gather` does the same, but is deprecated.)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ranks = range(distributed.get_world_size())
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in ranks]
        distributed.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(grad)
        return grad.chunk(distributed.get_world_size())[distributed.get_rank()]


def rank_among() -> tuple[int, int]:
    """The rank of this process and how many train together; (0, 1) for a single one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def gathered(x: Tensor) -> Tensor:
    """The rows of x of all processes, in order of rank; x itself in a single process.

    Every process must call it with the same shape, in the same order. Each then computes the same
    global value, and the mean over ranks that data parallelism takes of the gradients is the
    gradient of one process with the whole batch.
    """
    return _Gather.apply(x) if rank_among()[1] > 1 else x


def is_shared() -> bool:
    """Whether several processes train together, each on its share of a batch: not in validation,
    where gradients are off and every process has all of the data.
    """
    return torch.is_grad_enabled() and rank_among()[1] > 1


def own_rows(x: Tensor) -> Tensor:
    """The rows of this process in what `gathered` gave."""
    rank, world = rank_among()
    return x.chunk(world)[rank]
