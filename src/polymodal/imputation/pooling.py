"""Estimates on several completed copies of data, as one estimate: Rubin's rules."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from polymodal.checks import shown


class Pooled(NamedTuple):
    """One estimate from m, each value a number or an array of the estimate's shape.

    Args:
        estimate: the mean of the m estimates.
        variance: total: the mean variance and (1 + 1/m) times the variance between estimates.
        within: the mean of the m variances.
        between: the variance of the m estimates.
        df: degrees of freedom of Student's t of (estimate - truth) / sqrt(variance).
        missing_information: the fraction of information that is missing, with the correction for
            finite df, between 0 and 1.
    """

    estimate: Any
    variance: Any
    within: Any
    between: Any
    df: Any
    missing_information: Any


def pool_estimates(estimates: Any, variances: Any, complete_df: float | None = None) -> Pooled:
    """Pools estimates on m completed copies of the data (Rubin 1987, section 3.1).

    Args:
        estimates: (m, ...), one estimate for each copy: numbers or arrays.
        variances: (m, ...), their squared standard errors.
        complete_df: degrees of freedom that the estimate has on data without holes, such as n
            minus the number of coefficients; the degrees of freedom are then those of Barnard and
            Rubin (1999), and never exceed it. None: the sample is large.

    Raises ValueError for fewer than 2 copies, other shapes, values that are not finite, and
    negative variances.

    >>> pooled = pool_estimates([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    >>> pooled.estimate, round(pooled.variance, 6), round(pooled.df, 6)
    (2.0, 1.833333, 3.78125)
    """
    q, u = _checked(estimates, variances, complete_df)
    m = len(q)
    within, between = u.mean(0), q.var(0, ddof=1)
    added = (1 + 1 / m) * between
    total = within + added
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total > 0, added / total, 0.0)  # of the variance, by what is missing
        df = (m - 1) / share**2
        if complete_df is not None:
            observed = (complete_df + 1) / (complete_df + 3) * complete_df * (1 - share)
            df = np.where(share > 0, 1 / (1 / df + 1 / observed), observed)
        ratio = added / within
        information = np.where(share < 1, (ratio + 2 / (df + 3)) / (ratio + 1), 1.0)
    # Without variance between the copies nothing is missing, and the correction has no meaning.
    information = np.where(share > 0, np.clip(information, 0, 1), 0.0)
    values = (q.mean(0), total, within, between, df, information)
    return Pooled(*(np.asarray(v).tolist() if np.ndim(v) == 0 else v for v in values))


def _checked(
    estimates: Any, variances: Any, complete_df: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays (m, ...) of float64."""
    try:
        q, u = (np.asarray(list(values), dtype=np.float64) for values in (estimates, variances))
    except (TypeError, ValueError):
        raise ValueError(
            "pool_estimates needs one estimate and one variance for each completed copy, all of one"
            f" shape, got {shown(estimates)} and {shown(variances)}."
        ) from None
    if q.shape != u.shape or not q.ndim or len(q) < 2:
        raise ValueError(
            "pool_estimates needs estimates and variances of the same shape (m, ...) with m of at"
            f" least 2 completed copies, got {q.shape} and {u.shape}."
        )
    if not (np.isfinite(q).all() and np.isfinite(u).all() and (u >= 0).all()):
        raise ValueError(
            "pool_estimates needs finite estimates and variances of at least 0, that is squared"
            " standard errors; leave out copies whose estimate failed."
        )
    if complete_df is not None and not 0 < complete_df < np.inf:
        raise ValueError(
            f"complete_df must be positive, got {shown(complete_df)}; or leave it out."
        )
    return q, u
