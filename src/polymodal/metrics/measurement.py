"""What the metrics of one model on one data set share: the draws of the latents, what is decoded
from them, the labels.

Every random number is a function of (seed, what it is for): a metric's value does not depend on
which others are asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data.dataset import Dataset, gather
from polymodal.metrics.classifiers import Classifiers, labels_of
from polymodal.metrics.coherence import agreement, judged
from polymodal.metrics.frechet import inception
from polymodal.metrics.likelihood import (
    NoDensityError,
    autocast,
    conditional_log_likelihood,
    joint_log_likelihood,
    marginal_log_likelihood,
    pieces,
    rows_for,
)
from polymodal.metrics.probe import latent_means, probe
from polymodal.model import MultimodalVAE
from polymodal.rng import own_random_state, seed_all

PROBED = 2000  # training samples that the linear probe is fitted on

Given = tuple[str, ...]


class Measurement:
    """One model on one data set.

    Args:
        model: in evaluation mode.
        data: what it is measured on, on the model's device.
        train: what the linear probe is fitted on, or None.
        classifiers: or None.
        samples: K of the likelihoods.
        seed: of all draws.
        batch: samples encoded at once.
        precision: None, or "bf16": decoders and classifiers run in bfloat16.
        memory: see `joint_log_likelihood`.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        data: Dataset,
        train: Dataset | None = None,
        classifiers: Classifiers | None = None,
        *,
        samples: int = 1000,
        seed: int = 0,
        batch: int = 256,
        precision: str | None = None,
        memory: int | None = None,
    ) -> None:
        self.model, self.data, self.train, self.classifiers = model, data, train, classifiers
        self.samples, self.seed, self.batch, self.precision, self.memory = (
            samples,
            seed,
            batch,
            precision,
            memory,
        )
        self._latents: dict[Given, Tensor] = {}
        self._diagnostics: dict[Given, list[Any]] = {}
        self._real: dict[tuple[str, str], Tensor] = {}
        self._judged: tuple[Any, Any] = (None, None)
        self._inception: Callable[[Tensor], Tensor] | None = None

    @contextmanager
    def _stream(self, *keys: Any) -> Iterator[None]:
        with own_random_state(self.data.device), torch.no_grad():
            seed_all(self.data.device, self.seed, *keys)
            yield

    def rows(self, names: Sequence[str]) -> Tensor:
        """The samples that have all of `names`."""
        here = torch.ones(len(self.data), dtype=torch.bool, device=self.data.device)
        for m in names:
            here = here & self.data.present[m] if m in self.data.present else here
        return here.nonzero().squeeze(1)

    def batches(self, data: Dataset, rows: Tensor, names: Sequence[str]) -> Iterator[Batch]:
        """The samples `rows`, which have all of `names`, as if only these had been observed."""
        for part in rows.split(self.batch):
            yield Batch(data.batch(part).only(names).x)

    def latents(self, given: Given) -> Tensor:
        """One draw z ~ q(z|x_S) for every sample that has x_S, (N_S, D), always the same; from the
        prior for no S.
        """
        if given not in self._latents:
            with self._stream("latents", given):
                if given:
                    drawn, reports = [], []
                    for part in self.batches(self.data, self.rows(given), given):
                        drawn.append(self.model.latents(part).squeeze(0))
                        reports.append(self.model.diagnostics)
                    z, self._diagnostics[given] = (
                        torch.cat(drawn),
                        [r for r in reports if r is not None],
                    )
                else:
                    z = self.model.latents(None, len(self.data)).squeeze(1)
            self._latents[given] = z
        return self._latents[given]

    def reported(self, given: Given, name: str) -> Tensor | None:
        """What the sampler said of each sample under `name`, (N_S,); None where nothing was drawn
        by one.
        """
        self.latents(given)
        reports = self._diagnostics.get(given, ())
        parts = [part for report in reports if (part := getattr(report, name, None)) is not None]
        return torch.cat(parts).double() if parts and len(parts) == len(reports) else None

    def seen(self, given: Given, target: str) -> tuple[Tensor, Tensor]:
        """Features and labels that the target's classifier sees in what is generated from
        `latents(given)`.
        """
        if self._judged[0] != (given, target):
            judge = self._judge(target)
            self._judged = (
                (given, target),
                judged(self.model, judge, target, self.latents(given), self.precision),
            )
        return self._judged[1]

    def right(self, given: Given, target: str) -> tuple[Tensor, Tensor]:
        """Whether the generated values show their samples' labels, (N_S,) in [0, 1], and those
        labels.
        """
        labels = labels_of(self.data, self.rows(given))
        return agreement(self.seen(given, target)[1], labels), labels

    def features(
        self, given: Given, target: str, kind: str = "classifier"
    ) -> tuple[Tensor, Tensor] | None:
        """Features of the real and of the generated values of `target`; None where there are none
        to speak of.
        """
        if kind == "classifier":
            judge = self._judge(target)
            if judge.net is None:
                return None
            return (
                self._real_features(target, kind, lambda x: judge(x, self.precision)[0]),
                self.seen(given, target)[0],
            )
        if len(next(m.shape for m in self.data.modalities if m.name == target)) != 3:
            return None
        self._inception = self._inception or inception(self.data.device)
        real = self._real_features(target, kind, self._inception)
        z = self.latents(given)
        fake = []
        for piece in pieces(len(z), min(rows_for(self.model, [target], z.device), self.batch)):
            with autocast(self.precision, z.device), torch.no_grad():
                mean = self.model.decoders[target](z[piece]).mean
            fake.append(self._inception(mean.float()))
        return real, torch.cat(fake)

    def _real_features(self, target: str, kind: str, of: Callable[[Tensor], Tensor]) -> Tensor:
        """Of the target's value in every sample that has it; a value that several samples share is
        looked at once.
        """
        if (target, kind) not in self._real:
            at = self.rows([target])
            at = self.data.index[target][at] if target in self.data.index else at
            rows, back = at.unique(return_inverse=True)
            with torch.no_grad():
                parts = [
                    of(gather(self.data.tables[target], part)) for part in rows.split(self.batch)
                ]
            self._real[target, kind] = torch.cat(parts)[back]
        return self._real[target, kind]

    def _judge(self, target: str) -> Any:
        if self.classifiers is None or target not in self.classifiers.judges:
            raise ValueError(
                f"There is no classifier for {target!r}; give `classifiers`, or a data set with"
                " labels."
            )
        return self.classifiers.judges[target]

    def joint(self) -> Tensor | None:
        """log p(x) of every sample, for what it has, (N,); None where the posterior has no density."""
        parts = []
        with self._stream("joint"), suppress(NoDensityError):
            for part in torch.arange(len(self.data), device=self.data.device).split(self.batch):
                batch = self.data.batch(part)
                parts.append(
                    joint_log_likelihood(
                        self.model,
                        batch,
                        self.samples,
                        memory=self.memory,
                        precision=self.precision,
                    )
                )
        return torch.cat(parts) if parts else None

    def conditional(self, given: Given, target: str) -> Tensor:
        """log p(x_target | x_S) of every sample that has both, (N,)."""
        names, parts = [*given, target], []
        with self._stream("conditional", given, target):
            for batch in self.batches(self.data, self.rows(names), names):
                parts.append(
                    conditional_log_likelihood(
                        self.model,
                        batch,
                        target,
                        given,
                        self.samples,
                        memory=self.memory,
                        precision=self.precision,
                    )
                )
        return torch.cat(parts)

    def marginal(self, given: Given, target: str) -> Tensor | None:
        """log p(x_target) by importance sampling from q(z|x_S), where both are; None where q has no
        density.
        """
        names, parts = list({*given, target}), []
        with self._stream("marginal", given, target), suppress(NoDensityError):
            for batch in self.batches(self.data, self.rows(names), names):
                draws = self.samples * len(given)  # as many of each expert, as Shi et al. have it
                parts.append(
                    marginal_log_likelihood(
                        self.model,
                        batch,
                        target,
                        given,
                        draws,
                        memory=self.memory,
                        precision=self.precision,
                    )
                )
        return torch.cat(parts) if parts else None

    def probed(self, given: Given) -> Tensor | None:
        """Whether a linear classifier finds the label in E[z|x_S], (N_S,); None without classes or
        training samples.
        """
        if self.train is None or self.train.label is None or self.data.label is None:
            return None
        generator = torch.Generator().manual_seed(self.seed)
        order = torch.randperm(len(self.train), generator=generator).to(self.data.device)
        for m in given:
            order = order[self.train.present[m][order]] if m in self.train.present else order
        with self._stream("probe", given):
            train, test = (
                torch.cat(
                    [latent_means(self.model, part) for part in self.batches(data, rows, given)]
                )
                for data, rows in ((self.train, order[:PROBED]), (self.data, self.rows(given)))
            )
        return probe(
            train, self.train.label[order[:PROBED]], test, self.data.label[self.rows(given)]
        )


def share(values: Tensor, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """1 where low <= value <= high, else 0 (also for NaN), float64."""
    return ((values >= low) & (values <= high)).double()
