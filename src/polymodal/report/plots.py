"""Plots: data in, matplotlib `Figure` out. Nothing is shown, saved or kept in global state; `png`
gives the bytes.

>>> figure = bars({"a | b": {"jnf": (0.8, 0.02)}}, y="share of draws")
>>> png(figure)[:4]
b'\\x89PNG'
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from polymodal.sampling import Histogram

DPI = 120
INK, AXIS, FAINT, FIRST, SECOND = "#222222", "#888888", "#d9d9d9", "#1f5a92", "#c4552d"
GOOD = "#9ecf9e"  # the range of good values
# Those that colour-blind people can tell apart (Okabe and Ito; Wong 2011), and two more.
COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#f0e442",
    "#000000",
    "#8c564b",
    "#7f7f7f",
)
BINS = 25
SMALLEST = 1e-4  # eigenvalue on a logarithmic axis


def png(figure: Figure) -> bytes:
    """The bytes of a PNG file."""
    out = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # words of a user may hold $
    figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def panels_of(
    count: int, size: tuple[float, float] = (3.2, 2.5), across: int | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, `across` in a row (None: all), each of `size` in inches."""
    across = min(count, across or count)
    down = math.ceil(count / across)
    figure = Figure((size[0] * across, size[1] * down), dpi=DPI, layout="constrained")
    panels = [figure.add_subplot(down, across, k + 1) for k in range(count)]
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(AXIS)
        axes.tick_params(labelsize=7, color=AXIS, labelcolor=INK)
        axes.set_axisbelow(True)
    return figure, panels


def words(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    axes.set_title(title, fontsize=8, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=7, color=INK)
    axes.set_ylabel(y, fontsize=7, color=INK)


def colour_of(k: int) -> Any:
    """The colour of the k-th of several curves or classes."""
    return COLOURS[k % len(COLOURS)]


def legend(axes: Axes, **options: Any) -> None:
    axes.legend(**{"fontsize": 7, "frameon": False, **options})


# Losses.


def loss_curves(history: pd.DataFrame) -> Figure:
    """Training and validation loss over the epochs, a panel for each stage.

    Args:
        history: a row for each epoch, with columns stage, epoch, train_loss and val_loss
            (`Run.history`).
    """
    history = history[history["train_loss"].notna()]
    stages = list(dict.fromkeys(history["stage"]))
    figure, panels = panels_of(len(stages))
    for axes, stage in zip(panels, stages, strict=True):
        rows = history[history["stage"] == stage]
        _curve(axes, rows, "train_loss", "training", FIRST)
        _curve(axes, rows, "val_loss", "validation", SECOND)
        axes.grid(axis="y", color=FAINT, lw=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        words(axes, stage, "epoch")
    panels[0].set_ylabel("loss", fontsize=7, color=INK)
    legend(panels[0])
    return figure


def _curve(axes: Axes, rows: pd.DataFrame, column: str, name: str, colour: str) -> None:
    """One column over the epochs; fewer than three values are marked by points."""
    rows = rows[rows[column].notna()]
    marker = "." if len(rows) < 3 else ""
    axes.plot(rows["epoch"], rows[column], color=colour, lw=1.3, marker=marker, label=name)


# Results.


def bars(
    values: Mapping[str, Mapping[str, tuple[float, float]]],
    title: str = "",
    y: str = "",
    inches: float = 0.28,
) -> Figure:
    """Groups of bars from 0 up, with standard errors.

    Args:
        values: values[group][method] = (value, standard error), the latter NaN if it is not known.
        title: of the figure.
        y: of the vertical axis.
        inches: width of the place of a bar.
    """
    methods = list(dict.fromkeys(m for group in values.values() for m in group))
    total = 0.9 + inches * len(values) * (len(methods) + 1)
    figure, (axes,) = panels_of(1, (max(3.2, total), 2.5))
    width = 0.8 / len(methods)
    for k, method in enumerate(methods):
        shift = (k - (len(methods) - 1) / 2) * width
        places = {i + shift: g[method] for i, g in enumerate(values.values()) if method in g}
        _bars(axes, places, width=0.92 * width, label=method, color=colour_of(k))
    axes.grid(axis="y", color=FAINT, lw=0.5)
    axes.set_ylim(bottom=0.0)  # after the last bar: it ends the scaling of the axis
    axes.set_xticks(range(len(values)), [_in_lines(group) for group in values])
    words(axes, title, "", y)
    if len(methods) > 1:
        legend(axes, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _bars(axes: Axes, places: Mapping[float, tuple[float, float]], **style: Any) -> None:
    """Bars {place: (height, standard error)}, from 0 up."""
    heights = [height for height, _ in places.values()]
    errors = np.nan_to_num([error for _, error in places.values()])
    axes.bar(list(places), heights, yerr=errors, error_kw={"lw": 0.8, "ecolor": INK}, **style)


def _in_lines(group: str) -> str:
    """The label "a | b, c" in lines."""
    return group.replace(" | ", "\ngiven ").replace(", ", ",\n")


# Embeddings and dimensions.


def spectrum(correlations: Tensor, num_directions: int) -> Figure:
    """Held-out correlations of the embeddings' directions, (K,), those that are used in blue."""
    figure, (axes,) = panels_of(1)
    _correlations(axes, correlations, num_directions)
    return figure


def _correlations(axes: Axes, correlations: Tensor, num_directions: int) -> None:
    values = correlations.detach().cpu().tolist()
    unused = len(values) - num_directions
    colours = [FIRST] * num_directions + [FAINT] * unused
    axes.bar(range(1, len(values) + 1), values, color=colours, width=0.8)
    axes.axvline(num_directions + 0.5, color=INK, lw=0.8, ls=":")
    axes.set_ylim(min(0.0, *values), 1)
    title = f"{num_directions} of {len(values)} directions used"
    words(axes, title, "direction", "correlation, held out")


def spectra(
    values: Mapping[str, Sequence[float]],
    kept: Mapping[str, int],
    correlations: Tensor | None = None,
    num_directions: int = 0,
) -> Figure:
    """The eigenvalues of score ratio matching, beside correlations of deep CCA if there are any.

    Args:
        values: each modality's eigenvalues of H, descending.
        kept: the number of dimensions that each modality keeps.
        correlations: of deep CCA's embeddings, (K,), of which `num_directions` are used; None: no
            such panel.
    """
    figure, panels = panels_of(2 if correlations is None else 3, (3.4, 2.7))
    if correlations is not None:
        _correlations(panels[0], correlations, num_directions)
    *_, left, right = panels
    for k, (m, eigenvalues) in enumerate(values.items()):
        _eigenvalues(left, m, eigenvalues, kept[m], colour_of(k))
        right.bar(m, len(eigenvalues), color=FAINT, width=0.7)
        right.bar(m, kept[m], color=colour_of(k), width=0.7)
    left.set_yscale("log")
    legend(left, fontsize=6)
    words(left, "Score ratio matching", "direction", "eigenvalue of H, held out")
    total = f"{sum(kept.values())} of {sum(map(len, values.values()))}"
    words(right, f"{total} dimensions kept", "modality", "dimensions")
    return figure


def _eigenvalues(axes: Axes, name: str, values: Sequence[float], kept: int, colour: Any) -> None:
    """Eigenvalues over their number, a dot at the last one that is kept."""
    heights = [max(value, SMALLEST) for value in values]
    axes.plot(range(1, len(heights) + 1), heights, lw=1, label=name, color=colour)
    if kept:
        axes.plot([kept], [heights[kept - 1]], "o", ms=4, color=colour)


def embedded(
    embeddings: Mapping[str, Tensor],
    label: Tensor | None = None,
    classes: Sequence[Any] = (),
    seed: int = 0,
) -> Figure:
    """The embeddings (N, d) of each modality, of the same N samples, coloured by label (N,), which
    the legend shows as `classes` names them.

    d = 1: histograms; d = 2: points; d > 2: points by t-SNE with this seed.
    """
    figure, panels = panels_of(len(embeddings), (2.9, 2.9))
    for axes, (name, values) in zip(panels, embeddings.items(), strict=True):
        points = values.detach().double().cpu().numpy()
        if points.shape[1] > 2:
            points = _tsne(points, seed)
            _hide_axes(axes)
        axes.set_title(name, fontsize=8, color=INK, loc="left")
        _by_label(axes, points, label, classes)
    if label is not None and 1 < len(label.unique()) <= 20:
        _label_legend(figure, panels[-1])
    return figure


def _label_legend(figure: Figure, axes: Axes) -> None:
    """The labels right of the panels."""
    place: dict[str, Any] = {"loc": "outside right center", "markerscale": 2}
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, frameon=False, **place)


def _tsne(points: np.ndarray, seed: int) -> np.ndarray:
    """Points (N, d) in two dimensions, (N, 2)."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(points)


def _hide_axes(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _by_label(axes: Axes, points: np.ndarray, label: Tensor | None, classes: Sequence[Any]) -> None:
    """Points (N, 2) by label; of (N, 1) a histogram for each label."""
    labels = np.zeros(len(points)) if label is None else label.cpu().numpy()
    draw = _bins(axes, points) if points.shape[1] == 1 else _dots(axes)
    for k, value in enumerate(np.unique(labels)):
        name = str(classes[int(value)] if classes else value)
        draw(points[labels == value], color=colour_of(k), label=name, lw=0)


def _bins(axes: Axes, points: np.ndarray) -> Callable[..., None]:
    """A function that draws a histogram of points (n, 1), in the range of all `points`."""
    edges = np.linspace(points.min(), points.max(), 41).tolist()
    axes.set_ylabel("samples", fontsize=7, color=INK)

    def draw(chosen: np.ndarray, **style: Any) -> None:
        axes.hist(chosen[:, 0], bins=edges, alpha=0.7, **style)

    return draw


def _dots(axes: Axes) -> Callable[..., None]:
    """A function that draws points (n, 2)."""

    def draw(chosen: np.ndarray, **style: Any) -> None:
        axes.scatter(chosen[:, 0], chosen[:, 1], s=4, **style)

    return draw


# Samplers.


def histograms(figures: Sequence[Histogram]) -> Figure:
    """A panel for each figure of a sampler's report; the range of good values is green."""
    figure, panels = panels_of(len(figures), (2.7, 2.2))
    for axes, shown in zip(panels, figures, strict=True):
        values = shown.values[shown.values.isfinite()].double().cpu().numpy()
        if len(values):
            _histogram(axes, values, shown)
        words(axes, "", shown.title)
    panels[0].set_ylabel("items", fontsize=7, color=INK)
    return figure


def _histogram(axes: Axes, values: np.ndarray, shown: Histogram) -> None:
    """Finite values, and the range of good ones."""
    top = np.quantile(values, 0.99)  # so that a few bad items do not squeeze the rest into one bar
    values = np.minimum(values, top)
    low, high = _range(values, shown)
    axes.hist(values, BINS, range=(low, high), color=FIRST)
    if shown.low > -math.inf or shown.high < math.inf:
        good = max(shown.low, low), min(shown.high, high)
        axes.axvspan(*good, color=GOOD, alpha=0.35, lw=0, zorder=0)
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))


def _range(values: np.ndarray, shown: Histogram) -> tuple[float, float]:
    """A range that holds the values and the finite ends of the good range, with a margin."""
    ends = [end for end in (shown.low, shown.high) if math.isfinite(end)]
    inside = [*values, *ends]
    low, high = min(inside), max(inside)
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin
