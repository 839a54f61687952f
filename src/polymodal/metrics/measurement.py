"""`Measurement`: what the metrics of one model on one data set share, such as the latents, the
values decoded from them, and the labels.

Every random number is a function of the seed and its purpose: a metric's value does not depend on
the other metrics asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data.dataset import Dataset, gather
from polymodal.metrics.classifiers import Classifiers, LabelClassifier, labels_of
from polymodal.metrics.coherence import agreement, classify
from polymodal.metrics.frechet import inception
from polymodal.metrics.likelihood import (
    NoDensityError,
    Sampling,
    autocast,
    conditional_log_likelihoods,
    joint_log_likelihoods,
    marginal_log_likelihoods,
    pieces,
    rows_for,
)
from polymodal.metrics.places import Given, Place
from polymodal.metrics.probe import latent_means, probe_hits
from polymodal.model import MultimodalVAE
from polymodal.rng import own_random_state, seed_all

PROBED = 2000  # training samples that the linear probe is fitted on

Features = Callable[[Tensor], Tensor]  # values (B, *shape) -> features (B, F)


class Measurement:
    """One model on one data set.

    Args:
        model: in evaluation mode.
        data: the samples to measure on, on the model's device.
        train: the samples that the linear probe is fitted on, or None.
        classifiers: or None.
        sampling: seed, numbers of samples, precision, memory.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        data: Dataset,
        train: Dataset | None = None,
        classifiers: Classifiers | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self.model, self.data, self.train, self.classifiers = model, data, train, classifiers
        self.sampling = sampling or Sampling()
        self._latents: dict[Given, Tensor] = {}
        self._reports: dict[Given, list[dict[str, Tensor]]] = {}
        self._real: dict[tuple[str, str], Tensor] = {}
        self._classified: tuple[Place, tuple[Tensor, Tensor]] | None = None
        self._inception: Features | None = None

    @contextmanager
    def _stream(self, *keys: Any) -> Iterator[None]:
        """Random numbers that are a function of the seed and `keys`, without gradients."""
        with own_random_state(self.data.device), torch.no_grad():
            seed_all(self.data.device, self.sampling.seed, *keys)
            yield

    def rows(self, names: Sequence[str]) -> Tensor:
        """The samples that have all of `names`, (n,)."""
        complete = torch.ones(len(self.data), dtype=torch.bool, device=self.data.device)
        for m in names:
            complete = complete & self.data.is_present(m)
        return complete.nonzero().squeeze(1)

    def batches(self, data: Dataset, rows: Tensor, names: Sequence[str]) -> Iterator[Batch]:
        """The samples `rows`, which have all of `names`, as if only these had been observed."""
        for part in rows.split(self.sampling.batch):
            yield Batch(data.batch(part).only(names).x)

    def latents(self, given: Given) -> Tensor:
        """One draw z ~ q(z|x_S) for every sample that has x_S, (N_S, D), always the same; from the
        prior for an empty S.
        """
        if given not in self._latents:
            with self._stream("latents", given):
                self._latents[given] = self._posterior_draw(given) if given else self._prior_draw()
        return self._latents[given]

    def _prior_draw(self) -> Tensor:
        return self.model.latents(None, len(self.data)).squeeze(1)

    def _posterior_draw(self, given: Given) -> Tensor:
        batches = self.batches(self.data, self.rows(given), given)
        draws = [self.model.draw(batch) for batch in batches]
        self._reports[given] = [d.report.per_item() for d in draws if d.report is not None]
        return torch.cat([d.z.squeeze(0) for d in draws])

    def reported(self, given: Given, name: str) -> Tensor | None:
        """The figure `name` of each sample in the sampler's report, (N_S,), float64; None without a
        sampler, or if it does not report the figure.
        """
        self.latents(given)
        reports = self._reports.get(given, [])
        if not reports or not all(name in report for report in reports):
            return None
        return torch.cat([report[name] for report in reports]).double()

    @property
    def label_classifiers(self) -> Mapping[str, LabelClassifier]:
        """The classifier of each modality that has one."""
        return {} if self.classifiers is None else self.classifiers.by_modality

    def _classifier(self, target: str) -> LabelClassifier:
        return (self.classifiers or Classifiers({})).classifier_of(target)

    def classify(self, given: Given, target: str) -> tuple[Tensor, Tensor]:
        """Features and labels that the target's classifier sees in the values generated from
        `latents(given)`.
        """
        place = (given, target)
        if self._classified is None or self._classified[0] != place:
            classifier, z = self._classifier(target), self.latents(given)
            seen = classify(self.model, classifier, target, z, self.sampling.precision)
            self._classified = place, seen
        return self._classified[1]

    def right(self, given: Given, target: str) -> tuple[Tensor, Tensor]:
        """Whether the generated values show their samples' labels, (N_S,) in [0, 1], and those
        labels.
        """
        labels = labels_of(self.data, self.rows(given))
        return agreement(self.classify(given, target)[1], labels), labels

    def features(self, given: Given, target: str) -> tuple[Tensor, Tensor] | None:
        """The classifier's features of the real and of the generated values of `target`; None if
        the values are the labels themselves.
        """
        classifier = self._classifier(target)
        if classifier.net is None:
            return None

        def features_of(x: Tensor) -> Tensor:
            return classifier(x, self.sampling.precision)[0]

        real = self._real_features(target, "classifier", features_of)
        return real, self.classify(given, target)[0]

    def inception_features(self, given: Given, target: str) -> tuple[Tensor, Tensor] | None:
        """Inception features of the real and of the generated values of `target`; None unless they
        are images.
        """
        shapes = {m.name: m.shape for m in self.data.modalities}
        if len(shapes[target]) != 3:
            return None
        self._inception = self._inception or inception(self.data.device)
        real = self._real_features(target, "inception", self._inception)
        z = self.latents(given)
        most = min(rows_for(self.model, [target], z.device), self.sampling.batch)
        generated = []
        for piece in pieces(len(z), most):
            with autocast(self.sampling.precision, z.device), torch.no_grad():
                mean = self.model.decoders[target](z[piece]).mean
            generated.append(self._inception(mean.float()))
        return real, torch.cat(generated)

    def _real_features(self, target: str, kind: str, features_of: Features) -> Tensor:
        """Features of the target's value in every sample that has it; a value that several samples
        share is computed once.
        """
        if (target, kind) not in self._real:
            rows = self.data.rows_of(target, self.rows([target]))
            values, place = rows.unique(return_inverse=True)
            table = self.data.tables[target]
            with torch.no_grad():
                parts = values.split(self.sampling.batch)
                features = torch.cat([features_of(gather(table, part)) for part in parts])
            self._real[target, kind] = features[place]
        return self._real[target, kind]

    def joint(self) -> Tensor | None:
        """log p(x) of every sample, of the modalities it has, (N,); None if the posterior has no
        density.
        """
        samples, options = self.sampling.samples, self._decoding()
        with self._stream("joint"), suppress(NoDensityError):
            return torch.cat(
                [
                    joint_log_likelihoods(self.model, batch, samples, **options)
                    for batch in self.data.batches(self.sampling.batch)
                ]
            )
        return None

    def conditional(self, given: Given, target: str) -> Tensor:
        """log p(x_target | x_S) of every sample that has both, (N,)."""
        names = [*given, target]
        samples, options = self.sampling.samples, self._decoding()
        with self._stream("conditional", given, target):
            return torch.cat(
                [
                    conditional_log_likelihoods(
                        self.model, batch, target, given, samples, **options
                    )
                    for batch in self.batches(self.data, self.rows(names), names)
                ]
            )

    def marginal(self, given: Given, target: str) -> Tensor | None:
        """log p(x_target) by importance sampling from q(z|x_S), of every sample that has both; None
        if q has no density.
        """
        names = list({*given, target})
        draws = self.sampling.samples * len(given)  # as many of each expert: Shi et al. (2019)
        options = self._decoding()
        with self._stream("marginal", given, target), suppress(NoDensityError):
            return torch.cat(
                [
                    marginal_log_likelihoods(self.model, batch, target, given, draws, **options)
                    for batch in self.batches(self.data, self.rows(names), names)
                ]
            )
        return None

    def _decoding(self) -> dict[str, Any]:
        return {"memory": self.sampling.memory, "precision": self.sampling.precision}

    def probed(self, given: Given) -> Tensor | None:
        """Whether a linear classifier finds the label in E[z|x_S], (N_S,); None without classes or
        training samples.
        """
        train, data = self.train, self.data
        if train is None or train.label is None or data.label is None:
            return None
        fitted, rows = self._probe_rows(train, given), self.rows(given)
        with self._stream("probe", given):
            means = self._means(train, fitted, given)
            test_means = self._means(data, rows, given)
        return probe_hits(means, train.label[fitted], test_means, data.label[rows])

    def _probe_rows(self, train: Dataset, given: Given) -> Tensor:
        """Training samples that have all of `given`, in an order that the seed determines."""
        generator = torch.Generator().manual_seed(self.sampling.seed)
        order = torch.randperm(len(train), generator=generator).to(self.data.device)
        for m in given:
            order = order[train.is_present(m)[order]]
        return order[:PROBED]

    def _means(self, data: Dataset, rows: Tensor, given: Given) -> Tensor:
        """E[z|x_S] of the samples `rows`, (n, D)."""
        return torch.cat(
            [latent_means(self.model, batch) for batch in self.batches(data, rows, given)]
        )
