"""Numbers that 32 bits do not hold: too large, too small, or too near to one another."""

from __future__ import annotations

import numpy as np

LARGEST, SMALLEST = 1e15, 1e-15  # of numbers that can be computed with
KEPT = 0.5  # share of different numbers that must stay different


def too_large(x: np.ndarray) -> np.ndarray:
    """Which numbers are too large, bool."""
    return np.abs(x) > LARGEST


def fault_of(x: np.ndarray) -> str:
    """Why numbers (N,), without NaN, cannot be used; "" if they can.

    >>> fault_of(np.array([1.0, 2.0])), fault_of(np.array([1e-20, 3e-20]))
    ('', 'all of its numbers are smaller than 1e-15; write them in other units')
    """
    sizes = np.abs(x[x != 0])
    if not len(sizes):
        return ""
    if sizes.min() > LARGEST:
        return f"all of its numbers are larger than {LARGEST:g}; write them in other units"
    if sizes.max() < SMALLEST:
        return f"all of its numbers are smaller than {SMALLEST:g}; write them in other units"
    if sizes.max() > LARGEST:
        return ""  # some numbers only: they are refused with their places
    different, kept = len(np.unique(x)), len(np.unique(x.astype(np.float32)))
    if different > 1 and kept < KEPT * different:
        return (
            f"its {different} different numbers are {kept} different numbers of 32 bits; subtract"
            f" {np.median(x):.6g} from them"
        )
    return ""
