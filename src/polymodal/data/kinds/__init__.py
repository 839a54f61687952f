"""Kinds of data: `KINDS` holds every kind that a file of this folder registers.

>>> {"image", "vector"} <= KINDS.keys()
True
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import numpy as np

from polymodal.batch import Modality
from polymodal.checks import check_name
from polymodal.data.kinds.kind import KINDS, Kind, register
from polymodal.data.kinds.pixels import mosaic, png

__all__ = ["KINDS", "Kind", "kind_of", "kind_of_array", "mosaic", "png", "register"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

_OTHERS = "vector"  # the kind of what no other kind claims


def kind_of(modality: Modality) -> Kind:
    """The kind that a modality names, or by its shape: three sizes are an image, all else a vector.

    Raises ValueError for a kind that does not exist or cannot have the modality's shape.

    >>> kind_of(Modality("x", (3, 32, 32))).name, kind_of(Modality("x", (40,))).name
    ('image', 'vector')
    """
    if modality.kind is None:
        fitting = (k for k in KINDS.values() if k.by_shape and k.holds(modality.shape))
        return next(fitting, KINDS[_OTHERS])
    check_name(modality.kind, KINDS, "kind", f" for modality {modality.name!r}")
    kind = KINDS[modality.kind]
    if not kind.holds(modality.shape):
        raise ValueError(
            f"Modality {modality.name!r} cannot be of kind {kind.name!r} with shape"
            f" {modality.shape}; give another kind, or leave it out."
        )
    return kind


def kind_of_array(x: np.ndarray) -> Kind:
    """The kind of an array (N, ...) of a user's file, by its type and values."""
    return next((k for k in KINDS.values() if k.claims(x)), KINDS[_OTHERS])
