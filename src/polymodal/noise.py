"""Random numbers for a batch of which each process may hold a part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_SHARD: ContextVar[tuple[int, int]] = ContextVar("shard", default=(0, 1))


@contextmanager
def shard(rank: int, world: int) -> Iterator[None]:
    """Inside, noise is drawn for the global batch of which this process holds the `rank`-th of `world` equal parts.

    With the same random state in every process, they together draw what one process with the whole batch would draw.
    """
    token = _SHARD.set((rank, world))
    try:
        yield
    finally:
        _SHARD.reset(token)


def noise(like: Tensor, shape: Sequence[int], draw: Callable[..., Tensor] = torch.randn) -> Tensor:
    """`draw` of `shape` (..., B, D) with the dtype and device of `like`; see `shard`."""
    rank, world = _SHARD.get()
    if world == 1:
        return draw(*shape, dtype=like.dtype, device=like.device)
    *lead, size, dim = shape
    return draw(*lead, size * world, dim, dtype=like.dtype, device=like.device).narrow(-2, rank * size, size)
