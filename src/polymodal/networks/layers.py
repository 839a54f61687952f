"""Layers: multilayer perceptrons, channels-last convolutions, fast upsampling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def relu() -> nn.Module:
    """ReLU in place, after a layer whose output is a new tensor: one pass over memory less."""
    return nn.ReLU(inplace=True)


def silu() -> nn.Module:
    """SiLU in place, see `relu`."""
    return nn.SiLU(inplace=True)


def strided(
    inputs: int, outputs: int, kernel: int, activation: Callable[[], nn.Module] = relu
) -> list[nn.Module]:
    """A convolution that halves the image's side, and an activation."""
    return [nn.Conv2d(inputs, outputs, kernel, 2, 1), activation()]


def mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these sizes with ReLU between them, none at the end; a hidden size of 0 is
    left out.
    """
    layers: list[nn.Module] = []
    first, *hidden, last = sizes
    for a, b in pairwise([first, *filter(None, hidden), last]):
        layers += [nn.Linear(a, b), relu()]
    return nn.Sequential(*layers[:-1])


class LinearAnd(nn.Module):
    """A linear map, plus a network of the same sizes whose last layer starts at 0.

    Args:
        net: linear layers and activations; the first and the last have the sizes of the map.
    """

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        first, last = (module for module in (net[0], net[-1]) if isinstance(module, nn.Linear))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.linear, self.net = nn.Linear(first.in_features, last.out_features), net

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.net(x)


class Reshape(nn.Module):
    """(B, prod(shape)) -> (B, *shape)."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, *self.shape)


class CountFeatures(nn.Module):
    """log(1 + x / mean(x)) of counts x (B, d), and log(1 + mean(x)): (B, d + 1). Of other shapes
    (B, *shape) it is log(1 + x).

    A count of thousands becomes a number of a few, and the size of a sample is told apart from what
    it is made of.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp_min(0)  # learned pseudo-inputs may be negative
        if x.dim() != 2:
            return x.log1p()
        size = x.mean(-1, keepdim=True)
        return torch.cat([x / size.clamp_min(1e-6), size], -1).log1p()


class ChannelsLast(nn.Module):
    """A convolutional network with weights and activations channels-last in memory: the same
    numbers, faster.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        network = nn.Sequential(*layers)
        self.layers = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.contiguous(memory_format=torch.channels_last))


class ToGrid(nn.Module):
    """(B, C*H*W) -> (B, C, H, W) channels-last without a copy, the output of a transposed
    convolution of a 1x1 map.
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

    The blocks hold the pixels 2i - 1 and 2i, which depend only on the inputs i - 1 and i.

    >>> up, x = UpToImage(8, 3), torch.randn(2, 8, 5, 5)
    >>> torch.allclose(up(x), up.conv(x), atol=1e-5)
    True
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(channels, out, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = self._weight()
        bias = None if self.conv.bias is None else self.conv.bias.repeat(4)
        # The image itself is computed in full precision, which costs nothing.
        with torch.autocast(x.device.type, enabled=False):
            x, weight = x.to(weight.dtype), weight.contiguous(memory_format=torch.channels_last)
            blocks = nn.functional.conv2d(x, weight, bias, padding=1)
        return self._image(blocks)

    def _weight(self) -> Tensor:
        """The weight of the 2x2 convolution, (4 * out, in, 2, 2)."""
        kernel = self.conv.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2))
        taps = kernel.flip(2, 4)  # in, out, (place, pixel) twice
        return taps.permute(3, 5, 1, 0, 2, 4).reshape(4 * self.conv.out_channels, -1, 2, 2)

    def _image(self, blocks: Tensor) -> Tensor:
        """Blocks (B, 4 * out, H + 1, W + 1) as an image (B, out, 2 H, 2 W)."""
        out = self.conv.out_channels
        size, _, height, width = blocks.shape
        pixels = blocks.permute(0, 2, 3, 1).unflatten(-1, (2, 2 * out)).transpose(2, 3)
        image = pixels.reshape(size, 2 * height, 2 * width, out)
        return image[:, 1:-1, 1:-1].permute(0, 3, 1, 2)


class ResBlock(nn.Module):
    """x + conv3(ReLU(conv3(ReLU(x)))), channels kept."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d


def he(net: nn.Module) -> nn.Module:
    """Initialises weights with variance 2 / n for n inputs of an output, and biases with 0 (He et
    al. 2015). With SiLU, signals then lose 15 to 40 % of their size from layer to layer; by torch's
    own initialisation they shrink three- to fivefold, and a decoder then gives a mean image for
    hundreds of steps.
    """
    for layer in net.modules():
        if isinstance(layer, Weighted):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / _inputs(layer)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def _inputs(layer: Weighted) -> float:
    """How many inputs an output of the layer sees, on average."""
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / math.prod(layer.stride)
    return float(layer.weight[0].numel())
