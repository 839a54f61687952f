"""Network architectures by name: `NETWORKS`.

A network is a pair: an encoder (x of shape (B, *shape) -> (B, out)) and a decoder (z (B, D) -> (B,
*out_shape)). Neither ends in an activation: the head or the likelihood's link maps the last layer's
output. Convolutions run channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from polymodal.batch import Modality
from polymodal.checks import check_name
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.networks.layers import (
    ChannelsLast,
    CountFeatures,
    FromGrid,
    ResBlock,
    Reshape,
    ToGrid,
    UpToImage,
    mlp,
    relu,
    silu,
    strided,
)

Shape = tuple[int, ...]
Activation = Callable[[], nn.Module]


def _any_shape(shape: Shape) -> bool:
    return True


@dataclass(frozen=True)
class Network:
    """A pair of builders.

    Args:
        encoder: `encoder(shape, out)`.
        decoder: `decoder(dim, shape)`.
        fits: `fits(shape)`, whether it can read values of this shape.
    """

    encoder: Callable[[Shape, int], nn.Module]
    decoder: Callable[[int, Shape], nn.Module]
    fits: Callable[[Shape], bool] = _any_shape


def _mlp(*hidden: int) -> Network:
    return Network(partial(_mlp_encoder, hidden), partial(_mlp_decoder, hidden))


def _mlp_encoder(hidden: tuple[int, ...], shape: Shape, out: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *mlp([math.prod(shape), *hidden, out]))


def _mlp_decoder(hidden: tuple[int, ...], dim: int, shape: Shape) -> nn.Module:
    return nn.Sequential(*mlp([dim, *reversed(hidden), math.prod(shape)]), Reshape(shape))


def _channels_last(*layers: nn.Module) -> nn.Module:
    """The layers one after the other, their weights channels-last in memory."""
    network = nn.Sequential(*layers)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _svhn_encoder(shape: Shape, out: int) -> nn.Module:
    last = nn.Linear(2048, out)  # the paper's convolution to `out` channels of a 4x4 map
    return ChannelsLast(
        *strided(shape[0], 32, 4),
        *strided(32, 64, 4),
        *strided(64, 128, 4),
        FromGrid(),
        last,
    )


def _svhn_decoder(dim: int, shape: Shape) -> nn.Module:
    return _channels_last(
        nn.Linear(dim, 2048),  # the paper's transposed convolution of a 1x1 map
        ToGrid(128, 4),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1),
        relu(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        relu(),
        UpToImage(32, shape[0]),
    )


def _celeba_encoder(shape: Shape, out: int) -> nn.Module:
    return ChannelsLast(
        *strided(shape[0], 64, 4),
        *strided(64, 128, 4),
        *strided(128, 128, 3),
        *strided(128, 128, 3),
        ResBlock(128),
        ResBlock(128),
        FromGrid(),
        nn.Linear(2048, out),
    )


def _celeba_decoder(dim: int, shape: Shape) -> nn.Module:
    """D_1 of Senellart et al. (2023), table 5, with ReLU where the table has a sigmoid between
    transposed convolutions; the link ends it.
    """
    return _channels_last(
        nn.Linear(dim, 2048),
        ToGrid(128, 4),
        nn.ConvTranspose2d(128, 128, 3, 2, 1, output_padding=1),
        ResBlock(128),
        ResBlock(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 128, 5, 2, 2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 5, 2, 2, output_padding=1),
        nn.ReLU(),
        UpToImage(64, shape[0]),
    )


def _celebahq_encoder(shape: Shape, out: int) -> nn.Module:
    return ChannelsLast(
        *strided(shape[0], 32, 4),
        *strided(32, 64, 4),
        *strided(64, 128, 4),
        *strided(128, 128, 4),
        *strided(128, 128, 4),
        ResBlock(128),
        FromGrid(),
        nn.Linear(2048, out),
    )


def _celebahq_decoder(dim: int, shape: Shape) -> nn.Module:
    return _channels_last(
        nn.Linear(dim, 2048),
        ToGrid(128, 4),
        ResBlock(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 128, 4, 2, 1),
        relu(),
        nn.ConvTranspose2d(128, 128, 4, 2, 1),
        relu(),
        nn.ConvTranspose2d(128, 64, 4, 2, 1),
        relu(),
        nn.ConvTranspose2d(64, 32, 4, 2, 1),
        relu(),
        UpToImage(32, shape[0]),
    )


def _digit(width: int, activation: Activation = relu, kernel: int = 3) -> Network:
    """Three strided convolutions of `width`, twice and four times as many channels, for 28x28
    images. With another activation than ReLU the weights are initialised by `_he`.
    """
    encoder = partial(_digit_encoder, width, activation, kernel)
    return Network(encoder, partial(_digit_decoder, width, activation), _square(28))


def _digit_encoder(
    width: int, activation: Activation, kernel: int, shape: Shape, out: int
) -> nn.Module:
    net = ChannelsLast(
        *strided(shape[0], width, kernel, activation),
        *strided(width, 2 * width, kernel, activation),
        *strided(2 * width, 4 * width, 3, activation),
        FromGrid(),
        nn.Linear(64 * width, out),
    )
    return net if activation is relu else _he(net)


def _digit_decoder(width: int, activation: Activation, dim: int, shape: Shape) -> nn.Module:
    net: nn.Module = nn.Sequential(
        nn.Linear(dim, 64 * width),
        ToGrid(4 * width, 4),
        nn.ReLU() if activation is relu else activation(),
        nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1),
        activation(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        activation(),
        UpToImage(width, shape[0]),
    )
    net = net if activation is relu else _he(net)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _he(net: nn.Module) -> nn.Module:
    """Initialises weights with variance 2 / n for n inputs of an output, and biases with 0 (He et
    al. 2015). With SiLU, signals then lose 15 to 40 % of their size from layer to layer; by torch's
    own initialisation they shrink three- to fivefold, and a decoder then gives a mean image for
    hundreds of steps.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / _inputs(layer)))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def _inputs(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> float:
    """How many inputs an output of the layer sees, on average."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() / math.prod(layer.stride)
    return float(layer.weight[0].numel())


def _square(size: int) -> Callable[[Shape], bool]:
    """Whether a shape is that of square images of `size` pixels a side."""
    return lambda shape: len(shape) == 3 and shape[1:] == (size, size)


_SVHN = Network(_svhn_encoder, _svhn_decoder, _square(32))
_CELEBA = Network(_celeba_encoder, _celeba_decoder, _square(64))
_CELEBAHQ = Network(_celebahq_encoder, _celebahq_decoder, _square(128))

# `polymodal list networks` shows these comments.
NETWORKS: dict[str, Network] = {
    "mlp": _mlp(512),  # MLP with one hidden layer of 512 (Senellart et al. 2023, tables 4 and 5)
    "mlp-2x512": _mlp(512, 512),  # MLP with two hidden layers of 512
    "mlp-small": _mlp(64, 64),  # MLP with two hidden layers of 64, for quick trials and small data
    "svhn-conv": _SVHN,  # convolutions for 32x32 images (Senellart et al. 2023, table 4, E_2, D_2)
    "linear": _mlp(),  # one linear layer, for data that are linear and normal
    "digit-conv": _digit(32),  # 3 strided convolutions for 28x28 (PolyMNIST, Sutter et al. 2021)
    "digit-conv-small": _digit(16),  # digit-conv with half the channels
    "digit-silu": _digit(
        16, silu, 4
    ),  # digit-conv-small with SiLU: bears 3 times the learning rate
    "celeba-conv": _CELEBA,  # residual, for 64x64 images (Senellart et al. 2023, table 5, E_1, D_1)
    "celebahq-conv": _CELEBAHQ,  # 5 strided convolutions and a residual block, for 128x128 images
}


def network_of(modality: Modality, name: str) -> Network:
    """The network `name`, for the values of `modality`; encoders of counts read `CountFeatures`.

    Raises ValueError for an unknown name or a network that cannot read the modality's shape.
    """
    check_name(name, NETWORKS, "network", f" for modality {modality.name!r}")
    if not NETWORKS[name].fits(modality.shape):
        raise ValueError(
            f"The network {name!r} cannot read modality {modality.name!r} of shape"
            f" {modality.shape}."
        )
    network = NETWORKS[name]
    if likelihood_of(modality).counts:
        return replace(network, encoder=partial(_count_encoder, network))
    return network


def _count_encoder(network: Network, shape: Shape, out: int) -> nn.Module:
    """The encoder of `CountFeatures`."""
    features = (shape[0] + 1,) if len(shape) == 1 else shape
    return nn.Sequential(CountFeatures(), network.encoder(features, out))
