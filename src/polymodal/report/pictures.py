"""The pictures of a report: what several runs make of the same given samples and the same noise."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data import Dataset, Splits
from polymodal.data.kinds import kind_of, mosaic
from polymodal.metrics.probe import latent_means
from polymodal.model import MultimodalVAE
from polymodal.posteriors.joint import JointWithSurrogates
from polymodal.report import plots
from polymodal.runs.run import Run
from polymodal.sampling.diagnostics import ChainReport

GIVEN, DRAWS, ITEMS, JOINT, EMBEDDED, POINTS = 6, 4, 32, 12, 500, 300
PAGE = 1280  # width in pixels


@dataclass(frozen=True)
class Picture:
    """A PNG in base64 with its caption, words for those who do not see it, and its size on the
    page.
    """

    data: str
    alt: str
    width: int
    height: int
    caption: str = ""
    pixels: bool = False


@dataclass(frozen=True)
class Group:
    """Pictures that belong together."""

    pictures: Sequence[Picture]
    title: str = ""
    text: str = ""


@dataclass
class Generated:
    """What runs generated given one subset: the grids, and how their samplers fared."""

    groups: list[Group] = field(default_factory=list)
    diagnostics: dict[tuple[str, str], ChainReport] = field(default_factory=dict)


def drawn(figure: Figure, alt: str, caption: str = "") -> Picture:
    """A figure at its own size."""
    width, height = (round(inches * plots.DPI) for inches in figure.get_size_inches())
    data = base64.b64encode(plots.png(figure)).decode()
    return Picture(data, alt, round(width * 0.9), round(height * 0.9), caption)


def pixels(image: np.ndarray, alt: str, beside: int = 1) -> Picture:
    """An image pixel for pixel, shown twice as large if it is small or `beside` such images then
    still fit the page.
    """
    scale = 2 if image.shape[1] <= 220 or 2 * image.shape[1] * beside <= PAGE else 1
    data = base64.b64encode(plots.png(image)).decode()
    return Picture(data, alt, image.shape[1] * scale, image.shape[0] * scale, pixels=True)


def merged(pictures: Mapping[str, Picture]) -> list[Picture]:
    """Runs' pictures with their labels as captions; those that are equal, pixel for pixel, once."""
    names: dict[str, list[str]] = {}
    for label, picture in pictures.items():
        names.setdefault(picture.data, []).append(label)
    first = {p.data: p for p in reversed(list(pictures.values()))}
    found = []
    for data, labels in names.items():
        p, caption = first[data], ", ".join(labels) if len(pictures) > 1 else ""
        found.append(
            Picture(data, f"{p.alt} ({', '.join(labels)})", p.width, p.height, caption, p.pixels)
        )
    return found


class Scenes:
    """Pictures of several runs on the same test samples.

    Args:
        runs: label -> run, all of the same modalities.
        data: what they were trained and are tested on.
    """

    def __init__(self, runs: Mapping[str, Run], data: Splits) -> None:
        self.runs, self.data = runs, data
        self.names = [m.name for m in data.modalities]
        rows = chosen(data.test, ITEMS)
        self.batch = data.test.batch(rows)
        self.modalities = {m.name: m for m in data.modalities}
        self.spans = {m.name: kind_of(m).span(self.batch.x[m.name], m) for m in data.modalities}

    def _rows(self, m: str, x: Tensor) -> Tensor:
        modality = self.modalities[m]
        return kind_of(modality).show(x, modality, self.spans[m])

    def subsets(self) -> Iterator[tuple[str, ...]]:
        """Subsets to generate from: all proper ones; of more than four modalities those of one and
        of all but one.
        """
        sizes = range(1, len(self.names))
        for size in sizes if len(self.names) <= 4 else (1, len(self.names) - 1):
            yield from combinations(self.names, size)

    def generated(self) -> Generated:
        """Every modality given every subset of the others: first what is given, below it what was
        drawn.
        """
        found = Generated()
        for given in self.subsets():
            targets = [m for m in self.names if m not in given]
            shown: dict[str, dict[str, Picture]] = {m: {} for m in targets}
            for label, run in self.runs.items():
                x = _with_noise(run.model, self.batch.only(given), DRAWS, targets)
                if isinstance(run.model.diagnostics, ChainReport):
                    found.diagnostics[label, " and ".join(given)] = run.model.diagnostics
                above = [self._rows(m, self.batch.x[m][:GIVEN]) for m in given]
                for m in targets:
                    rows = [*above, *(self._rows(m, one[:GIVEN]) for one in x[m])]
                    what = (
                        f"{GIVEN} test samples of {' and '.join(given)}, below each {DRAWS} draws"
                        f" of {m}"
                    )
                    shown[m][label] = pixels(mosaic(rows, apart=len(given)), what, len(self.runs))
            for m, pictures in shown.items():
                found.groups.append(Group(merged(pictures), f"{m} given {' and '.join(given)}"))
        return found

    def joint(self) -> Group:
        """Joint samples, z ~ p(z): each column is one draw of all modalities."""
        shown = {}
        for label, run in self.runs.items():
            x = _with_noise(run.model, None, JOINT, self.names)
            rows = [self._rows(m, x[m][:, 0]) for m in self.names]
            shown[label] = pixels(
                mosaic(rows), f"{JOINT} joint samples of {' and '.join(self.names)}"
            )
        return Group(
            merged(shown), "", "Each column is one draw from the prior, decoded to every modality."
        )

    def reconstructed(self) -> Group:
        """Test samples and, below each, what the joint posterior makes of all of its modalities."""
        shown = {}
        count = min(JOINT, len(self.batch))
        batch = Batch({m: x[:count] for m, x in self.batch.x.items()})
        for label, run in self.runs.items():
            x = _with_noise(run.model, batch, 1, self.names)
            rows = [
                r for m in self.names for r in (self._rows(m, batch.x[m]), self._rows(m, x[m][0]))
            ]
            shown[label] = pixels(
                mosaic(rows), f"{count} test samples and their reconstructions, row by row"
            )
        return Group(
            merged(shown),
            "",
            "Of each modality the upper row is given and the lower is its reconstruction.",
        )

    def embedded(self) -> list[Group]:
        """The embeddings g_m of runs that have them: their spectrum, and where the test samples
        lie.
        """
        found = []
        rows = chosen(self.data.test, EMBEDDED)
        batch = self.data.test.batch(rows)
        for label, run in self.runs.items():
            posterior = run.model.posterior
            experts: Any = posterior.experts if isinstance(posterior, JointWithSurrogates) else {}
            nets = {m: e.embed for m, e in experts.items() if e.embed is not None}
            if not nets:
                continue
            kept = int(next(iter(nets.values()))[1].kept)
            with torch.no_grad():
                h = {m: net(batch.x[m])[:, :kept] for m, net in nets.items()}
            spectrum = plots.spectrum(run.model.posterior.spectrum, kept)
            pictures = [
                drawn(
                    spectrum,
                    f"Held-out correlations of the embeddings' directions; {kept} are kept",
                ),
                drawn(
                    plots.tsne(h, batch.label),
                    f"Embeddings of {len(rows)} test samples, a panel for each modality",
                ),
            ]
            how = "t-SNE of the embeddings" if kept > 2 else "the embeddings"
            text = (
                f"Left: correlations on held-out data. Right: {how} of the same {len(rows)} test"
                " samples"
            )
            found.append(
                Group(
                    pictures,
                    label,
                    text + (", coloured by label." if batch.label is not None else "."),
                )
            )
        return found

    def reduced(self) -> list[Group]:
        """Spectra of score ratio matching, beside deep CCA's of another run where there is one."""
        cca = [
            r.model.posterior
            for r in self.runs.values()
            if isinstance(r.model.posterior, JointWithSurrogates)
        ]
        found, embedded = [], [p for p in cca if "spectrum" in dict(p.named_buffers())]
        for label, run in self.runs.items():
            figures = run.info["stages"].get("frame", {}).get("figures", {})
            if not figures:
                continue
            beside: tuple[Any, int] = (None, 0)
            if embedded:
                first: Any = next(iter(embedded[0].experts.values()))
                beside = embedded[0].spectrum, int(first.embed[1].kept)
            picture = plots.spectra(figures["spectra"], figures["kept"], *beside)
            off = max(figures["trace_error"], abs(figures["trace"] - figures["check"])) / 2
            text = (
                f"The estimated bound of what is left out: {figures['bound']:.3g} nats, off by"
                f" about {off:.2g}."
            )
            found.append(
                Group(
                    [drawn(picture, "Eigenvalues of each modality, and how many are kept")],
                    label,
                    text,
                )
            )
        return found

    def plane(self) -> Group | None:
        """Figure 2 of the paper, for latents of two dimensions and images."""
        runs = {k: r for k, r in self.runs.items() if r.model.prior().event_shape == (2,)}
        images = [m.name for m in self.data.modalities if kind_of(m).visual]
        if not runs or len(images) < 2:
            return None
        first, second = images[:2]
        train = self.data.train.batch(chosen(self.data.train, POINTS))
        size = plots.extent(self._rows(first, train.x[first]))
        one = int(_telling(self._rows(first, self.batch.x[first]), self.batch.label))
        given = self.batch.only([first])
        panels = [self._panel(label, run, train, given, one, second) for label, run in runs.items()]
        figure = plots.latent_plane(
            panels, self._rows(first, given.x[first])[one], train.label, size
        )
        text = (
            f"Dots: joint embeddings of {len(train)} training samples, hue by label, stronger the"
            f" larger the {first}. Contours: q(z | {first}) of the {first} at the right, enclosing"
            f" 30, 60 and 90 % of its mass. Below it: {second} drawn from there."
        )
        return Group(
            [
                drawn(
                    figure, f"Latent plane with one posterior given {first}, for {', '.join(runs)}"
                )
            ],
            "",
            text,
        )

    def _panel(
        self, label: str, run: Run, train: Batch, given: Batch, one: int, target: str
    ) -> plots.Plane:
        (name,) = given.x
        posterior = run.model.posterior
        with torch.no_grad():
            q, z = (
                posterior(Batch({name: given.x[name][one : one + 1]})),
                latent_means(run.model, train),
            )
        samples = _with_noise(run.model, Batch({name: given.x[name][one : one + 1]}), 5, [target])[
            target
        ][:, 0]
        return plots.Plane(
            label, z, lambda at: q.log_prob(at.unsqueeze(1)).squeeze(1), self._rows(target, samples)
        )


def _with_noise(
    model: MultimodalVAE, batch: Batch | None, n: int, targets: Sequence[str]
) -> dict[str, Tensor]:
    """`model.generate` with the same noise each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return model.generate(batch, n, targets)


def chosen(data: Dataset, count: int) -> Tensor:
    """Rows of `count` samples that have every modality, the labels in turn: 0, 1, 2, ..., 0, 1, 2,
    ...
    """
    whole = torch.ones(len(data), dtype=torch.bool, device=data.device)
    for mask in data.present.values():
        whole = whole & mask
    rows = whole.nonzero().squeeze(1)
    rows = rows if len(rows) else torch.arange(len(data), device=data.device)
    if data.label is None:
        return rows[:count]
    label = data.label[rows]
    turn = torch.zeros_like(label)
    for value in label.unique():
        same = label == value
        turn[same] = torch.arange(int(same.sum()), device=label.device)
    order = (turn * (label.max() + 1) + label).argsort(stable=True)
    return rows[order[:count]]


def _telling(images: Tensor, label: Tensor | None) -> Tensor:
    """The row of the largest thing shown among those of the highest label."""
    size = plots.extent(images)
    return (size if label is None else torch.where(label == label.max(), size, -1.0)).argmax()
