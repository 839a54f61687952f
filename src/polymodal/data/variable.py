"""Features that vary most: the choice among thousands of genes."""

from __future__ import annotations

from typing import Any

import numpy as np

DISPERSION = 100.0  # inverse dispersion of the counts of a feature that does not vary
CHUNK = 1000  # features that are unpacked at a time


def most_variable(x: Any, count: int, counts: bool) -> np.ndarray:
    """The places of the `count` features of x (n, p) that vary most, in order.

    Counts vary by their Pearson residuals (Lause et al. 2021): with the mean m that a cell's and a
    feature's totals give, (x - m) / sqrt(m + m^2 / 100), clipped at sqrt(n). Other numbers vary by
    their variance. NaN are left out.

    Args:
        x: an array or a sparse matrix.
        counts: whether the numbers are counts.
    """
    totals = np.nan_to_num(np.asarray(x.sum(1), np.float64)).ravel()
    scores = np.zeros(x.shape[1])
    for start in range(0, x.shape[1], CHUNK):
        some = x[:, start : start + CHUNK]
        dense = np.asarray(some.toarray() if hasattr(some, "toarray") else some, np.float64)
        if counts:
            dense = _residuals(dense, totals)
        scores[start : start + CHUNK] = _variances(dense)
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def _residuals(x: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Pearson residuals of counts (n, p), clipped; totals are those of the cells (n,)."""
    mean = totals[:, None] * np.nansum(x, 0) / max(totals.sum(), 1e-300)
    residuals = (x - mean) / np.sqrt(np.maximum(mean + mean**2 / DISPERSION, 1e-300))
    return np.clip(residuals, -np.sqrt(len(x)), np.sqrt(len(x)))


def _variances(x: np.ndarray) -> np.ndarray:
    """Variances of columns, without NaN; 0 where there is nothing."""
    seen = np.maximum((~np.isnan(x)).sum(0), 1)
    mean = np.nansum(x, 0) / seen
    return np.nansum((x - mean) ** 2, 0) / seen
