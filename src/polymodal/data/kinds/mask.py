"""Masks (C, H, W): where in a picture each of C parts is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.kinds.image import Image
from polymodal.data.kinds.kind import Kind, Shape, register
from polymodal.data.kinds.pixels import colour

NETWORKS = {32: "svhn-conv", 64: "celeba-conv", 128: "celebahq-conv"}  # of square masks
FEW = 64  # samples that are looked at first
TURN = 0.381966  # of the circle of hues, from part to part: 1 - 1 / golden ratio


@register
class Mask(Image):
    """Zeros and ones, 1 inside a part; numbers between are probabilities. Bytes are read as x / 255
    if some of them are more than 1.
    """

    name = "mask"
    likelihood = "bernoulli"
    by_shape = False

    def claims(self, x: np.ndarray) -> bool:
        return False

    def network(self, modality: Modality) -> str:
        """A convolutional network for masks of 32 x 32, 64 x 64 and 128 x 128, else mlp."""
        _, height, width = modality.shape
        return NETWORKS.get(height, "mlp") if height == width else "mlp"

    def are_shares(self, modality: Modality) -> bool:
        return True

    def as_table(self, x: Any, modality: Modality, what: str = "") -> Tensor:
        values = super().as_table(x, modality, what)
        if values.dtype != torch.uint8 or bool((values[:FEW] > 1).any()):
            return values
        return values * 255 if bool((values == 1).any() & (values <= 1).all()) else values

    def value_shape(self, x: np.ndarray) -> Shape:
        return super().value_shape(x) if x.ndim == 4 else (1, *x.shape[1:])

    def span(self, x: Tensor, modality: Modality) -> tuple[float, float]:
        return (0.0, 1.0)

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """One part in white; several in a colour each, later ones over earlier ones."""
        x = x.detach().float().cpu().clamp(0, 1)
        if x.shape[1] == 1:
            return x.expand(-1, 3, -1, -1)
        picture = torch.zeros(len(x), 3, *x.shape[2:])
        for k in range(x.shape[1]):
            part = colour(k * TURN, 0.75, 0.95).float().reshape(3, 1, 1)
            picture = picture.lerp(part, x[:, k : k + 1])
        return picture

    def encode(self, x: Tensor, modality: Modality) -> tuple[str, bytes]:
        return Kind.encode(self, x, modality)
