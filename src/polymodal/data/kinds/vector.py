"""Vectors, and numbers of any other shape that no kind claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import pad

from polymodal.batch import Modality, escaped
from polymodal.data.kinds.kind import Kind, Shape, register, scaled
from polymodal.data.kinds.named_values import as_csv, drawn
from polymodal.data.kinds.pixels import png, rows_of_draws


@register
class Vector(Kind):
    """Numbers without neighbourhood, usually (d,); their entries may have names."""

    name = "vector"
    asked = "cells"

    def holds(self, shape: Shape) -> bool:
        return True

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """A vector row by row in a near-square, or as the names of its entries; of other shapes the
        last axis is the width.

        >>> import torch
        >>> x = torch.arange(10.0).reshape(2, 5)
        >>> Vector().show(x, Modality("x", (5,)), (0, 9)).shape
        torch.Size([2, 3, 2, 3])
        """
        if modality.names is not None:
            return drawn(x, modality)
        x = scaled(x, span)
        width = x.shape[-1]
        if x.dim() == 2:
            width = math.ceil(math.sqrt(x.shape[1]))
            x = pad(x, (0, -x.shape[1] % width))
        return x.reshape(len(x), 1, -1, width).expand(-1, 3, -1, -1)

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """`<name>.csv` and `<name>.png`, the name `escaped`, if entries have names: all draws as a
        table, and the names below what was given.
        """
        if modality.names is None:
            return {}
        picture = rows_of_draws([self.show(x, modality) for x in draws], above)
        name = escaped(modality.name)
        return {f"{name}.csv": as_csv(draws, modality), f"{name}.png": png(picture)}
