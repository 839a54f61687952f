"""A picture of which values are missing: samples sorted by pattern, one column for each column."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from polymodal.data.grid import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PRESENT, MISSING = "#3b5b7d", "#f2c14e"
MOST_NAMES = 60  # columns whose names fit below
ROWS, COLUMNS = 1500, 4000  # that are drawn
LONGEST = 24  # characters of a name


def missing_picture(grid: Grid) -> bytes:
    """A PNG of the grid: rows are samples, those with the same missing values together, the most
    complete at the top; names of modalities above and of columns below.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    count, columns = grid.present.shape
    width = min(16.0, max(5.0, 1.8 + 0.28 * columns))
    figure = Figure(figsize=(width, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    drawn = _sorted(grid.present)
    axes.imshow(
        drawn,
        aspect="auto",
        interpolation="nearest",
        cmap=ListedColormap([MISSING, PRESENT]),
        vmin=0,
        vmax=1,
        extent=(-0.5, columns - 0.5, count, 0),
    )
    _name(axes, grid)
    axes.set_ylabel(f"{count:,} samples, sorted by pattern")
    axes.set_title(_title(grid), fontsize=10, loc="left", pad=22)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _sorted(present: np.ndarray) -> np.ndarray:
    """The rows, complete ones first and equal ones together; at most `ROWS` of them."""
    patterns, inverse, counts = np.unique(present, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((-counts, (~patterns).sum(1)))
    rank = np.empty(len(patterns), int)
    rank[order] = np.arange(len(patterns))
    rows = present[np.argsort(rank[inverse.reshape(-1)], kind="stable")]
    chosen = np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).round().astype(int)
    across = np.linspace(0, rows.shape[1] - 1, min(COLUMNS, rows.shape[1])).round().astype(int)
    return rows[chosen][:, across]


def _name(axes: Axes, grid: Grid) -> None:
    """Names of columns below and of modalities above, with lines between modalities."""
    count = len(grid.names)
    owners = list(grid.modalities)
    starts = [k for k in range(count) if k == 0 or owners[k] != owners[k - 1]]
    ends = [*starts[1:], count]
    for start in starts[1:]:
        axes.axvline(start - 0.5, color="white", linewidth=2)
    if count <= MOST_NAMES:
        for k in range(1, count):
            axes.axvline(k - 0.5, color="white", linewidth=0.4)
        names = [_short(name) for name in grid.names]
        axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor")
    else:
        axes.set_xlabel(f"{count:,} columns")
    above = axes.secondary_xaxis("top")
    spans = list(zip(starts, ends, strict=True))
    if count <= MOST_NAMES:  # one column of the modality's name is named below
        spans = [(a, b) for a, b in spans if b > a + 1 or grid.names[a] != owners[a]]
    middles = [(a + b - 1) / 2 for a, b in spans]
    above.set_xticks(middles, [_short(owners[a]) for a, _ in spans])
    above.tick_params(length=0)


def _short(name: str) -> str:
    """A name that fits; dollars would begin a formula."""
    text = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return text.replace("$", r"\$")


def _title(grid: Grid) -> str:
    share, patterns = (~grid.present).mean(), len(grid.patterns())
    complete = grid.present.all(1).sum()
    many = f"{patterns:,} patterns" if patterns > 1 else "one pattern"
    return f"{share:.1%} empty (yellow); {complete:,} complete samples; {many}"
