"""Images (C, H, W)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality, escaped
from polymodal.data.kinds.kind import Asked, Kind, Shape, is_binary, register, scaled
from polymodal.data.kinds.pixels import MOST, mosaic, png, rows_of_draws
from polymodal.data.readers.pictures import read_picture, shares
from polymodal.distributions.likelihoods import likelihood_of

CHANNELS = (1, 3, 4)  # a last size of these is taken for channels
SHOWN = (1, 3)  # numbers of channels that make a picture
# Of square colour images.
NETWORKS = {28: "digit-conv", 32: "svhn-conv", 64: "celeba-conv", 128: "celebahq-conv"}
SCALE = 3  # pixels of a file for each pixel


@register
class Image(Kind):
    """Images of any number of channels; bytes are read as x / 255 and modelled around a sigmoid."""

    name = "image"
    visual = True
    asked: Asked = "picture"
    by_shape = True

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 3

    def claims(self, x: np.ndarray) -> bool:
        """Four axes, or grey bytes (N, H, W) that are more than 0 and 1."""
        grey = x.ndim == 3 and x.dtype == np.uint8 and not is_binary(x)
        return x.ndim == 4 or grey

    def are_shares(self, modality: Modality) -> bool:
        """Also under the link "identity", unless the likelihood has values of its own, such as
        counts.
        """
        return super().are_shares(modality) or likelihood_of(modality).values is None

    def network(self, modality: Modality) -> str:
        """A convolutional network for square colour images of 28, 32, 64 or 128, else mlp."""
        channels, height, width = modality.shape
        return NETWORKS.get(height, "mlp") if channels == 3 and height == width else "mlp"

    def describe(self, name: str, parts: Sequence[np.ndarray]) -> Modality:
        modality = super().describe(name, parts)
        if modality.likelihood == "bernoulli" or parts[0].dtype != np.uint8:
            return modality
        return replace(modality, link="sigmoid")

    def value_shape(self, x: np.ndarray) -> Shape:
        if x.ndim == 3:
            return (1, *x.shape[1:])
        _, *sizes, channels = x.shape
        return (channels, *sizes) if _channels_last(x.shape) else x.shape[1:]

    def in_memory(self, values: Tensor, shape: Shape) -> Tensor:
        """Channels-last in memory, whatever the order of the axes."""
        if _channels_last(values.shape):
            return values.permute(0, 3, 1, 2)
        images = values.reshape(len(values), *shape)
        return images.contiguous(memory_format=torch.channels_last)

    def load(self, file: Path, name: str) -> np.ndarray:
        """An image file as shares (H, W) or (H, W, 3), by the range of its type; or an array."""
        if file.suffix.lower() in (".npy", ".npz"):
            return super().load(file, name)
        return shares(read_picture(file, file))

    def arrange(self, values: Tensor, shape: Shape) -> Tensor:
        """Channels in front; colour becomes grey, or grey colour, where the shape wants that."""
        channels, *size = shape
        if channels == 1 and _is_grey(values, size):
            return values.unsqueeze(-3)
        if channels == 3 and list(values.shape) == size:
            return values.expand(channels, *size)
        if list(values.shape[-3:-1]) != size or values.shape[-1] not in CHANNELS:
            return values
        values = values.movedim(-1, -3)
        if channels == 1 and values.shape[-3] == 3:
            return values.mean(-3, keepdim=True)
        if channels == 3 and values.shape[-3] == 1:
            return values.expand(*values.shape[:-3], channels, *size)
        return values

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Images of one or three channels as they are; other channels below each other."""
        x = scaled(x, span)
        if x.shape[1] not in SHOWN:
            x = x.reshape(len(x), 1, -1, x.shape[-1])
        return x.expand(-1, 3, -1, -1)

    def encode(self, x: Tensor, modality: Modality) -> tuple[str, bytes]:
        """A PNG if the values are shares and the channels one or three, else an array."""
        if modality.link != "sigmoid" or x.shape[0] not in SHOWN:
            return super().encode(x, modality)
        return ".png", png(mosaic([x[None]]))

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """`<name>.png`, the name `escaped`: draws below what was given, or in a square if nothing
        was; at most 16 given samples and 16 draws of each.
        """
        span = self.span(draws, modality)
        shown = [self.show(x[:MOST], modality, span) for x in draws[: MOST * MOST]]
        return {f"{escaped(modality.name)}.png": png(rows_of_draws(shown, above), SCALE)}


def _channels_last(shape: Sequence[int]) -> bool:
    """Whether images are (N, H, W, C); (N, C, H, W) if the last size is no number of channels."""
    return len(shape) == 4 and shape[-1] in CHANNELS


def _is_grey(values: Tensor, size: Sequence[int]) -> bool:
    """Whether values are images (..., H, W) of this size, without an axis of channels."""
    if list(values.shape[-2:]) != list(size):
        return False
    return values.dim() == 2 or values.shape[-3] != 1
