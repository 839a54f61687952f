"""Pictures: data in, matplotlib `Figure` out. Nothing is shown, saved or kept in global state;
`png` gives the bytes.

>>> figure = image_grid([torch.rand(4, 1, 8, 8), torch.rand(4, 3, 10, 10)], ["given", "generated"])
>>> png(figure)[:4]
b'\\x89PNG'
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from polymodal.data.kinds import pixels
from polymodal.data.kinds.pixels import GAP, WIDE, mosaic
from polymodal.sampling.diagnostics import ACCEPTANCE, RHAT, ChainReport

DPI = 120
INK, FAINT, FIRST, SECOND = "#222222", "#d9d9d9", "#1f5a92", "#c4552d"


def png(picture: Figure | np.ndarray, scale: int = 1) -> bytes:
    """The bytes of a PNG file: of a figure, or of an image (H, W, 3) with every pixel `scale` times
    as large.
    """
    if not isinstance(picture, Figure):
        return pixels.png(picture, scale)
    out = io.BytesIO()
    picture.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def image_grid(
    rows: Sequence[Tensor],
    labels: Sequence[str] | None = None,
    title: str = "",
    scale: int = 2,
    apart: int = 0,
) -> Figure:
    """`mosaic` as a figure in which every pixel is exactly `scale` pixels wide, with a label left
    of each row.

    For given-and-generated images: rows = [given, sample 1, sample 2, ...], apart=1; for joint
    samples and reconstructions likewise.
    """
    image = mosaic(rows, apart=apart)
    high, wide = image.shape[0] * scale, image.shape[1] * scale
    left, top = (90 if labels else 6), (26 if title else 6)
    total = (left + wide + 6, top + high + 6)
    figure = Figure((total[0] / DPI, total[1] / DPI), dpi=DPI)
    axes = figure.add_axes((left / total[0], 6 / total[1], wide / total[0], high / total[1]))
    axes.imshow(image, interpolation="nearest", aspect="auto")
    axes.axis("off")
    tall = max(r.shape[-2] for r in rows)
    for i, label in enumerate(labels or ()):
        above = i * (tall + GAP) + (WIDE if apart and i >= apart else 0)
        axes.text(-4, above + tall / 2, label, ha="right", va="center", fontsize=7, color=INK)
    if title:
        figure.text(
            left / total[0], 1 - 8 / total[1], title, ha="left", va="top", fontsize=8, color=INK
        )
    return figure


def _figure(panels: int, size: tuple[float, float] = (3.2, 2.5)) -> tuple[Figure, list[Axes]]:
    figure = Figure((size[0] * panels, size[1]), dpi=DPI, layout="constrained")
    axes = [figure.add_subplot(1, panels, k + 1) for k in range(panels)]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color("#888888")
        one.tick_params(labelsize=7, color="#888888", labelcolor=INK)
        one.set_axisbelow(True)
    return figure, axes


def _words(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    axes.set_title(title, fontsize=8, color=INK, loc="left")
    axes.set_xlabel(x, fontsize=7, color=INK)
    axes.set_ylabel(y, fontsize=7, color=INK)


def loss_curves(history: pd.DataFrame) -> Figure:
    """Training and validation loss over the epochs, a panel for each stage.

    Args:
        history: a row for each epoch, with columns stage, epoch, train_loss and val_loss
            (`Run.history`).
    """
    history = history[history["train_loss"].notna()]
    stages = list(dict.fromkeys(history["stage"]))
    figure, panels = _figure(len(stages))
    for axes, stage in zip(panels, stages, strict=True):
        rows = history[history["stage"] == stage]
        for column, colour, name in (
            ("train_loss", FIRST, "training"),
            ("val_loss", SECOND, "validation"),
        ):
            seen = rows[rows[column].notna()]
            marker = "." if len(seen) < 3 else ""
            axes.plot(seen["epoch"], seen[column], color=colour, lw=1.3, marker=marker, label=name)
        _words(axes, stage, "epoch", "loss" if axes is panels[0] else "")
        axes.grid(axis="y", color=FAINT, lw=0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].legend(fontsize=7, frameon=False)
    return figure


def bars(
    values: Mapping[str, Mapping[str, tuple[float, float]]],
    title: str = "",
    y: str = "",
    floor: float | None = 0.0,
) -> Figure:
    """Groups of bars with standard errors, for coherences: values[group][method] = (value, standard
    error).

    Args:
        floor: where the axis begins; None: as it comes (for figures that are not shares).
    """
    methods = list(dict.fromkeys(m for group in values.values() for m in group))
    figure, (axes,) = _figure(1, (max(3.2, 0.9 + 0.28 * len(values) * (len(methods) + 1)), 2.5))
    width = 0.8 / len(methods)
    for k, method in enumerate(methods):
        at = [(i, *group[method]) for i, group in enumerate(values.values()) if method in group]
        x = [i + (k - (len(methods) - 1) / 2) * width for i, *_ in at]
        errors = [0.0 if math.isnan(e) else e for *_, e in at]
        axes.bar(
            x,
            [v for _, v, _ in at],
            0.92 * width,
            yerr=errors,
            label=method,
            color=colormaps["tab10"](k),
            error_kw={"lw": 0.8, "ecolor": INK},
        )
    axes.set_xticks(
        range(len(values)),
        [group.replace(" | ", "\ngiven ").replace(", ", ",\n") for group in values],
    )
    axes.grid(axis="y", color=FAINT, lw=0.5)
    axes.set_ylim(bottom=floor)
    _words(axes, title, "", y)
    if len(methods) > 1:
        axes.legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def spectrum(correlations: Tensor, kept: int) -> Figure:
    """The embeddings' canonical correlations on held-out data, (K,), those kept in the stronger
    colour.
    """
    figure, (axes,) = _figure(1)
    _correlations(axes, correlations, kept)
    return figure


def _correlations(axes: Axes, correlations: Tensor, kept: int) -> None:
    values = correlations.detach().cpu().tolist()
    colours = [FIRST if k < kept else FAINT for k in range(len(values))]
    axes.bar(range(1, len(values) + 1), values, color=colours, width=0.8)
    axes.axvline(kept + 0.5, color=INK, lw=0.8, ls=":")
    axes.set_ylim(min(0.0, *values), 1)
    _words(axes, f"{kept} of {len(values)} directions kept", "direction", "correlation, held out")


def spectra(
    values: Mapping[str, Sequence[float]],
    kept: Mapping[str, int],
    correlations: Tensor | None = None,
    directions: int = 0,
) -> Figure:
    """What score ratio matching found, beside the spectrum of deep CCA where there is one.

    Args:
        values: each modality's eigenvalues of H, descending.
        kept: how many of them each modality keeps.
        correlations: of deep CCA's embeddings, (K,), of which `directions` are kept; None: no such
            panel.
    """
    figure, panels = _figure(2 if correlations is None else 3, (3.4, 2.7))
    if correlations is not None:
        _correlations(panels[0], correlations, directions)
    for i, (m, v) in enumerate(values.items()):
        (line,) = panels[-2].plot(range(1, len(v) + 1), [max(x, 1e-4) for x in v], lw=1, label=m)
        r = kept[m]
        if r:
            panels[-2].plot([r], [max(v[r - 1], 1e-4)], "o", ms=4, color=line.get_color())
        panels[-1].bar(i, len(v), color=FAINT, width=0.7)
        panels[-1].bar(i, r, color=line.get_color(), width=0.7)
    panels[-2].set_yscale("log")
    panels[-2].legend(fontsize=6, frameon=False)
    panels[-1].set_xticks(range(len(values)), list(values))
    total = f"{sum(kept.values())} of {sum(map(len, values.values()))}"
    _words(panels[-2], "Score ratio matching", "direction", "eigenvalue of H, held out")
    _words(panels[-1], f"{total} dimensions kept", "modality", "dimensions")
    return figure


def tsne(embeddings: Mapping[str, Tensor], label: Tensor | None = None, seed: int = 0) -> Figure:
    """Each modality's embeddings (N, d) of the same N samples, coloured by label (N,): t-SNE; of d
    = 1 histograms.

    Of d = 2 they stand where they are.
    """
    from sklearn.manifold import TSNE

    figure, panels = _figure(len(embeddings), (2.9, 2.9))
    for axes, (name, values) in zip(panels, embeddings.items(), strict=True):
        x = values.detach().double().cpu().numpy()
        if x.shape[1] > 2:
            x = TSNE(
                perplexity=min(30.0, (len(x) - 1) / 3), init="pca", random_state=seed
            ).fit_transform(x)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        _points(axes, x, label)
        _words(axes, name)
    if label is not None and 1 < len(label.unique()) <= 20:
        handles, names = panels[-1].get_legend_handles_labels()
        figure.legend(
            handles, names, fontsize=7, frameon=False, loc="outside right center", markerscale=2
        )
    return figure


def _points(axes: Axes, at: np.ndarray, label: Tensor | None) -> None:
    """Points (N, 2) by label; of (N, 1) a histogram of each label's."""
    values = [None] if label is None else label.unique().tolist()
    for k, value in enumerate(values):
        mine = at if label is None else at[(label == value).cpu().numpy()]
        look: dict[str, Any] = {"color": colormaps["tab10"](k % 10), "label": str(value), "lw": 0}
        if at.shape[1] == 1:
            axes.hist(
                mine[:, 0], bins=np.linspace(at.min(), at.max(), 41).tolist(), alpha=0.7, **look
            )
        else:
            axes.scatter(mine[:, 0], mine[:, 1], s=4, **look)


def sampler_diagnostics(diagnostics: ChainReport) -> Figure:
    """How chains fared over the items: acceptance, R-hat (if the sampler has one), effective sample
    size.

    Green: the range in which a chain is well.
    """
    shown: list[tuple[str, Tensor, tuple[float, float] | None]] = [
        ("acceptance", diagnostics.acceptance, ACCEPTANCE)
    ]
    if diagnostics.rhat is not None:
        shown.append(("R-hat, largest over dimensions", diagnostics.rhat, (1.0, RHAT)))
    shown.append(("effective sample size, smallest", diagnostics.ess, None))
    figure, panels = _figure(len(shown), (2.7, 2.2))
    for axes, (name, values, band) in zip(panels, shown, strict=True):
        finite = values[values.isfinite()].double().cpu().numpy()
        if len(finite):
            top = np.quantile(
                finite, 0.99
            )  # a few wild chains must not squeeze the rest into one bar
            axes.hist(
                np.minimum(finite, top),
                25,
                range=(0, 1) if name == "acceptance" else None,
                color=FIRST,
            )
        if band:
            axes.axvspan(*band, color="#9ecf9e", alpha=0.35, lw=0, zorder=0)
        if name == "acceptance":
            axes.set_xlim(0, 1)
        _words(axes, "", name, "items" if axes is panels[0] else "")
    return figure


@dataclass(frozen=True)
class Plane:
    """One panel of `latent_plane`.

    Args:
        name: the method.
        z: joint embeddings (N, 2).
        log_prob: z (G, 2) -> log q(z | x_m) (G,) of the one given x_m.
        samples: (k, C, H, W), generated from that posterior.
    """

    name: str
    z: Tensor
    log_prob: Callable[[Tensor], Tensor]
    samples: Tensor


def extent(x: Tensor) -> Tensor:
    """How large what images (N, C, H, W) show is, (N,): the larger side of the bright part's box,
    as a share.
    """
    on = x.amax(1) > 0.5
    sides = torch.stack([on.any(1).float().mean(1), on.any(2).float().mean(1)])
    return sides.amax(0)


def latent_plane(
    panels: Sequence[Plane], given: Tensor, label: Tensor | None = None, size: Tensor | None = None
) -> Figure:
    """A latent of two dimensions, as in Figure 2 of Senellart et al. (2023).

    Dots are joint embeddings; contours enclose 30, 60 and 90 % of one unimodal posterior's mass
    (within the panel). Beside each panel stands the given image, and below it what was generated.

    Args:
        panels: one for each method.
        given: the image x_m (C, H, W) whose posterior is drawn.
        label: (N,) classes of the embeddings; class 0 red, 1 blue, further ones in other colours.
        size: (N,), makes a point the stronger the larger it is.
    """
    figure = Figure((3.6 * len(panels), 3.0), dpi=DPI, layout="constrained")
    parts = figure.subfigures(1, len(panels), squeeze=False)[0]
    for part, panel in zip(parts, panels, strict=True):
        axes, beside = part.subplots(1, 2, width_ratios=(3, 1))
        _plane(axes, panel, label, size)
        shown = [given[None], *(s[None] for s in panel.samples)]
        beside.imshow(mosaic(shown, apart=1), interpolation="nearest")
        beside.axis("off")
    return figure


def _plane(axes: Axes, panel: Plane, label: Tensor | None, size: Tensor | None) -> None:
    z = panel.z.detach().cpu()
    low, high = z.amin(0), z.amax(0)
    low, high = low - 0.15 * (high - low), high + 0.15 * (high - low)
    x, y = (torch.linspace(low[k].item(), high[k].item(), 150) for k in (0, 1))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    with torch.no_grad():
        density = panel.log_prob(grid.reshape(-1, 2).to(panel.z)).exp().cpu().reshape(150, 150)
    # Levels that enclose given shares of the mass, so that a narrow and a wide posterior are both
    # seen whole.
    ordered = density.flatten().sort(descending=True).values
    mass = ordered.cumsum(0) / ordered.sum().clamp_min(1e-30)
    levels = sorted(
        {ordered[min(int((mass < share).sum()), len(mass) - 1)].item() for share in (0.9, 0.6, 0.3)}
    )
    if density.max() > 0:
        axes.contourf(
            x, y, density, [*levels, density.max().item() * 1.001], cmap="Greys", alpha=0.45, vmin=0
        )
        axes.contour(x, y, density, levels, colors=INK, linewidths=0.7)
    axes.scatter(z[:, 0], z[:, 1], c=point_colours(len(z), label, size), s=9, lw=0)
    axes.set_xlim(low[0].item(), high[0].item())
    axes.set_ylim(low[1].item(), high[1].item())
    axes.tick_params(labelsize=6)
    _words(axes, panel.name, "z1", "z2")


def point_colours(n: int, label: Tensor | None, size: Tensor | None) -> Any:
    """RGBA (n, 4): hue by class (0 red, 1 blue), strength by size."""
    strength = np.full(n, 0.75)
    if size is not None:
        size = size.detach().cpu().double()
        spread = (size.max() - size.min()).clamp_min(1e-12)
        strength = (0.3 + 0.7 * (size - size.min()) / spread).numpy()
    classes = np.ones(n, int) if label is None else label.cpu().numpy()
    maps = [colormaps[name] for name in ("Reds", "Blues", "Greens", "Oranges", "Purples", "Greys")]
    return np.stack([maps[c % len(maps)](s) for c, s in zip(classes, strength, strict=True)])
