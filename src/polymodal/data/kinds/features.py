"""Features: vectors that a frozen encoder makes of pictures, texts, sounds or anything else."""

from __future__ import annotations

from polymodal.batch import Modality
from polymodal.data.kinds.kind import Shape, register
from polymodal.data.kinds.vector import Vector

DEEP = 64  # numbers above which two hidden layers read them


@register
class Features(Vector):
    """Vectors (d,) of an encoder, see `polymodal.data.features`. What is generated is a vector,
    for which the nearest training samples stand.
    """

    name = "features"
    likelihood = "normal"

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 1

    def network(self, modality: Modality) -> str:
        return "mlp-2x512" if modality.shape[0] > DEEP else "mlp"
