"""The pictures of a report: what several runs make of the same samples with the same noise."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data import Dataset, Splits
from polymodal.data.kinds import kind_of, mosaic, png
from polymodal.distributions import weighable
from polymodal.metrics.evaluate import chosen_subsets
from polymodal.metrics.measurement import complete_rows
from polymodal.metrics.probe import latent_means
from polymodal.model import MultimodalVAE
from polymodal.posteriors import Embeddings
from polymodal.report import planes, plots
from polymodal.runs.run import Run
from polymodal.sampling import SamplerReport

GIVEN, DRAWS = 6, 4  # samples given in a picture, and draws below each
ITEMS = 32  # samples given to samplers
JOINT = 12  # joint samples, and reconstructions
EMBEDDED = 500  # samples whose embeddings are shown
POINTS, PLANE_DRAWS = 300, 5  # samples of the latent plane, and draws beside it
PAGE = 1280  # width in pixels
SMALL = 220  # images up to this width, in pixels, are shown twice as large
NOTHING = "nothing"  # what joint samples are given


@dataclass(frozen=True)
class Picture:
    """A PNG in base64, with words for those who do not see it, its size on the page, its caption.

    `pixels`: whether its pixels are shown as they are, not smoothed.
    """

    data: str
    alt: str
    width: int
    height: int
    caption: str = ""
    pixels: bool = False


@dataclass(frozen=True)
class Group:
    """Pictures that belong together; `text` says how to read them."""

    pictures: Sequence[Picture]
    title: str = ""
    text: str = ""


@dataclass
class Generated:
    """Pictures of generated samples, and reports[label, given modalities] of the samplers that drew
    them.
    """

    groups: list[Group] = field(default_factory=list)
    reports: dict[tuple[str, str], SamplerReport] = field(default_factory=dict)


class Sample(NamedTuple):
    """Generated values x[m] (n, B, *shape_m), and the sampler's report (None: closed form)."""

    x: dict[str, Tensor]
    report: SamplerReport | None


def drawn(figure: Figure, alt: str, caption: str = "") -> Picture:
    """A figure at its own size."""
    width, height = (round(0.9 * inches * plots.DPI) for inches in figure.get_size_inches())
    return Picture(_base64(plots.png(figure)), alt, width, height, caption)


def pixels(image: np.ndarray, alt: str, beside: int = 1) -> Picture:
    """An image (H, W, 3) pixel for pixel; twice as large if it is small, or if `beside` such images
    then still fit the page.
    """
    height, width = image.shape[:2]
    fits = width <= SMALL or 2 * width * beside <= PAGE
    scale = 2 if fits else 1
    return Picture(_base64(png(image)), alt, width * scale, height * scale, pixels=True)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def merged(pictures: Mapping[str, Picture]) -> list[Picture]:
    """The pictures of runs with their labels as captions; equal ones once, with all labels."""
    labels: dict[str, list[str]] = {}
    first: dict[str, Picture] = {}
    for label, picture in pictures.items():
        labels.setdefault(picture.data, []).append(label)
        first.setdefault(picture.data, picture)
    several = len(pictures) > 1
    return [_labelled(p, ", ".join(labels[data]), several) for data, p in first.items()]


def _labelled(p: Picture, label: str, has_caption: bool) -> Picture:
    caption = label if has_caption else ""
    return Picture(p.data, f"{p.alt} ({label})", p.width, p.height, caption, p.pixels)


class Scenes:
    """Pictures of several runs on the same test samples.

    Args:
        runs: label -> run, all of the same modalities.
        data: the data on which they were trained and are tested.
    """

    def __init__(self, runs: Mapping[str, Run], data: Splits) -> None:
        self.runs, self.data = runs, data
        self.modalities = {m.name: m for m in data.modalities}
        self.names = list(self.modalities)
        self.batch = data.test.batch(chosen(data.test, ITEMS))
        self.spans = {
            name: kind_of(m).span(self.batch.x[name], m) for name, m in self.modalities.items()
        }

    def show(self, m: str, x: Tensor) -> Tensor:
        """Values (n, *shape) of a modality as small pictures (n, 3, H, W)."""
        modality = self.modalities[m]
        return kind_of(modality).show(x, modality, self.spans[m])

    def subsets(self) -> list[tuple[str, ...]]:
        """All proper subsets; of more than four modalities those of one and of all but one."""
        usual = chosen_subsets(None, self.names)
        return [given for given in usual if len(given) < len(self.names)]

    # Generated samples.

    def generated(self) -> Generated:
        """Every modality given every subset of the others: the given samples, below them draws."""
        result = Generated()
        for given in self.subsets():
            words = " and ".join(given)
            targets = [m for m in self.names if m not in given]
            samples = self._samples(self.batch.only(given), DRAWS, targets)
            result.reports |= _reports(samples, words)
            for m in targets:
                values = {k: s.x[m] for k, s in samples.items() if m in s.x}
                shown = {k: self._conditional(given, m, x) for k, x in values.items()}
                result.groups.append(Group(merged(shown), f"{m} given {words}"))
        return result

    def joint(self) -> Generated:
        """Joint samples, z ~ p(z): each column is one draw of all modalities."""
        samples = self._samples(None, JOINT, self.names)
        alt = f"{JOINT} joint samples of {' and '.join(self.names)}"
        shown = {
            label: pixels(mosaic([self.show(m, x[:, 0]) for m, x in s.x.items()]), alt)
            for label, s in samples.items()
        }
        text = "Each column is one draw from the prior, decoded to every modality."
        return Generated([Group(merged(shown), "", text)], _reports(samples, NOTHING))

    def reconstructed(self) -> Group:
        """Test samples and, below each, its reconstruction from all modalities."""
        rows = self.batch.rows(slice(JOINT))
        batch = Batch(rows.x, covariates=rows.covariates)
        samples = self._samples(batch, 1, self.names)
        alt = f"{len(batch)} test samples and their reconstructions, row by row"
        shown = {k: pixels(self._pairs(batch, s.x), alt) for k, s in samples.items()}
        text = "Of each modality the upper row is given and the lower row is its reconstruction."
        return Group(merged(shown), "", text)

    def _pairs(self, batch: Batch, x: Mapping[str, Tensor]) -> np.ndarray:
        """The given values of every modality, and below them draws x[m] (1, B, *shape_m)."""
        rows = []
        for m, draws in x.items():
            rows += [self.show(m, batch.x[m]), self.show(m, draws[0])]
        return mosaic(rows)

    def _samples(self, batch: Batch | None, n: int, targets: Sequence[str]) -> dict[str, Sample]:
        """The same for every run."""
        return {k: sampled(run.model, batch, n, targets) for k, run in self.runs.items()}

    def _conditional(self, given: Sequence[str], target: str, x: Tensor) -> Picture:
        """The given samples, and below them draws x (n, B, *shape) of the target."""
        above = [self.show(m, self.batch.x[m][:GIVEN]) for m in given]
        below = [self.show(target, draw[:GIVEN]) for draw in x]
        count, words = min(GIVEN, len(self.batch)), " and ".join(given)
        alt = f"{count} test samples of {words}, below each {len(x)} draws of {target}"
        return pixels(mosaic([*above, *below], gap_after=len(above)), alt, len(self.runs))

    # Embeddings and dimensions.

    def embedded(self) -> list[Group]:
        """The spectrum of every posterior with embeddings, and the embeddings of test samples."""
        batch = self.data.test.batch(chosen(self.data.test, EMBEDDED))
        return [
            Group(
                _embedding_pictures(e, batch, self.data.test.classes),
                label,
                _embedding_text(e, batch),
            )
            for label, run in self.runs.items()
            if (e := run.model.posterior.embeddings) is not None
        ]

    def reduced(self) -> list[Group]:
        """The spectra of score ratio matching, beside those of the first run with embeddings."""
        every = (run.model.posterior.embeddings for run in self.runs.values())
        embeddings = next((e for e in every if e is not None), None)
        groups = []
        for label, run in self.runs.items():
            figures = run.info["stages"].get("frame", {}).get("figures", {})
            if figures:
                groups.append(_reduction(label, figures, embeddings))
        return groups

    # A latent of two dimensions.

    def plane(self) -> Group | None:
        """Figure 2 of Senellart et al. (2023), for latents of two dimensions and two modalities
        whose values are pictures; None for others, and posteriors without a density.
        """
        visual = [name for name, m in self.modalities.items() if kind_of(m).visual]
        if len(visual) < 2:
            return None
        first, second, *_ = visual
        given = self._largest_example(first)
        models = {k: run.model for k, run in self.runs.items()}
        shown = {k: model for k, model in models.items() if _has_plane(model, given, second)}
        if not shown:
            return None
        train = self.data.train.batch(chosen(self.data.train, POINTS))
        panels = [self._panel(k, model, train, given, second) for k, model in shown.items()]
        size = planes.extent(self.show(first, train.x[first]))
        image = self.show(first, given.x[first])[0]
        figure = planes.latent_plane(panels, image, train.label, size)
        alt = f"Latent plane with one posterior given {first}, for {', '.join(shown)}"
        return Group([drawn(figure, alt)], "", _plane_text(first, second, len(train)))

    def _largest_example(self, name: str) -> Batch:
        """The test sample with the largest bright part, among those of the highest label."""
        size, label = planes.extent(self.show(name, self.batch.x[name])), self.batch.label
        if label is not None:
            size = torch.where(label == label.max(), size, -1.0)
        row = int(size.argmax())
        one = self.batch.rows(slice(row, row + 1))
        return Batch({name: one.x[name]}, covariates=one.covariates)

    def _panel(
        self, label: str, model: MultimodalVAE, train: Batch, given: Batch, target: str
    ) -> planes.Plane:
        with torch.no_grad():
            q, z = model.posterior(given), latent_means(model, train)
        samples = sampled(model, given, PLANE_DRAWS, [target]).x[target][:, 0]

        def log_prob(at: Tensor) -> Tensor:
            return q.log_prob(at.unsqueeze(1)).squeeze(1)

        return planes.Plane(label, z, log_prob, self.show(target, samples))


def _has_plane(model: MultimodalVAE, given: Batch, target: str) -> bool:
    """Whether the latent has two dimensions, the posterior a density, and the target a decoder."""
    prior = model.prior()
    if prior.event_shape != (2,) or target not in model.decoders:
        return False
    with torch.no_grad():
        return weighable(model.posterior(given), prior)


def _plane_text(given: str, target: str, count: int) -> str:
    return (
        f"Dots: joint embeddings of {count} training samples, hue by label, stronger the larger the"
        f" {given}. Contours: q(z | {given}) of the {given} at the upper right, enclosing 30, 60"
        f" and 90 % of its mass. Below it: {target} drawn from there."
    )


def sampled(model: MultimodalVAE, batch: Batch | None, n: int, targets: Sequence[str]) -> Sample:
    """Generated values of those targets that the model generates, with the same noise each time."""
    generates = [m for m in targets if m in model.decoders]
    return Sample(*model.sample(batch, n, generates, 0)) if generates else Sample({}, None)


def _reports(samples: Mapping[str, Sample], given: str) -> dict[tuple[str, str], SamplerReport]:
    """The reports of those that were drawn by a sampler."""
    return {(k, given): s.report for k, s in samples.items() if s.report is not None}


def _embedding_pictures(
    embeddings: Embeddings, batch: Batch, classes: Sequence[Any]
) -> list[Picture]:
    kept = embeddings.num_directions
    with torch.no_grad():
        g = {m: network(batch.inputs(m))[:, :kept] for m, network in embeddings.networks.items()}
    left = plots.spectrum(embeddings.spectrum, kept)
    right = plots.embedded(g, batch.label, classes)
    return [
        drawn(left, f"Held-out correlations of the embeddings' directions; {kept} are used"),
        drawn(right, f"Embeddings of {len(batch)} test samples, a panel for each modality"),
    ]


def _embedding_text(embeddings: Embeddings, batch: Batch) -> str:
    how = "t-SNE of the embeddings" if embeddings.num_directions > 2 else "the embeddings"
    colour = "" if batch.label is None else ", coloured by label"
    return (
        "Left: correlation of each direction on held-out data; blue directions are used. Right:"
        f" {how} of the same {len(batch)} test samples{colour}."
    )


def _reduction(label: str, figures: Mapping[str, Any], embeddings: Embeddings | None) -> Group:
    """One run's score ratio matching."""
    beside = () if embeddings is None else (embeddings.spectrum, embeddings.num_directions)
    figure = plots.spectra(figures["spectra"], figures["kept"], *beside)
    error = max(figures["gain_error"], abs(figures["trace"] / 2 - figures["gain"]))
    text = (
        "Dots mark the last dimension that a modality keeps; grey dimensions are left out. The"
        f" estimated bound on what they hold is {figures['bound']:.3g} nats, with an error of about"
        f" {error:.2g}."
    )
    if not figures["found"]:
        gain = f"{figures['gain']:.2g} ± {figures['gain_error']:.2g} nats"
        text = f"Score ratio matching found nothing: the gain on held-out samples is {gain}."
    alt = "Eigenvalues of each modality, and the number of dimensions that it keeps"
    return Group([drawn(figure, alt)], label, text)


def chosen(data: Dataset, count: int) -> Tensor:
    """Rows of `count` samples that have every modality (of any, if none has), the labels in turn:
    0, 1, 2, ..., 0, 1, 2, ...
    """
    rows = complete_rows(data, data.names)
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
