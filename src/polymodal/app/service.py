"""`Service`: a trained run that answers people, without any page: what can be given, draws of
everything else with how sure the model is, rows filled, walks along the latent, the test samples.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polymodal.analysis.traversals import Attribution, attribute, traversal_values, traverse
from polymodal.app.answer import (
    Answer,
    Row,
    agreement,
    agreement_text,
    sampler_text,
    texts_agree,
    with_given,
)
from polymodal.app.download import zipped
from polymodal.app.filling import filled_row
from polymodal.app.inputs import Value, inputs_of
from polymodal.app.shown import Shown, shown
from polymodal.batch import Batch
from polymodal.checks import Count, FilePath, Seed, check_name, checked
from polymodal.data import Splits
from polymodal.imputation import calibration_of
from polymodal.metrics.decoding import DECODING
from polymodal.report.comparison import data_of
from polymodal.runs.run import Run, load

MOST_DRAWS = 32
JOINT = 100  # draws with nothing given, against which others are compared
STEPS = 9  # values of a dimension in a walk
DECODED = 4000  # latents that are decoded to see what each dimension moves


@dataclass(frozen=True)
class Walk:
    """One dimension of the latent moved over its values.

    Args:
        dimension: which.
        values: (T,).
        x: decoded means of each modality, (T, *shape).
        text: what the dimension moves.
    """

    dimension: int
    values: Tensor
    x: Mapping[str, Tensor]
    text: str


@dataclass(frozen=True)
class TestSample:
    """One sample of the test part.

    Args:
        index: its number from 0.
        x: {modality: (1, *shape)}, NaN in holes, of those that it has.
        raw: the same as a person would give it, for `Service.draw`; not of those that are given as
            files.
        text: its number and its class.
    """

    index: int
    x: Mapping[str, Tensor]
    raw: Mapping[str, Any]
    text: str


class Service:
    """A run that answers people; one request at a time.

    Args:
        run: of `load` or `fit`.
        data: in which test samples are browsed; None: there is nothing to browse.
        missing: why there are no data, in a sentence.
    """

    def __init__(self, run: Run, data: Splits | None = None, missing: str = "") -> None:
        self.run, self.model, self.data, self.missing = run, run.model, data, missing
        usual = run.info.get("usual", {})
        self.inputs = {i.modality.name: i for i in inputs_of(run.modalities, usual)}
        self.calibration = calibration_of(run)
        self._lock = threading.RLock()

    @classmethod
    def open(cls, run_dir: FilePath, data: str | None = None) -> Service:
        """The service of a run directory, with the data that its settings name, or with `data`: a
        file, or the folder of the named data sets. Nothing is downloaded.

        Raises ValueError in one sentence as `load`, and for `data` that cannot be read. Without
        `data` the service goes without test samples where they cannot be read.
        """
        run = load(run_dir)
        try:
            splits = data_of(run.settings, data, offline=True)
            _check_same(run, splits)
        except (ValueError, OSError) as error:
            if data is not None:
                raise
            return cls(run, None, f"Test samples cannot be read: {error}")
        return cls(run, splits)

    @property
    def title(self) -> str:
        """The run's data and method, in a few words."""
        return f"{self.run.info['data']['name']}: {self.run.method_name.replace('_', '-')}"

    @property
    def latent_size(self) -> int:
        """Dimensions of the latent."""
        return self.model.prior().event_shape.numel()

    def about(self) -> list[str]:
        """What the run is, a sentence each."""
        sizes = self.run.info["data"]
        count = sum(p.numel() for p in self.model.parameters())
        names = " and ".join(self.inputs)
        said = [
            f"{self.run.method_name.replace('_', '-')} was trained on"
            f" {sizes.get('train', 0):,} samples of {names} ({sizes['name']}), seed"
            f" {self.run.seed}.",
            f"The latent has {self.latent_size} dimensions, and the networks {count:,} parameters.",
        ]
        for m in self.model.modalities:
            if m.covariate is not None:
                said.append(
                    f"The networks of {m.name} are told {m.covariate.column!r}; here nothing is"
                    " said of it, so that they give the average of its categories."
                )
        if self.model.posterior.samplers:
            said.append(
                f"Where several modalities are given, a sampler draws ({self._sampler}); how well"
                " that went is said with the draws."
            )
        return said

    @property
    def _sampler(self) -> str:
        return type(self.model.sampler).__name__

    # What is given.

    def given(self, raw: Mapping[str, Any]) -> tuple[Batch | None, list[str]]:
        """What a person gives as a batch of one sample, None if that is nothing; and sentences on
        how it was read.

        Args:
            raw: {modality: see `Input.read`}; nothing, and no key: it is not given.

        Raises ValueError in one sentence for an unknown modality and what cannot be read.
        """
        for name in raw:
            check_name(name, self.inputs, "modality", " in the run")
        read: dict[str, Value] = {}
        for name, asked in self.inputs.items():
            if (value := asked.read(raw.get(name))) is not None:
                read[name] = value
        notes = [note for value in read.values() for note in value.notes]
        return (Batch({m: v.x for m, v in read.items()}) if read else None), notes

    # Draws.

    @checked
    def draw(self, raw: Mapping[str, Any], n: Count = 8, seed: Seed = 0) -> Answer:
        """n draws of every modality that is not given whole, and how sure the model is.

        Raises ValueError in one sentence as `given`, and for more than 32 draws.
        """
        if n > MOST_DRAWS:
            raise ValueError(f"At most {MOST_DRAWS} draws are made at a time, got {n}; lower it.")
        batch, notes = self.given(raw)
        with self._lock:
            targets = self.targets(batch)
            x, report = self.model.sample(batch, n, targets, seed) if targets else ({}, None)
            draws = {m: with_given(v, batch, m) for m, v in x.items()}
            return Answer(
                batch,
                draws,
                self._rows(draws, batch, seed),
                self._sure(draws, batch),
                sampler_text(self._sampler, report),
                report.warning() if report is not None else None,
                notes,
            )

    def targets(self, batch: Batch | None) -> list[str]:
        """The modalities that are drawn: those that are not given whole."""
        whole = set() if batch is None else {m for m in batch.x if not batch.has_holes(m)}
        return [m for m in self.model.decoders if m not in whole]

    def _rows(self, draws: Mapping[str, Tensor], batch: Batch | None, seed: int) -> dict[str, Row]:
        """The rows among what was drawn, filled."""
        wanted = [m for m in draws if self.inputs[m].form == "cells"]
        read = None if batch is None else self.model.readable(batch)
        rows = {}
        for m in wanted:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                rows[m] = filled_row(self.model, read, self.inputs[m], draws[m], self.calibration)
        return rows

    def _sure(self, draws: Mapping[str, Tensor], batch: Batch | None) -> dict[str, str]:
        """How far the draws agree; nothing of rows, whose cells say it."""
        said = {}
        for m, x in draws.items():
            form = self.inputs[m].form
            if form == "text":
                said[m] = texts_agree(shown(x[:, 0], self.inputs[m]).texts)
            elif form != "cells" and batch is not None:
                share = agreement(x[:, 0], self._joint[m].var(0))
                said[m] = agreement_text(share, len(x))
        return said

    @cached_property
    def _joint(self) -> dict[str, Tensor]:
        """Draws with nothing given, (JOINT, *shape)."""
        x, _ = self.model.sample(None, JOINT, list(self.model.decoders), 0)
        return {m: v[:, 0] for m, v in x.items()}

    def shown(self, m: str, x: Tensor) -> Shown:
        """Values (n, *shape) of a modality as people look at them."""
        return shown(x, self.inputs[m])

    def files(self, answer: Answer) -> bytes:
        """The draws as a .zip file: what `polymodal generate` writes, and `<name>.filled.csv` of
        rows.

        Raises ValueError if nothing was drawn.
        """
        return zipped(answer, {m.name: m for m in self.run.modalities})

    def paper(self, m: str) -> Literal["black", "white"]:
        """What most pictures of a modality have at their edges; black, if they are not drawn."""
        if self.inputs[m].form != "picture" or m not in self.model.decoders:
            return "black"
        x = self._joint[m].mean((0, 1))
        edge = torch.cat([x[0], x[-1], x[:, 0], x[:, -1]])
        return "black" if float(edge.mean()) < 0.5 else "white"

    # The latent.

    @cached_property
    def moves(self) -> Attribution:
        """What each dimension moves, over latents drawn from the prior; of the variance that
        decoded means have there.
        """
        with self._lock, torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            z = self.model.latents(None, JOINT).squeeze(1)
            few = max(2, DECODED // (STEPS * z.shape[1]))
            values = traversal_values(z, STEPS)
            decoders = {m: _mean_of(d) for m, d in self.model.decoders.items()}
            variance = {m: float(x.var(0).sum()) for m, x in self._joint.items()}
            chunk = max(1, DECODING.rows(self.model, decoders, z.device) // STEPS)
            return attribute(decoders, z[:few], variance, values, chunk)

    def moved(self, dimension: int) -> str:
        """How much of each modality a dimension moves, in words."""
        shares = self.moves.shares.items()
        return ", ".join(f"{m} {float(share[dimension]):.2f}" for m, share in shares)

    @checked
    def walk(self, raw: Mapping[str, Any], dimension: int, seed: Seed = 0) -> Walk:
        """Moves one dimension of the latent of the first draw, and decodes every modality.

        Raises ValueError in one sentence as `given`, and for a dimension that does not exist.
        """
        if not 0 <= dimension < self.latent_size:
            raise ValueError(
                f"The latent has the dimensions 0 to {self.latent_size - 1}, got {dimension}."
            )
        batch, _ = self.given(raw)
        with self._lock, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            z = self.model.latents(batch, 1)[0]
            values = self.moves.values
            path = traverse(z, values, torch.tensor([dimension]))
            x = self.model.decode(path.movedim(1, 0))
        every = {m: v[:, 0] for m, v in x.items()}
        return Walk(dimension, values[:, dimension], every, self.moved(dimension))

    # Test samples.

    @checked
    def sample(self, index: int) -> TestSample:
        """A sample of the test part.

        Raises ValueError in one sentence where there are no data, and for a number that is none.
        """
        if self.data is None:
            raise ValueError(self.missing or "There are no test samples to browse.")
        test = self.data.test
        if not 0 <= index < len(test):
            raise ValueError(f"Test samples have the numbers 0 to {len(test) - 1}, got {index}.")
        batch = self.model.readable(test.batch(torch.tensor([index])))
        x = {m: v for m, v in batch.x.items() if bool(batch.mask([m])[0])}
        raw = {m: v for m in x if (v := self._raw(m, x[m])) is not None}
        label = "" if batch.label is None else f", class {self._class(int(batch.label[0]))}"
        return TestSample(index, x, raw, f"Test sample {index} of {len(test):,}{label}.")

    def _class(self, place: int) -> str:
        classes = self.data.test.classes if self.data is not None else ()
        return str(classes[place]) if place < len(classes) else str(place)

    def _raw(self, m: str, x: Tensor) -> Any:
        """A value (1, *shape) as a person would give it; None for what is given as a file."""
        asked = self.inputs[m]
        if asked.form == "picture":
            return _pixels(x[0])
        if asked.form == "text":
            return self.shown(m, x).texts[0]
        if asked.form == "cells":
            return asked.words(x)
        return None


def _mean_of(decoder: Any) -> Any:
    return lambda z: decoder(z).mean


def _pixels(x: Tensor) -> np.ndarray:
    """A picture (C, H, W) of shares as bytes (H, W) or (H, W, 3)."""
    pixels = (x.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _check_same(run: Run, data: Splits) -> None:
    """Raises ValueError for data of other modalities than the run's."""
    ours, theirs = ([(m.name, m.shape) for m in each] for each in (run.modalities, data.modalities))
    if ours != theirs:
        raise ValueError(f"The run's modalities are {ours}, and those of the data {theirs}.")
