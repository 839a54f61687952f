"""Networks of text: encoders read the vectors of words (B, L, size), decoders give logits (B, L,
V), for texts of up to LONGEST words or characters.

The networks of sentences do not normalise over the batch as the authors' do, since a sample's loss
would then depend on the other samples; weights of convolutions are initialised by `he` instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from polymodal.distributions.tokens import END_ID
from polymodal.networks.layers import ChannelsLast, FromGrid, ToGrid, he, relu

SIZE = 128  # of a word's vector (Shi et al. 2019)
GRID = 4  # the side of the grid between convolutions and linear layers
CHANNELS = 32  # of the first convolution; at most 4 times as many
HALVINGS = int(math.log2(SIZE // GRID))


class Words(nn.Module):
    """Ids (B, L) of words as their learned vectors (B, L, size); zeros after the end of a text.

    Numbers that are no ids, such as learned pseudo-inputs, are read as the nearest id.
    """

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(words, size, padding_idx=END_ID)

    def forward(self, x: Tensor) -> Tensor:
        ids = x.round().long().clamp(0, self.table.num_embeddings - 1)
        return self.table(ids)


class _Padded(nn.Module):
    """(B, L, size) -> (B, 1, longer, size), with zeros after the last word."""

    def __init__(self, longer: int) -> None:
        super().__init__()
        self.longer = longer

    def forward(self, x: Tensor) -> Tensor:
        return pad(x, (0, 0, 0, self.longer - x.shape[1])).unsqueeze(1)


class _ToWords(nn.Module):
    """Vectors of positions (B, 1, longer, SIZE) -> logits (B, L, V) of the first L."""

    def __init__(self, length: int, words: int) -> None:
        super().__init__()
        self.length, self.linear = length, nn.Linear(SIZE, words)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, 0, : self.length])


def _halvings(length: int) -> int:
    """How often the length is halved until it is that of the grid; it is padded to a power of
    2.
    """
    return max(0, math.ceil(math.log2(length / GRID)))


# The channels before and after each convolution of `sentence_encoder`.
WIDTHS = [1, *(min(CHANNELS * 2**i, 4 * CHANNELS) for i in range(HALVINGS))]


def _kernels(length: int) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """Kernel, stride and padding of each convolution: first both axes are halved, then the vectors
    only.
    """
    both = _halvings(length)
    halve_both = ((4, 4), (2, 2), (1, 1))
    halve_vectors = ((1, 4), (1, 2), (0, 1))
    return [halve_both] * both + [halve_vectors] * (HALVINGS - both)


def sentence_encoder(shape: tuple[int, ...], out: int) -> nn.Module:
    """2d convolutions over the vectors of words, from 32 x 128 to 4 x 4 (Shi et al. 2019, the
    authors' code for CUB).
    """
    length = shape[0]
    layers: list[nn.Module] = []
    for i, (kernel, stride, padding) in enumerate(_kernels(length)):
        layers += [nn.Conv2d(WIDTHS[i], WIDTHS[i + 1], kernel, stride, padding), relu()]
    features = he(ChannelsLast(*layers, FromGrid()))
    last = nn.Linear(WIDTHS[-1] * GRID**2, out)  # the authors' convolution of a 4x4 map
    return nn.Sequential(_Padded(GRID * 2 ** _halvings(length)), features, last)


def sentence_decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
    """The mirror image of `sentence_encoder`, and a linear map of each position's vector to logits.
    The authors use the encoder's vectors as the weights of that map; here they are its own.
    """
    length, words = shape
    grid = ToGrid(WIDTHS[-1], GRID)
    layers: list[nn.Module] = [nn.Linear(dim, WIDTHS[-1] * GRID**2), grid, nn.ReLU()]
    for i, (kernel, stride, padding) in reversed(list(enumerate(_kernels(length)))):
        layers += [nn.ConvTranspose2d(WIDTHS[i + 1], WIDTHS[i], kernel, stride, padding), relu()]
    positions = he(nn.Sequential(*layers))
    positions = positions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return nn.Sequential(positions, _ToWords(length, words))


class _Steps(nn.Module):
    """(B, L, size) -> (B, size, longer), with zeros after the last word, and ReLU."""

    def __init__(self, longer: int) -> None:
        super().__init__()
        self.longer = longer

    def forward(self, x: Tensor) -> Tensor:
        return pad(x.transpose(1, 2), (0, self.longer - x.shape[1])).relu()


class _ToSteps(nn.Module):
    """(B, SIZE, longer) -> logits (B, L, V) of the first L."""

    def __init__(self, length: int, words: int) -> None:
        super().__init__()
        self.length, self.linear = length, nn.Linear(SIZE, words)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[:, :, : self.length].transpose(1, 2))


def text_encoder(shape: tuple[int, ...], out: int) -> nn.Module:
    """1d convolutions over the vectors of words or characters (Sutter et al. 2021, the authors'
    code for MNIST-SVHN-Text, with 8 characters).
    """
    halvings = _halvings(shape[0])
    layers: list[nn.Module] = [_Steps(GRID * 2**halvings)]
    for _ in range(halvings):
        layers += [nn.Conv1d(SIZE, SIZE, 4, 2, 1), relu()]
    layers += [nn.Conv1d(SIZE, SIZE, GRID), relu(), nn.Flatten()]
    return nn.Sequential(he(nn.Sequential(*layers)), nn.Linear(SIZE, out))


def text_decoder(dim: int, shape: tuple[int, ...]) -> nn.Module:
    """The mirror image of `text_encoder`."""
    length, words = shape
    layers: list[nn.Module] = [nn.Linear(dim, SIZE), nn.Unflatten(1, (SIZE, 1))]
    layers += [nn.ConvTranspose1d(SIZE, SIZE, GRID), relu()]
    for _ in range(_halvings(length)):
        layers += [nn.ConvTranspose1d(SIZE, SIZE, 4, 2, 1), relu()]
    return nn.Sequential(he(nn.Sequential(*layers)), _ToSteps(length, words))
