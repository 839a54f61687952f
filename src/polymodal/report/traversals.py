"""Latent traversals: which modalities each dimension moves, in bars and in pictures."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch

from polymodal.analysis.traversals import Attribution, traverse
from polymodal.data.kinds import mosaic
from polymodal.metrics.traversals import attribute_latents
from polymodal.report import plots
from polymodal.report.pictures import Group, Picture, Scenes, drawn, pixels
from polymodal.runs.run import Run

BARS, TOP = 16, 2  # dimensions in the bar plot; dimensions of each modality in pictures
TRAVERSED = (
    "Each dimension of the latent is moved by itself over evenly spaced values with the mean and"
    " variance that it has over test samples. Bars: the variance of the decoded means, as a share"
    " of the modality's own variance over the test data, both summed over the modality's values;"
    " with standard errors over the samples. A dimension moves a modality if the share is at least"
    " 1 %; shares of dimensions that act together may add up to more than 1. Pictures: one test"
    " sample, a column for each value and a row for each modality."
)


def traversals(scenes: Scenes) -> list[Group]:
    """The traversals of every run, from the same test samples; none of data with one sample."""
    if len(scenes.data.test) < 2:
        return []
    return [_traversals(label, run, scenes) for label, run in scenes.runs.items()]


def _traversals(label: str, run: Run, scenes: Scenes) -> Group:
    found = attribute_latents(run.model, scenes.data.test)
    alt = f"Bars: the share of each modality's variance that a dimension moves, {label}"
    figure = drawn(_bars(found), alt, "the dimensions that move most")
    pictures = [_picture(run, d, found, scenes) for d in top_dimensions(found)]
    return Group([figure, *pictures], label, counted(found))


def top_dimensions(found: Attribution, top: int = TOP) -> list[int]:
    """The `top` dimensions of each modality, each once, that move it."""
    dims = [d for m, share in found.shares.items() for d in found.order(m)[:top] if share[d] > 0]
    return list(dict.fromkeys(dims))


def counted(found: Attribution) -> str:
    """How many dimensions move several modalities, one, or none.

    >>> shares = {"a": torch.tensor([0.5, 0.2, 0.0]), "b": torch.tensor([0.4, 0.0, 0.001])}
    >>> counted(Attribution(shares, shares, torch.zeros(2, 3), torch.zeros(2, 3)))
    'Of 3 dimensions 1 move several modalities, 1 only a, 0 only b, 1 none.'
    """
    moved = found.moved()
    count = Counter(names if len(names) < 2 else "several" for names in moved)
    single = "".join(f"{count[(m,)]} only {m}, " for m in found.shares)
    return (
        f"Of {len(moved)} dimensions {count['several']} move several modalities, {single}"
        f"{count[()]} none."
    )


def _bars(found: Attribution) -> plots.Figure:
    dims = found.order()[:BARS]
    values = {
        f"z{d}": {m: (float(s[d]), float(found.errors[m][d])) for m, s in found.shares.items()}
        for d in dims
    }
    return plots.bars(values, "", "share of the variance", inches=0.12)


def _picture(run: Run, d: int, found: Attribution, scenes: Scenes) -> Picture:
    """The first sample with dimension d moved, a row for each modality."""
    moved = traverse(found.z[:1], found.values, torch.tensor([d])).squeeze(0)
    x = run.model.decode(moved.unsqueeze(0))
    shares = ", ".join(f"{m} {float(share[d]):.2f}" for m, share in found.shares.items())
    alt = f"Dimension {d} of the latent moved over {len(moved)} values, a row for each modality"
    picture = pixels(mosaic([scenes.show(m, v.squeeze(0)) for m, v in x.items()]), alt, 2)
    return replace(picture, caption=f"z{d}: {shares}")
