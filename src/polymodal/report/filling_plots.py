"""Plots of what was filled in: values with intervals, PIT histograms, probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from polymodal.report.plots import FAINT, FIRST, GOOD, INK, SECOND, panels_of, words

ACROSS, SIZE = 4, (2.9, 2.5)  # panels in a row, and the size of each in inches
MOST = 12  # panels in a figure
LONGEST = 28  # characters of a name
DECADE = 10.0  # from which span on an axis is logarithmic
WIDEST = 0.05  # of the intervals, which may reach beyond the axis
FEWEST = 3  # cells of a bin that is shown
BANDS = 2.0  # standard errors of a histogram's bins that are shown
Row = Mapping[str, Any]


def predicted_against_true(points: Sequence[Row]) -> Figure:
    """A panel for each column: what was filled in, with its interval, over the true value. Blue:
    the interval holds the truth; orange: it does not.

    Args:
        points: rows with column, type, truth, center, lower, upper.
    """
    figure, panels = panels_of(len(points), SIZE, ACROSS)
    for k, (axes, row) in enumerate(zip(panels, points, strict=True)):
        _intervals(axes, row)
        left = "filled in" if k % ACROSS == 0 else ""
        below = "true" if k + ACROSS >= len(points) else ""
        words(axes, short(row["column"]), below, left)
    return figure


def _intervals(axes: Axes, row: Row) -> None:
    truth, center, lower, upper = (
        np.array(row[name], dtype=float) for name in ("truth", "center", "lower", "upper")
    )
    smallest = min(truth.min(), center.min(), lower.min())
    if row["type"] == "positive" and smallest > 0 and truth.max() > DECADE * truth.min():
        _logarithmic(axes)
    shown = _jittered(truth) if row["type"] == "count" else truth
    inside = (lower <= truth) & (truth <= upper)
    for mask, colour in ((inside, FIRST), (~inside, SECOND)):
        axes.vlines(shown[mask], lower[mask], upper[mask], color=colour, lw=0.7, alpha=0.35)
        axes.plot(shown[mask], center[mask], "o", ms=2.2, color=colour, mew=0)
    ends = [float(np.min([truth.min(), center.min()])), float(np.max([truth.max(), center.max()]))]
    axes.plot(ends, ends, color=INK, lw=0.8, ls=":")
    axes.grid(color=FAINT, lw=0.4)
    axes.set_ylim(*_limits(np.concatenate([truth, center]), lower, upper, axes.get_yscale()))
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))


def _logarithmic(axes: Axes) -> None:
    """Logarithmic axes with few ticks, as plain numbers."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def _limits(
    values: np.ndarray, lower: np.ndarray, upper: np.ndarray, scale: str
) -> tuple[float, float]:
    """Limits that hold all values and most bounds: one wide interval does not squeeze the rest."""
    low = min(values.min(), float(np.quantile(lower, WIDEST)))
    high = max(values.max(), float(np.quantile(upper, 1 - WIDEST)))
    if scale == "log":
        return low / 1.1, high * 1.1
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _jittered(x: np.ndarray) -> np.ndarray:
    """Whole numbers moved a little, so that equal ones can be told apart."""
    return x + 0.3 * (np.linspace(0, 1, len(x)) - 0.5)


def pit_histograms(rows: Sequence[Row]) -> Figure:
    """A panel for each column: how often the truth lies in each tenth of what is said of it. All
    bars in the green band: the distributions hold; a U: they are too narrow; a hump: too wide; a
    slope: they lie to one side.

    Args:
        rows: with column and counts.
    """
    figure, panels = panels_of(len(rows), (2.9, 1.9), ACROSS)
    for k, (axes, row) in enumerate(zip(panels, rows, strict=True)):
        counts = np.array(row["counts"], dtype=float)
        total, bins = counts.sum(), len(counts)
        share = counts / max(total, 1)
        error = BANDS * math.sqrt((1 / bins) * (1 - 1 / bins) / max(total, 1))
        axes.axhspan(max(0.0, 1 / bins - error), 1 / bins + error, color=GOOD, alpha=0.4, lw=0)
        axes.bar((np.arange(bins) + 0.5) / bins, share, width=0.92 / bins, color=FIRST)
        axes.axhline(1 / bins, color=INK, lw=0.7, ls=":")
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        left = "share of cells" if k % ACROSS == 0 else ""
        below = "P(X ≤ true)" if k + ACROSS >= len(rows) else ""
        words(axes, f"{short(row['column'])} ({total:.0f})", below, left)
    return figure


def reliability(rows: Sequence[Row], bins: int = 10) -> Figure:
    """How often the most probable category is right, over its probability; a panel for each column,
    the area of a point in proportion to its cells.

    Args:
        rows: with column, probability and right.
    """
    figure, panels = panels_of(len(rows), (2.6, 2.6), ACROSS)
    for k, (axes, row) in enumerate(zip(panels, rows, strict=True)):
        probability, right = (np.array(row[name]) for name in ("probability", "right"))
        place = np.minimum((probability * bins).astype(int), bins - 1)
        for b in np.unique(place):
            _bin(axes, probability[place == b], right[place == b], len(place))
        axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":", zorder=1)
        axes.set_xlim(min(0.45, probability.min() - 0.05), 1.03)
        axes.set_ylim(-0.04, 1.06)
        axes.grid(color=FAINT, lw=0.4)
        left = "share that is right" if k % ACROSS == 0 else ""
        words(axes, f"{short(row['column'])} ({len(place)})", "probability said", left)
    return figure


def _bin(axes: Axes, probability: np.ndarray, right: np.ndarray, total: int) -> None:
    """A point for the cells of one bin, (n,) each, if they are not too few."""
    mean, share, n = probability.mean(), right.mean(), len(right)
    if n < FEWEST:
        return
    error = BANDS * math.sqrt(max(mean * (1 - mean), 1e-4) / n)
    band = max(0.0, mean - error), min(1.0, mean + error)
    axes.plot([mean, mean], band, color=GOOD, lw=5, alpha=0.6, zorder=0, solid_capstyle="butt")
    axes.scatter([mean], [share], s=8 + 90 * n / total, color=FIRST, lw=0, zorder=2)


def short(name: str) -> str:
    """A name that fits above a panel."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
