"""Random numbers: streams that are functions of keys, and noise for a batch that several processes
share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_SHARD: ContextVar[tuple[int, int]] = ContextVar("shard", default=(0, 1))


@contextmanager
def shard(rank: int, world: int) -> Iterator[None]:
    """Inside, noise is drawn for the global batch of which this process holds the `rank`-th of
    `world` equal parts.

    With the same random state in every process, all processes together draw what one process with
    the whole batch would draw.
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
    whole = draw(*lead, size * world, dim, dtype=like.dtype, device=like.device)
    return whole.narrow(-2, rank * size, size)


def stream(*keys: Any) -> int:
    """A seed that is a function of `keys` (numbers and words)."""
    return int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:8], "big")


def seed_all(device: torch.device, *keys: Any) -> None:
    """Sets torch's random streams on the CPU and on `device` to a function of `keys`."""
    seed = stream(*keys)
    # torch.manual_seed is slow: it queues a call for every absent GPU.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Inside, the caller's random streams on the CPU and on `device` are left as they were."""
    devices = [device] if device.type == "cuda" else []
    state = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            if state is not None:
                torch.mps.set_rng_state(state)
