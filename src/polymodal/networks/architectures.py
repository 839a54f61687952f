"""Networks by name, and what turns them into experts, joint encoders and decoders.

A network pair is an encoder (x of shape (B, *shape) -> (B, out)) and a decoder (z (B, D) -> (B,
*out_shape)). Neither ends in an activation: the head or the likelihood's link maps the last layer's
output. Convolutions run channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from polymodal.batch import Modality
from polymodal.networks.layers import (
    ChannelsLast,
    FromGrid,
    ResBlock,
    Reshape,
    ToGrid,
    UpToImage,
    mlp,
    relu,
)


@dataclass(frozen=True)
class Network:
    """A pair of builders: `encoder(shape, out)`, `decoder(dim, shape)`; `fits(shape)` says which
    shapes it can read.
    """

    encoder: Callable[[tuple[int, ...], int], nn.Module]
    decoder: Callable[[int, tuple[int, ...]], nn.Module]
    fits: Callable[[tuple[int, ...]], bool] = lambda shape: True


def _mlp_network(*hidden: int) -> Network:
    return Network(
        lambda shape, out: nn.Sequential(nn.Flatten(), *mlp([math.prod(shape), *hidden, out])),
        lambda dim, shape: nn.Sequential(
            *mlp([dim, *reversed(hidden), math.prod(shape)]), Reshape(shape)
        ),
    )


def _svhn_encoder(shape: tuple[int, ...], out: int) -> nn.Module:
    conv = lambda a, b: [nn.Conv2d(a, b, 4, 2, 1), relu()]
    last = [FromGrid(), nn.Linear(2048, out)]  # the paper's conv(out @ 4x4) on a 4x4 map
    return ChannelsLast(*conv(shape[0], 32), *conv(32, 64), *conv(64, 128), *last)


def _svhn_decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
    up = lambda a, b: nn.ConvTranspose2d(a, b, 4, 2, 1)
    first = [nn.Linear(dim, 2048), ToGrid(128, 4)]  # the paper's dconv(128, 1, 0) on a 1x1 map
    layers = [*first, nn.ReLU(), up(128, 64), relu(), up(64, 32), relu(), UpToImage(32, shape[0])]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _celeba_encoder(shape: tuple[int, ...], out: int) -> nn.Module:
    conv = lambda a, b, k: [nn.Conv2d(a, b, k, 2, 1), relu()]
    trunk = [*conv(shape[0], 64, 4), *conv(64, 128, 4), *conv(128, 128, 3), *conv(128, 128, 3)]
    return ChannelsLast(*trunk, ResBlock(128), ResBlock(128), FromGrid(), nn.Linear(2048, out))


def _celeba_decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
    """Table 5, with ReLU where the table writes SIGMOID between transposed convolutions; the link
    ends it.
    """
    first = [nn.Linear(dim, 2048), ToGrid(128, 4)]
    up = [
        nn.ConvTranspose2d(128, 128, 3, 2, 1, output_padding=1),
        ResBlock(128),
        ResBlock(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 128, 5, 2, 2, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, 5, 2, 2, output_padding=1),
        nn.ReLU(),
        UpToImage(64, shape[0]),
    ]
    return nn.Sequential(*first, *up).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _he(net: nn.Module) -> nn.Module:
    """Weights of variance 2 / n for n inputs of an output, no biases (He et al. 2015): with SiLU
    signals lose 15 to 40 % of their size from layer to layer. torch's own start lets them shrink
    three- to fivefold, and a decoder then gives a mean image for hundreds of steps.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            inputs = float(layer.weight[0].numel())
            if isinstance(layer, nn.ConvTranspose2d):
                inputs = layer.weight[:, 0].numel() / math.prod(layer.stride)
            nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return net


def _digit_network(width: int, act: Callable[[], nn.Module] = relu, kernel: int = 3) -> Network:
    """Three strided convolutions of `width`, twice and four times as many channels, for 28x28
    images. With another activation than ReLU the weights start as `_he` has them.
    """
    a, b, c = width, 2 * width, 4 * width
    start = (lambda net: net) if act is relu else _he

    def encoder(shape: tuple[int, ...], out: int) -> nn.Module:
        conv = lambda i, o, size: [nn.Conv2d(i, o, size, 2, 1), act()]
        layers = [*conv(shape[0], a, kernel), *conv(a, b, kernel), *conv(b, c, 3)]
        return start(ChannelsLast(*layers, FromGrid(), nn.Linear(16 * c, out)))

    def decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
        first = [nn.Linear(dim, 16 * c), ToGrid(c, 4), nn.ReLU() if act is relu else act()]
        up = [nn.ConvTranspose2d(c, b, 3, 2, 1), act(), nn.ConvTranspose2d(b, a, 4, 2, 1), act()]
        layers = start(nn.Sequential(*first, *up, UpToImage(a, shape[0])))
        return layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    return Network(encoder, decoder, _image(28))


def _image(size: int) -> Callable[[tuple[int, ...]], bool]:
    return lambda shape: len(shape) == 3 and shape[1:] == (size, size)


NETWORKS: dict[str, Network] = {
    "mlp": _mlp_network(512),  # Table 4, E_1 and D_1; Table 5, E_2 and D_2
    "mlp-2x512": _mlp_network(512, 512),  # two hidden layers of 512
    "mlp-small": _mlp_network(64, 64),  # two hidden layers of 64: quick trials and small data
    "svhn-conv": Network(_svhn_encoder, _svhn_decoder, _image(32)),  # Table 4, E_2 and D_2
    "linear": _mlp_network(),  # for data that are linear and normal
    "digit-conv": _digit_network(
        32
    ),  # three strided convolutions of 32, 64, 128 channels, as MoPoE's for PolyMNIST
    "digit-conv-small": _digit_network(16),  # the same with half the channels
    "digit-silu": _digit_network(
        16, lambda: nn.SiLU(inplace=True), kernel=4
    ),  # with SiLU: bears three times the rate
    "celeba-conv": Network(_celeba_encoder, _celeba_decoder, _image(64)),  # Table 5, E_1 and D_1
}


def network_name(modality: Modality) -> str:
    """The default network: digit-conv for 28x28 colour images, svhn-conv for 32x32, celeba-conv for
    64x64, else mlp.
    """
    by_size = {28: "digit-conv", 32: "svhn-conv", 64: "celeba-conv"}
    by_shape: dict[tuple[int, ...], str] = {(3, n, n): network for n, network in by_size.items()}
    return by_shape.get(modality.shape, "mlp")


def network_of(modality: Modality, name: str | None = None) -> Network:
    """The network `name`; None: the default by shape.

    Raises ValueError for an unknown name or a network that cannot read the modality's shape.
    """
    name = name or network_name(modality)
    if name not in NETWORKS:
        raise ValueError(
            f"There is no network {name!r} (for modality {modality.name!r}); there are"
            f" {list(NETWORKS)}."
        )
    if not NETWORKS[name].fits(modality.shape):
        raise ValueError(
            f"The network {name!r} cannot read modality {modality.name!r} of shape"
            f" {modality.shape}."
        )
    return NETWORKS[name]
