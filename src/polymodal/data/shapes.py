"""Circles and squares, a toy set of two modalities."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import Count, Seed, check_memory
from polymodal.data.dataset import consecutive
from polymodal.data.splits import Splits

SIZE, THICKNESS, RADII = 32, 0.25, (0.3, 0.9)


def _draw(distance: Tensor, radius: Tensor, full: Tensor) -> Tensor:
    """(N, 1, 32, 32) uint8, 255 inside: distance <= r when full, |distance - r| <= thickness / 2
    when empty.
    """
    inner = torch.where(full, -1.0, radius - THICKNESS / 2)[:, None, None, None]
    outer = torch.where(full, radius, radius + THICKNESS / 2)[:, None, None, None]
    return ((distance >= inner) & (distance <= outer)).to(torch.uint8).mul_(255)


def _grid() -> tuple[Tensor, Tensor]:
    axis = torch.linspace(-1, 1, SIZE, dtype=torch.float64)
    return axis[:, None], axis[None, :]


def circles(radius: Tensor, full: Tensor) -> Tensor:
    """Circles on the square [-1, 1]^2 as hard-edged (N, 1, 32, 32) uint8 images; radius (N,), full
    (N,) bool.
    """
    y, x = _grid()
    return _draw((x.square() + y.square()).sqrt(), radius, full)


def squares(radius: Tensor, full: Tensor) -> Tensor:
    """Squares on a corner, |x| + |y| <= radius, as images like those of `circles`."""
    y, x = _grid()
    return _draw(x.abs() + y.abs(), radius, full)


def _radii(n: int, generator: torch.Generator) -> Tensor:
    return torch.empty(n, dtype=torch.float64).uniform_(*RADII, generator=generator)


def shapes(*, n: Count = 10_000, seed: Seed = 0) -> Splits:
    """Squares and circles that are both full or both empty (Senellart et al. 2023, section 5.1).

    Images are 32 x 32 with hard edges; radii are independent and U(.3, .9), contours .25 thick,
    squares the balls of |x| + |y|. 70 % of the pairs are for training, of which a tenth is
    validation, and 30 % for testing. The label is 1 for full, 0 for empty: all the information that
    the modalities share. The likelihood is the normal of scale 1 around a sigmoid that the paper
    uses for images; since the values are 0 and 1, "bernoulli" is also possible.

    Raises ValueError for n < 15, too few to be split.

    >>> batch = shapes(n=20).train.batch(torch.tensor([0]))
    >>> batch.x["square"].shape, batch.x["circle"].unique()
    (torch.Size([1, 1, 32, 32]), tensor([0., 1.]))
    """
    if n < 15:
        raise ValueError(f"shapes needs n of at least 15 to be split, got {n}.")
    check_memory(10.0 * n * SIZE**2, f"shapes with n={n:,} needs", "lower data.n")
    generator = torch.Generator().manual_seed(seed)
    full = torch.rand(n, generator=generator) < 0.5
    tables = {
        "square": squares(_radii(n, generator), full),
        "circle": circles(_radii(n, generator), full),
    }
    modalities = [Modality(m, (1, SIZE, SIZE), link="sigmoid") for m in tables]
    training = round(0.7 * n)
    held_out = training // 10
    sizes = (training - held_out, held_out, n - training)
    train, val, test = consecutive(modalities, tables, full.long(), sizes)
    return Splits(train, val, test, "shapes")
