"""Layers: multilayer perceptrons, channels-last convolutions, fast upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

HEAP = 2**25 - 2**14  # bytes, just below 32 MB


def keep_heap() -> None:
    """Has glibc keep freed memory, up to 64 MB, instead of mapping it afresh for every layer: 5 to
    20 % of the time.

    Freeing a block just below 32 MB raises its thresholds to that (mallopt(3), M_MMAP_THRESHOLD);
    elsewhere it is nothing.
    """
    torch.empty(HEAP, dtype=torch.uint8)


def relu() -> nn.Module:
    """In place, for behind a layer that makes a tensor of its own: one pass over new memory less."""
    return nn.ReLU(inplace=True)


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of the given sizes with ReLU between them, none at the end; a hidden size of 0
    is no layer.
    """
    layers: list[nn.Module] = []
    first, *hidden, last = sizes
    for a, b in pairwise([first, *filter(None, hidden), last]):
        layers += [nn.Linear(a, b), relu()]
    return nn.Sequential(*layers[:-1])


class Reshape(nn.Module):
    """(B, prod(shape)) -> (B, *shape)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)


class ChannelsLast(nn.Module):
    """A convolutional network whose weights and activations lie channels-last in memory: faster,
    the same numbers.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class ToGrid(nn.Module):
    """(B, C*H*W) -> (B, C, H, W) channels-last without a copy, as a transposed convolution of a 1x1
    map gives it.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, self.size, self.size, self.channels).permute(0, 3, 1, 2)


class FromGrid(nn.Module):
    """(B, C, H, W) channels-last -> (B, H*W*C) without a copy."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class UpToImage(nn.Module):
    """`nn.ConvTranspose2d(channels, out, 4, 2, 1)`, computed as a 2x2 convolution to 4 * out
    channels, one for each pixel of a 2x2 block: the same numbers and gradients, three times as fast
    for the few channels of an image.

    The blocks hold the pixels 2i - 1 and 2i, which see the inputs i - 1 and i alone.

    >>> up, x = UpToImage(8, 3), torch.randn(2, 8, 5, 5)
    >>> torch.allclose(up(x), up.conv(x), atol=1e-5)
    True
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, out, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv.out_channels
        taps = (
            self.conv.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)
        )  # in, out, (place, pixel) twice
        weight = taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * out, -1, 2, 2)
        bias = None if self.conv.bias is None else self.conv.bias.repeat(4)
        with torch.autocast(
            x.device.type, enabled=False
        ):  # the image itself in full precision, for nothing
            x, weight = x.to(weight.dtype), weight.contiguous(memory_format=torch.channels_last)
            y = nn.functional.conv2d(x, weight, bias, padding=1)
        size, _, height, width = y.shape
        y = y.permute(0, 2, 3, 1).unflatten(-1, (2, 2 * out)).transpose(2, 3)
        return y.reshape(size, 2 * height, 2 * width, out)[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """x + conv3(ReLU(conv3(ReLU(x)))), channels kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = lambda: nn.Conv2d(channels, channels, 3, padding=1)
        self.body = nn.Sequential(nn.ReLU(), conv(), nn.ReLU(), conv())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
