"""What a diffusion sampler is to draw, and how it is conditioned on the blocks that are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]  # x (N, d), sigma (N, M) -> E[x0 | x] (N, d)
Pull = Callable[
    [Tensor, Tensor, float], Tensor
]  # x (N, d), seen (N, M), sigma -> gradient of a log-weight (N, d)

CONDITIONINGS = ("masks", "guidance", "replacement", "repaint", "energy", "clean")
AGAINST = ("unseen", "alone")


@dataclass(frozen=True)
class Inpainting:
    """What is to be drawn: blocks of `sizes` for N items, given the blocks that are `seen`.

    Args:
        value: (N, d), x0 of the blocks that are seen; anything elsewhere.
        seen: (N, M) bool; all False: joint samples.
        sizes: dimensions of each block.
        active: (d,) bool: coordinates that exist; the others stay 0. None: all.
        high: the highest sigma that the denoiser knows: samplers start there at most, and blocks
            left out have it.
    """

    value: Tensor
    seen: Tensor
    sizes: Sequence[int]
    active: Tensor | None = None
    high: float = 80.0
    known: Tensor = field(init=False)  # (N, d): which coordinates are given

    def __post_init__(self) -> None:
        n, m = self.seen.shape
        if (
            self.value.shape != (n, sum(self.sizes))
            or m != len(self.sizes)
            or self.seen.dtype != torch.bool
        ):
            raise ValueError(
                f"A task of blocks of sizes {list(self.sizes)} needs value (N, {sum(self.sizes)})"
                f" and seen (N, {len(self.sizes)}) bool, got {tuple(self.value.shape)} and"
                f" {self.seen.dtype} {tuple(self.seen.shape)}."
            )
        object.__setattr__(self, "known", spread(self.seen, self.sizes))

    def noise(self) -> Tensor:
        """Standard normal, (N, d), 0 where a coordinate is not active."""
        eps = torch.randn_like(self.value)
        return eps if self.active is None else eps * self.active

    def within(self, denoise: Denoise) -> Denoise:
        """`denoise` with nothing in coordinates that are not active."""
        active = self.active
        return denoise if active is None else lambda x, sigma: denoise(x, sigma) * active

    def put(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        """x with what is known in its place: `known`, by default the values themselves."""
        return torch.where(self.known, self.value if known is None else known, x)

    def levels(self, unknown: float, known: float) -> Tensor:
        """sigma (N, M): `known` for the blocks that are seen, `unknown` for the others."""
        return torch.where(self.seen, self.value.new_tensor(known), self.value.new_tensor(unknown))

    def rows(self, part: slice) -> Inpainting:
        """Some of the items."""
        return Inpainting(self.value[part], self.seen[part], self.sizes, self.active, self.high)


def spread(per_block: Tensor, sizes: Sequence[int]) -> Tensor:
    """(..., M) -> (..., d): each block's entry for each of its coordinates."""
    repeats = torch.tensor(sizes, device=per_block.device)
    return per_block.repeat_interleave(repeats, -1, output_size=sum(sizes))
