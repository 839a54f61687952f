"""Regular series (channels, length)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality, escaped
from polymodal.data.kinds.kind import Kind, Shape, register, scaled
from polymodal.data.kinds.pixels import png, rows_of_draws

HEIGHT, MOST = 24, 8  # pixels of a channel in a picture, and channels that are shown
STEPS = 128  # that are shown
DRAWS = 16  # draws and samples in a picture
LONG = 8  # steps from which convolutions read them


@register
class Series(Kind):
    """Numbers of several channels at equal steps of time; NaN where nothing was measured."""

    name = "series"

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 2

    def network(self, modality: Modality) -> str:
        """Convolutions over time, for short series mlp."""
        return "series-conv" if modality.shape[1] >= LONG else "mlp"

    def describe(self, name: str, parts: Sequence[np.ndarray]) -> Modality:
        return replace(super().describe(name, parts), kind=self.name)

    def value_shape(self, x: np.ndarray) -> Shape:
        """An array (N, L) has one channel."""
        return x.shape[1:] if x.ndim == 3 else (1, *x.shape[1:])

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """A curve for each channel, the first on top.

        >>> x = torch.arange(12.0).reshape(1, 2, 6)
        >>> Series().show(x, Modality("x", (2, 6)), (0.0, 11.0)).shape
        torch.Size([1, 3, 48, 6])
        """
        step = -(-x.shape[-1] // STEPS)
        y = scaled(x[:, :MOST, ::step].nan_to_num(), span)
        places = ((1 - y) * (HEIGHT - 1)).round().long()
        curves = torch.zeros(*y.shape[:2], HEIGHT, y.shape[2]).scatter(2, places[:, :, None], 1.0)
        return curves.flatten(1, 2)[:, None].expand(-1, 3, -1, -1)

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """`<name>.png`, the name `escaped`: draws below what was given."""
        span = self.span(draws, modality)
        shown = [self.show(x[:DRAWS], modality, span) for x in draws[:DRAWS]]
        return {f"{escaped(modality.name)}.png": png(rows_of_draws(shown, above))}
