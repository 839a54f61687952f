"""Convolutional networks for images of any size and number of channels."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from polymodal.networks.layers import ChannelsLast, FromGrid, UpToImage, he, silu

GRID = 4  # the longer side of the grid between convolutions and linear layers, or somewhat more
LEAST = 8  # height and width of images that are read
NARROWEST = 16  # channels at full resolution, at least


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a shape is (C, H, W) with sides that convolutions can halve."""
    return len(shape) == 3 and min(shape[1:]) >= LEAST


def halvings(shape: tuple[int, ...]) -> int:
    """How often convolutions halve an image (C, H, W) down to the grid.

    >>> halvings((3, 28, 28)), halvings((1, 64, 64)), halvings((3, 96, 40))
    (3, 4, 5)
    """
    return max(1, math.ceil(math.log2(max(shape[1:]) / GRID)))


def channels(shape: tuple[int, ...], deepest: int) -> list[int]:
    """The channels after each halving: `deepest` at the grid and half as many at each level above,
    so that all levels take the same time.

    >>> channels((3, 64, 64), 128)
    [16, 32, 64, 128]
    """
    count = halvings(shape)
    return [max(NARROWEST, deepest >> k) for k in reversed(range(count))]


def image_encoder(deepest: int, shape: tuple[int, ...], out: int) -> nn.Module:
    """Strided convolutions with SiLU down to the grid, then a linear layer to `out` features."""
    sizes = [shape[0], *channels(shape, deepest)]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), silu()]
    padded = _Padded(2 ** halvings(shape))
    height, width = _grid(shape)
    last = nn.Linear(sizes[-1] * height * width, out)
    return he(ChannelsLast(padded, *layers, FromGrid(), last))


def image_decoder(deepest: int, dim: int, shape: tuple[int, ...]) -> nn.Module:
    """The mirror image of `image_encoder`; what stands over the image's sides is cut off."""
    *sizes, last = reversed(channels(shape, deepest))
    sizes = [*sizes, last]
    height, width = _grid(shape)
    layers: list[nn.Module] = [
        nn.Linear(dim, sizes[0] * height * width),
        _ToGrid(sizes[0], height, width),
        silu(),
    ]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), silu()]
    layers += [UpToImage(last, shape[0]), _Cut(shape[1], shape[2])]
    network = he(nn.Sequential(*layers))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _grid(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the grid."""
    height, width = (math.ceil(side / 2 ** halvings(shape)) for side in shape[1:])
    return height, width


class _Padded(nn.Module):
    """(B, C, H, W) with sides that are multiples of a number; the edge is repeated."""

    def __init__(self, multiple: int) -> None:
        super().__init__()
        self.multiple = multiple

    def forward(self, x: Tensor) -> Tensor:
        below, right = (-side % self.multiple for side in x.shape[-2:])
        if not below and not right:
            return x
        return nn.functional.pad(x, (0, right, 0, below), mode="replicate")


class _ToGrid(nn.Module):
    """(B, H * W * C) -> (B, C, H, W), channels-last without a copy."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.size = height, width, channels

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.size).permute(0, 3, 1, 2)


class _Cut(nn.Module):
    """The upper left part (B, C, height, width) of images."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.height, : self.width]
