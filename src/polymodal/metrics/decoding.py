"""Decoding many latents: in pieces that fit into memory, and in which precision."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from polymodal.model import MultimodalVAE, decoded_size

Precision = Literal["bf16"]
PRECISIONS = (None, "bf16")
# Bytes that one decoding may use. On a CPU more is slower: the activations then leave the cache,
# and the allocator maps buffers of more than 32 MB afresh every time.
MEMORY = {"cpu": 48 * 2**20}
MEMORY_ELSEWHERE = 2**31
# A decoder holds for each latent 8 times the numbers of the largest modality, at least 8 x 512.
HIDDEN, ACTIVATIONS = 512, 8


def autocast(precision: Precision | None, device: torch.device) -> AbstractContextManager:
    """The context in which networks run in `precision`. Raises ValueError for an unknown one."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}.")
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def pieces(total: int, most: int) -> Iterator[slice]:
    """range(total) cut evenly into the fewest slices of at most `most`.

    >>> list(pieces(10, 4))
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    size = math.ceil(total / max(1, math.ceil(total / max(1, most)))) or 1
    return (slice(i, min(i + size, total)) for i in range(0, total, size))


@dataclass(frozen=True)
class Decoding:
    """How decoders run on many latents.

    Args:
        precision: "bf16" decodes in bfloat16 (densities and sums stay in float32), which is
            faster on CPUs with AVX512-BF16 (`benchmarks/results/speed.md`); the error of an image's
            log-density grows as scale^-2. None: the model's own precision.
        memory: bytes that one decoding may use, about; None: 48 MiB on a CPU, 2 GiB elsewhere.

    Raises ValueError for an unknown precision.
    """

    precision: Precision | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        autocast(self.precision, torch.device("cpu"))

    def rows(self, model: MultimodalVAE, names: Iterable[str], device: torch.device) -> int:
        """How many latents to decode at once into the modalities `names`."""
        memory = self.memory
        if memory is None:
            memory = MEMORY.get(device.type, MEMORY_ELSEWHERE)
        wanted = set(names)
        largest = max(decoded_size(m) for m in model.modalities if m.name in wanted)
        return max(1, memory // (4 * ACTIVATIONS * max(HIDDEN, largest)))

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """The context in which decoders run."""
        return autocast(self.precision, device)

    @torch.no_grad()
    def means(
        self, model: MultimodalVAE, target: str, z: Tensor, most: int | None = None
    ) -> Iterator[Tensor]:
        """The means of p(x_target | z) for latents z (N, D), in pieces of at most `most`.

        A mean has the precision in which it was computed.
        """
        rows = self.rows(model, [target], z.device)
        for piece in pieces(len(z), rows if most is None else min(rows, most)):
            with self.autocast(z.device):
                mean = model.decoders[target](z[piece]).mean
            yield mean


DECODING = Decoding()
