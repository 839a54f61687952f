"""Inpainting tasks, and the ways in which a denoiser is conditioned on the blocks that are seen.

A conditioning is a value: `conditioning(denoise, task, x, s)` is its estimate of x0 (N, d) from x
(N, d) with noise s, given the seen blocks of the task. `CONDITIONINGS` names them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]  # x (N, d), sigma (N, M) -> E[x0 | x] (N, d)
# x (N, d), seen (N, M), sigma -> gradient of a log-weight (N, d)
EnergyGradient = Callable[[Tensor, Tensor, float], Tensor]

AGAINST = ("unseen", "alone")


@dataclass(frozen=True)
class Inpainting:
    """A task of a sampler: to draw the unseen blocks of N items, given the blocks that are `seen`.

    Args:
        value: (N, d), x0 of the seen blocks; anything elsewhere.
        seen: (N, M) bool; all False: joint samples.
        sizes: dimensions of each block.
        active: (d,) bool: coordinates that exist; the others stay 0. None: all.
        high: the highest sigma that the denoiser was trained with: samplers start there at most,
            and blocks that are left out have it.
    """

    value: Tensor
    seen: Tensor
    sizes: Sequence[int]
    active: Tensor | None = None
    high: float = 80.0
    observed: Tensor = field(init=False)  # (N, d): the coordinates of the seen blocks

    def __post_init__(self) -> None:
        items, blocks, total = *self.seen.shape, sum(self.sizes)
        fits = self.value.shape == (items, total) and blocks == len(self.sizes)
        if not fits or self.seen.dtype != torch.bool:
            raise ValueError(
                f"An inpainting of blocks of sizes {list(self.sizes)} needs value (N, {total})"
                f" and seen (N, {len(self.sizes)}) bool, got {tuple(self.value.shape)} and"
                f" {self.seen.dtype} {tuple(self.seen.shape)}."
            )
        object.__setattr__(self, "observed", spread(self.seen, self.sizes))

    def noise(self) -> Tensor:
        """Standard normal noise (N, d), 0 where a coordinate is not active."""
        return self.only_active(torch.randn_like(self.value))

    def only_active(self, x: Tensor) -> Tensor:
        """x (N, d) with 0 in coordinates that are not active."""
        return x if self.active is None else x * self.active

    def within(self, denoise: Denoise) -> Denoise:
        """`denoise` with 0 in coordinates that are not active."""

        def only_active(x: Tensor, sigma: Tensor) -> Tensor:
            return self.only_active(denoise(x, sigma))

        return only_active

    def put(self, x: Tensor, values: Tensor | None = None) -> Tensor:
        """x with the seen blocks of `values` (N, d) in place; None: their values themselves."""
        return torch.where(self.observed, self.value if values is None else values, x)

    def levels(self, unseen: float, seen: float) -> Tensor:
        """sigma (N, M): `seen` for the seen blocks, `unseen` for the others."""
        return torch.where(self.seen, self.value.new_tensor(seen), self.value.new_tensor(unseen))

    def rows(self, part: slice) -> Inpainting:
        """The same task for some of the items."""
        return Inpainting(self.value[part], self.seen[part], self.sizes, self.active, self.high)


def spread(per_block: Tensor, sizes: Sequence[int]) -> Tensor:
    """(..., M) -> (..., d): each block's entry for each of its coordinates."""
    repeats = torch.tensor(sizes, device=per_block.device)
    return per_block.repeat_interleave(repeats, -1, output_size=sum(sizes))


class Conditioning(ABC):
    """Base of the conditionings.

    `repeats`: how often a solver of single steps takes each step.
    """

    repeats: int = 1

    @abstractmethod
    def __call__(self, denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Tensor:
        """E[x0 | x, seen blocks], (N, d), of x (N, d) whose unseen blocks have noise s."""

    def changes(self, task: Inpainting) -> bool:
        """Whether the draws of this task differ from joint samples."""
        return bool(task.seen.any())


@dataclass(frozen=True)
class Unconditional(Conditioning):
    """Joint samples: all blocks have the same noise."""

    def __call__(self, denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Tensor:
        return denoise(x, task.levels(s, s))


@dataclass(frozen=True)
class Masks(Conditioning):
    """The seen blocks are shown without noise to a denoiser trained with masks (Bounoua et al.
    2024).
    """

    def __call__(self, denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Tensor:
        return denoise(task.put(x), task.levels(s, 0.0))


@dataclass(frozen=True)
class Guidance(Conditioning):
    """D + (weight - 1) (D - D_without): the estimate D of `Masks`, extrapolated from the
    estimate without the seen blocks.

    Args:
        weight: of the guidance; 1 is none.
        against: "unseen": D_without is the estimate of the unseen blocks together, without the seen
            ones (Ho and Salimans 2021); "alone": of each unseen block without any other.
        rescale: whether the guided estimate of an item's unseen blocks is made no longer than D.
            None: only for "alone".
    """

    weight: float = 2.0
    against: str = "unseen"
    rescale: bool | None = None

    def __call__(self, denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Tensor:
        hidden = self._hidden(task)
        points, sigma = _with_hidden(task, task.put(x), task.levels(s, 0.0), hidden)
        clean = denoise(points.flatten(0, 1), sigma.flatten(0, 1)).view(points.shape)
        conditional = clean[0]
        without = torch.where(spread(hidden, task.sizes), 0, clean[1:]).sum(0)
        guided = without + self.weight * (conditional - without)
        return _shortened(guided, conditional, task) if self._rescales() else guided

    def changes(self, task: Inpainting) -> bool:
        return self.against == "alone" or super().changes(task)

    def _hidden(self, task: Inpainting) -> Tensor:
        """The blocks that D_without does not see, (K, N, M): one row for each of its K
        estimates.
        """
        if self.against == "unseen":
            return task.seen.unsqueeze(0)
        items, blocks = task.seen.shape
        others = ~torch.eye(blocks, dtype=torch.bool, device=task.seen.device)
        return others.unsqueeze(1).expand(-1, items, -1)

    def _rescales(self) -> bool:
        return self.against == "alone" if self.rescale is None else self.rescale


def _with_hidden(
    task: Inpainting, x: Tensor, sigma: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """x (N, d) and its sigma (N, M), followed by K copies whose `hidden` blocks (K, N, M) are noise
    of the highest sigma: (K + 1, N, d) and (K + 1, N, M).
    """
    blank = math.sqrt(1 + task.high**2) * torch.stack([task.noise() for _ in hidden])
    copies = torch.where(spread(hidden, task.sizes), blank, x)
    levels = torch.where(hidden, task.high, sigma)
    return torch.cat([x.unsqueeze(0), copies]), torch.cat([sigma.unsqueeze(0), levels])


def _shortened(estimate: Tensor, longest: Tensor, task: Inpainting) -> Tensor:
    """`estimate` (N, d), scaled so that its unseen blocks are no longer than those of `longest`."""
    size, limit = (
        torch.where(task.observed, 0, x).norm(dim=-1, keepdim=True) for x in (estimate, longest)
    )
    return estimate * (limit / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp(max=1)


@dataclass(frozen=True)
class Replacement(Conditioning):
    """The seen blocks are shown with fresh noise of the level of the others. Biased."""

    def __call__(self, denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Tensor:
        return denoise(self.replaced(task, x, s), task.levels(s, s))

    def replaced(self, task: Inpainting, x: Tensor, s: float) -> Tensor:
        """x with the seen blocks at noise level s."""
        return task.put(x, task.value + s * task.noise())


@dataclass(frozen=True)
class CleanReplacement(Replacement):
    """`Replacement` as in the released code of Wesego and Rooshenas (2024): alpha z + sigma z for
    alpha z + sigma eps.
    """

    def replaced(self, task: Inpainting, x: Tensor, s: float) -> Tensor:
        return task.put(x, task.value + s * task.value)


@dataclass(frozen=True)
class RePaint(Replacement):
    """`Replacement`, each step taken `repeats` times with noise added in between (Lugmayr et
    al. 2022).
    """

    repeats: int = 10


@dataclass(frozen=True)
class Energy(Replacement):
    """`Replacement`, with `weight` times an energy's gradient added to the score (Wesego and
    Rooshenas 2024, SBM-VAE-C).

    Raises ValueError without an `energy_gradient`.
    """

    weight: float = 2.0
    energy_gradient: EnergyGradient | None = None

    def __post_init__(self) -> None:
        if self.energy_gradient is None:
            raise ValueError(
                "conditioning=energy needs the energies' gradient, which this model has not"
                " learned; train it with a sampler of conditioning=energy."
            )

    def __call__(self, denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Tensor:
        x = self.replaced(task, x, s)
        gradient = self._gradient(task, x, s)
        return denoise(x, task.levels(s, s)) + self.weight * s * s * gradient

    def _gradient(self, task: Inpainting, x: Tensor, s: float) -> Tensor:
        assert self.energy_gradient is not None
        with torch.enable_grad():
            gradient = self.energy_gradient(x, task.seen, s)
        return task.only_active(gradient)


CONDITIONINGS: dict[str, type[Conditioning]] = {
    "masks": Masks,
    "guidance": Guidance,
    "replacement": Replacement,
    "repaint": RePaint,
    "energy": Energy,
    "clean": CleanReplacement,
}
