"""Files of generated samples: the arrays, and what people look at."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from polymodal.batch import Batch, Modality
from polymodal.data.kinds import kind_of
from polymodal.data.readers.archives import archive

ARRAYS = "generated.npz"


def generated_files(
    x: Mapping[str, Tensor], batch: Batch | None, modalities: Mapping[str, Modality]
) -> dict[str, bytes]:
    """The contents of `generated.npz`, x[m] of shape (n, B, *shape_m), and of the files that the
    kinds of the modalities make, by name.

    Args:
        x: draws.
        batch: what was given; None: nothing, and B is 1.
        modalities: by name.
    """
    given = {} if batch is None else batch.x
    above = [_shown(value, modalities[m]) for m, value in given.items()]
    contents = {ARRAYS: archive({m: v.numpy() for m, v in x.items()})}
    for m, draws in x.items():
        contents |= kind_of(modalities[m]).files(draws, modalities[m], above)
    return contents


def _shown(x: Tensor, modality: Modality) -> Tensor:
    """Values (B, *shape) as small pictures (B, 3, H, W)."""
    kind = kind_of(modality)
    return kind.show(x, modality, kind.span(x, modality))
