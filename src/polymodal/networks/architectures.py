"""Network architectures by name: `NETWORKS`.

A network is a pair: an encoder (x of shape (B, *shape) -> (B, out)) and a decoder (z (B, D) -> (B,
*out_shape)). Neither ends in an activation: the head or the likelihood's link maps the last layer's
output. Convolutions run channels-last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from polymodal.batch import Modality
from polymodal.checks import check_name
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.distributions.tokens import LONGEST
from polymodal.networks.images import image_decoder, image_encoder, is_image
from polymodal.networks.layers import (
    ChannelsLast,
    CountFeatures,
    FromGrid,
    LinearAnd,
    ResBlock,
    Reshape,
    ToGrid,
    UpToImage,
    he,
    mlp,
    relu,
    silu,
    strided,
)
from polymodal.networks.reading import reading
from polymodal.networks.series import is_series, series_decoder, series_encoder
from polymodal.networks.text import (
    SIZE,
    Words,
    sentence_decoder,
    sentence_encoder,
    text_decoder,
    text_encoder,
)

DROPPED = 0.2  # share of the features of counts that are left out at random in training
VECTOR = 64  # size of the vectors of words for networks that are not made for text

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
        vector: of text, the size of the vectors of words that the encoder reads: its shape is then
            (L, vector). 0: it reads numbers; of text, vectors of 64.
    """

    encoder: Callable[[Shape, int], nn.Module]
    decoder: Callable[[int, Shape], nn.Module]
    fits: Callable[[Shape], bool] = _any_shape
    vector: int = 0


def _mlp(*hidden: int) -> Network:
    return Network(partial(_mlp_encoder, hidden), partial(_mlp_decoder, hidden))


def _mlp_encoder(hidden: tuple[int, ...], shape: Shape, out: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *mlp([math.prod(shape), *hidden, out]))


def _mlp_decoder(hidden: tuple[int, ...], dim: int, shape: Shape) -> nn.Module:
    return nn.Sequential(*mlp([dim, *reversed(hidden), math.prod(shape)]), Reshape(shape))


def _table_encoder(shape: Shape, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), LinearAnd(_silu_mlp([math.prod(shape), 128, 128, out])))


def _counts_encoder(shape: Shape, out: int) -> nn.Module:
    return nn.Sequential(nn.Dropout(DROPPED), *_table_encoder(shape, out).children())


def _table_decoder(dim: int, shape: Shape) -> nn.Module:
    net = LinearAnd(_silu_mlp([dim, 128, 128, math.prod(shape)]))
    return nn.Sequential(net, Reshape(shape))


def _silu_mlp(sizes: Sequence[int]) -> nn.Sequential:
    """`mlp` with SiLU in place of ReLU."""
    layers = [silu() if isinstance(layer, nn.ReLU) else layer for layer in mlp(sizes)]
    return nn.Sequential(*layers)


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


def _bird(width: int) -> Network:
    """Four strided convolutions of `width`, twice, four and eight times as many channels, for 64x64
    images.
    """
    return Network(partial(_bird_encoder, width), partial(_bird_decoder, width), _square(64))


def _bird_encoder(width: int, shape: Shape, out: int) -> nn.Module:
    return ChannelsLast(
        *strided(shape[0], width, 4),
        *strided(width, 2 * width, 4),
        *strided(2 * width, 4 * width, 4),
        *strided(4 * width, 8 * width, 4),
        FromGrid(),
        nn.Linear(128 * width, out),  # the authors' convolution of a 4x4 map
    )


def _bird_decoder(width: int, dim: int, shape: Shape) -> nn.Module:
    return _channels_last(
        nn.Linear(dim, 128 * width),
        ToGrid(8 * width, 4),
        nn.ReLU(),
        nn.ConvTranspose2d(8 * width, 4 * width, 4, 2, 1),
        relu(),
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1),
        relu(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        relu(),
        UpToImage(width, shape[0]),
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
    images. With another activation than ReLU the weights are initialised by `he`.
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
    return net if activation is relu else he(net)


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
    net = net if activation is relu else he(net)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _image(deepest: int) -> Network:
    """Convolutions for images of any size, with so many channels at the smallest grid."""
    return Network(partial(image_encoder, deepest), partial(image_decoder, deepest), is_image)


def _square(size: int) -> Callable[[Shape], bool]:
    """Whether a shape is that of square images of `size` pixels a side."""
    return lambda shape: len(shape) == 3 and shape[1:] == (size, size)


def _short(shape: Shape) -> bool:
    """Whether a shape is that of texts which the networks of text can read."""
    return len(shape) == 1 and shape[0] <= LONGEST


_SVHN = Network(_svhn_encoder, _svhn_decoder, _square(32))
_CELEBA = Network(_celeba_encoder, _celeba_decoder, _square(64))
_SENTENCE = Network(sentence_encoder, sentence_decoder, _short, SIZE)
_TEXT = Network(text_encoder, text_decoder, _short, SIZE)
_SERIES = Network(series_encoder, series_decoder, is_series)
_CELEBAHQ = Network(_celebahq_encoder, _celebahq_decoder, _square(128))

# `polymodal list networks` shows these comments.
NETWORKS: dict[str, Network] = {
    "mlp": _mlp(512),  # MLP with one hidden layer of 512 (Senellart et al. 2023, tables 4 and 5)
    "mlp-2x512": _mlp(512, 512),  # MLP with two hidden layers of 512
    "mlp-small": _mlp(64, 64),  # MLP with two hidden layers of 64, for quick trials and small data
    "table": Network(_table_encoder, _table_decoder),  # two layers of 128 beside a linear map
    "counts": Network(_counts_encoder, _table_decoder),  # and dropout, for counts of cells
    "svhn-conv": _SVHN,  # convolutions for 32x32 images (Senellart et al. 2023, table 4, E_2, D_2)
    "linear": _mlp(),  # one linear layer, for data that are linear and normal
    "digit-conv": _digit(32),  # 3 strided convolutions for 28x28 (PolyMNIST, Sutter et al. 2021)
    "digit-conv-small": _digit(16),  # digit-conv with half the channels
    "digit-silu": _digit(
        16, silu, 4
    ),  # digit-conv-small with SiLU: bears 3 times the learning rate
    "celeba-conv": _CELEBA,  # residual, for 64x64 images (Senellart et al. 2023, table 5, E_1, D_1)
    "cub-conv": _bird(64),  # 4 strided convolutions for 64x64 images (CUB, Shi et al. 2019)
    "cub-conv-small": _bird(16),  # cub-conv with a quarter of the channels
    "sentence-conv": _SENTENCE,  # 2d convolutions over word vectors (CUB, Shi et al. 2019), text
    "text-conv": _TEXT,  # 1d convolutions (MNIST-SVHN-Text, Sutter et al. 2021), text
    "image-conv": _image(128),  # convolutions for images of any size, of equal cost at each level
    "image-conv-wide": _image(256),  # image-conv with twice the channels
    "series-conv": _SERIES,  # 3 strided convolutions over time, for series (channels, length)
    "celebahq-conv": _CELEBAHQ,  # 5 strided convolutions and a residual block, for 128x128 images
}


def network_of(modality: Modality, name: str) -> Network:
    """The network `name`, for the values of `modality`; encoders of counts read `CountFeatures`,
    those of text the vectors of its words.

    Raises ValueError for an unknown name or a network that cannot read the modality's values.
    """
    check_name(name, NETWORKS, "network", f" for modality {modality.name!r}")
    if not NETWORKS[name].fits(modality.shape):
        raise ValueError(
            f"The network {name!r} cannot read modality {modality.name!r} of shape"
            f" {modality.shape}."
        )
    network, likelihood = NETWORKS[name], likelihood_of(modality)
    if likelihood.words:
        words = len(modality.vocabulary)
        return replace(network, encoder=partial(_word_encoder, network, words))
    if network.vector:
        raise ValueError(
            f"The network {name!r} reads text, and the likelihood of {modality.name!r} is"
            f" {modality.likelihood}, not tokens; choose another network."
        )
    plain = likelihood.counts and not likelihood.library
    make = partial(_count_encoder, network) if plain else network.encoder
    return replace(network, encoder=reading(make, modality))


def _word_encoder(network: Network, words: int, shape: Shape, out: int) -> nn.Module:
    """The encoder of the vectors of words."""
    size = network.vector or VECTOR
    return nn.Sequential(Words(words, size), network.encoder((*shape, size), out))


def _count_encoder(network: Network, shape: Shape, out: int) -> nn.Module:
    """The encoder of `CountFeatures`."""
    features = (shape[0] + 1,) if len(shape) == 1 else shape
    return nn.Sequential(CountFeatures(), network.encoder(features, out))
