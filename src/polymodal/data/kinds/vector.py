"""Vectors, and numbers of any other shape that no kind claims."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import pad

from polymodal.batch import Modality
from polymodal.data.kinds.kind import Kind, Shape, register, scaled


@register
class Vector(Kind):
    """Numbers without neighbourhood, usually (d,)."""

    name = "vector"

    def holds(self, shape: Shape) -> bool:
        return True

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """A vector row by row in a near-square; of other shapes the last axis is the width.

        >>> import torch
        >>> x = torch.arange(10.0).reshape(2, 5)
        >>> Vector().show(x, Modality("x", (5,)), (0, 9)).shape
        torch.Size([2, 3, 2, 3])
        """
        x = scaled(x, span)
        width = x.shape[-1]
        if x.dim() == 2:
            width = math.ceil(math.sqrt(x.shape[1]))
            x = pad(x, (0, -x.shape[1] % width))
        return x.reshape(len(x), 1, -1, width).expand(-1, 3, -1, -1)
