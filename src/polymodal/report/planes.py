"""A latent of two dimensions: embeddings, one posterior, and what it generates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from polymodal.data.kinds import mosaic
from polymodal.report.plots import DPI, INK, words

SHARES = (0.3, 0.6, 0.9)  # of a posterior's mass, enclosed by contours
RESOLUTION = 150  # points on each side of the grid on which a density is evaluated
HUES = ("Reds", "Blues", "Greens", "Oranges", "Purples", "Greys")  # of classes 0, 1, ...


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
    """The size of the bright part of images (N, C, H, W): the larger side of its box as a share of
    the image's, (N,).
    """
    bright = x.amax(1) > 0.5
    rows, columns = bright.any(2).float().mean(1), bright.any(1).float().mean(1)
    return torch.maximum(rows, columns)


def latent_plane(
    panels: Sequence[Plane], given: Tensor, label: Tensor | None = None, size: Tensor | None = None
) -> Figure:
    """A latent of two dimensions, as in figure 2 of Senellart et al. (2023).

    Dots are joint embeddings; contours enclose 30, 60 and 90 % of one unimodal posterior's mass
    (within the panel). Right of each panel are the given image and, below it, the generated ones.

    Args:
        panels: one for each method.
        given: the image x_m (C, H, W) whose posterior is drawn.
        label: (N,) classes of the embeddings; class 0 red, 1 blue, further ones in other colours.
        size: (N,): points of larger values are stronger.
    """
    figure = Figure((3.6 * len(panels), 3.0), dpi=DPI, layout="constrained")
    places = figure.subfigures(1, len(panels), squeeze=False)[0]
    for place, panel in zip(places, panels, strict=True):
        plane, column = place.subplots(1, 2, width_ratios=(3, 1))
        _plane(plane, panel, point_colours(len(panel.z), label, size))
        images = [given[None], *panel.samples.unsqueeze(1)]
        column.imshow(mosaic(images, gap_after=1), interpolation="nearest")
        column.axis("off")
    return figure


def _plane(axes: Axes, panel: Plane, colours: np.ndarray) -> None:
    z = panel.z.detach().cpu()
    margin = 0.15 * (z.amax(0) - z.amin(0))
    low, high = z.amin(0) - margin, z.amax(0) + margin
    _contours(axes, *_density(panel, low, high))
    axes.scatter(z[:, 0], z[:, 1], c=colours, s=9, lw=0)
    axes.set_xlim(low[0].item(), high[0].item())
    axes.set_ylim(low[1].item(), high[1].item())
    axes.tick_params(labelsize=6)
    words(axes, panel.name, "z1", "z2")


def _density(panel: Plane, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A grid x (G,), y (G,) from low (2,) to high (2,), and the density on it, (G, G)."""
    x, y = (
        torch.linspace(a, b, RESOLUTION) for a, b in zip(low.tolist(), high.tolist(), strict=True)
    )
    grid = torch.cartesian_prod(y, x).flip(-1)
    with torch.no_grad():
        density = panel.log_prob(grid.to(panel.z)).exp().cpu()
    return x, y, density.view(RESOLUTION, RESOLUTION)


def _contours(axes: Axes, x: Tensor, y: Tensor, density: Tensor) -> None:
    """Contours that enclose `SHARES` of the mass on the grid: both a narrow and a wide density are
    seen whole.
    """
    top = density.max().item()
    if not top > 0:
        return
    levels = _levels(density)
    fill: dict[str, Any] = {"cmap": "Greys", "alpha": 0.45, "vmin": 0}
    axes.contourf(x, y, density, [*levels, top * 1.001], **fill)
    axes.contour(x, y, density, levels, colors=INK, linewidths=0.7)


def _levels(density: Tensor) -> list[float]:
    """The densities above which `SHARES` of the mass lie, ascending."""
    ordered = density.flatten().sort(descending=True).values
    mass = ordered.cumsum(0) / ordered.sum()
    places = torch.tensor([int((mass < share).sum()) for share in SHARES])
    return sorted(set(ordered[places.clamp(max=len(mass) - 1)].tolist()))


def point_colours(n: int, label: Tensor | None, size: Tensor | None) -> np.ndarray:
    """RGBA (n, 4): hue by class (0 red, 1 blue), strength by size."""
    strength = np.full(n, 0.75) if size is None else _strength(size)
    classes = np.ones(n, int) if label is None else label.cpu().numpy()
    return np.stack([_shade(*pair) for pair in zip(classes, strength, strict=True)])


def _shade(k: int, strength: float) -> Any:
    """The colour of class k."""
    return colormaps[HUES[k % len(HUES)]](strength)


def _strength(size: Tensor) -> np.ndarray:
    """Sizes (N,) as strengths from 0.3 to 1."""
    values = size.detach().cpu().double()
    spread = (values.max() - values.min()).clamp_min(1e-12)
    return (0.3 + 0.7 * (values - values.min()) / spread).numpy()
