"""Counts of cells: how often each feature, such as a gene, was counted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.kinds.kind import Shape, check_numbers, register
from polymodal.data.kinds.vector import Vector


@register
class Counts(Vector):
    """Counts (d,) of one cell, of which the total, the library size, says how deeply the cell was
    read. Networks read log(1 + 10^4 x / total), standardised by the training part.
    """

    name = "counts"
    likelihood = "library_counts"

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 1

    def network(self, modality: Modality) -> str:
        return "counts"

    def describe(self, name: str, parts: Sequence[np.ndarray]) -> Modality:
        check_numbers(name, parts)
        return Modality(name, self.value_shape(parts[0]), self.likelihood, kind=self.name)

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Logarithms of 1 + counts, as `Vector` shows them."""
        low, high = (float(np.log1p(max(v, 0.0))) for v in span)
        shown = x if modality.names is not None else x.clamp_min(0).log1p()
        return super().show(shown, modality, (low, high))
