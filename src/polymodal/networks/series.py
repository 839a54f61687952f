"""Networks of series: convolutions over time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

WIDTHS = (32, 64, 64)  # channels of the levels, each of half the length
SHORTEST = 8  # steps


def is_series(shape: Sequence[int]) -> bool:
    """Whether values of this shape are (channels, length), long enough for the levels.

    >>> is_series((2, 100)), is_series((100,))
    (True, False)
    """
    return len(shape) == 2 and shape[1] >= SHORTEST


def _coarsest(length: int) -> int:
    """The length of the coarsest level."""
    return math.ceil(length / 2 ** len(WIDTHS))


class Cut(nn.Module):
    """The first steps of (B, C, L)."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.length]


def series_encoder(shape: Sequence[int], out: int) -> nn.Module:
    """(B, C, L) -> (B, out): three convolutions of kernel 5 and stride 2."""
    layers: list[nn.Module] = []
    before = shape[0]
    for width in WIDTHS:
        layers += [nn.Conv1d(before, width, 5, 2, 2), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * _coarsest(shape[1]), out))


def series_decoder(dim: int, shape: Sequence[int]) -> nn.Module:
    """(B, dim) -> (B, C, L): the same levels upwards, and a convolution to the channels."""
    widths, length = [*reversed(WIDTHS)], _coarsest(shape[1])
    layers: list[nn.Module] = [nn.Linear(dim, widths[0] * length), nn.ReLU()]
    layers.append(nn.Unflatten(1, (widths[0], length)))
    for before, width in zip(widths, [*widths[1:], WIDTHS[0]], strict=True):
        layers += [nn.ConvTranspose1d(before, width, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv1d(WIDTHS[0], shape[0], 5, 1, 2), Cut(shape[1]))
