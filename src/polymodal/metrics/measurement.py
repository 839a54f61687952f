"""`Measurement`: the draws, classifications and features that the metrics of one model on one data
set share.

Every random number is a function of the seed and its purpose: the value of a metric does not depend
on which other metrics are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.checks import Count, Group
from polymodal.data.dataset import Dataset
from polymodal.data.rows import gather
from polymodal.metrics.classifiers import Classifiers, LabelClassifier, classify
from polymodal.metrics.decoding import Decoding, Precision
from polymodal.metrics.metric import UnavailableError
from polymodal.metrics.places import Given
from polymodal.model import MultimodalVAE
from polymodal.rng import own_random_state, seed_all
from polymodal.sampling import SamplerReport

T = TypeVar("T")


class MeasurementOptions(Group):
    """How a model is measured.

    Args:
        samples: K, the latents for each likelihood.
        seed: of all draws of the measurement.
        batch: samples that are encoded at once.
        precision, memory: see `polymodal.metrics.decoding.Decoding`; classifiers run in the same
            precision.
        ais_items: samples of which likelihoods are computed by annealed importance sampling.
        ais_chains, ais_temperatures: of `polymodal.sampling.AIS`.
        sbc_simulations, sbc_draws: simulated samples, and posterior draws for each, of calibration.
    """

    samples: Count = 1000
    seed: int = 0
    batch: Count = 256
    precision: Precision | None = None
    memory: Count | None = None
    ais_items: Count = 50
    ais_chains: Count = 16
    ais_temperatures: Count = 100
    sbc_simulations: Count = 500
    sbc_draws: Count = 99

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.precision, self.memory)


OPTIONS = MeasurementOptions()


class Measurement:
    """One model on one data set.

    Args:
        model: in evaluation mode.
        data: the data that it is measured on, on the model's device.
        train: the data that linear probes are fitted on, or None.
        classifiers: one for each modality that shows the label, or None.
        options: how it is measured.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        data: Dataset,
        train: Dataset | None = None,
        classifiers: Classifiers | None = None,
        options: MeasurementOptions = OPTIONS,
    ) -> None:
        self.model, self.data, self.train = model, data, train
        self.classifiers, self.options = classifiers, options
        self._kept: dict[Hashable, Any] = {}
        self._classified: tuple[Any, Any] = (None, None)

    @contextmanager
    def stream(self, *keys: Any) -> Iterator[None]:
        """Inside, random numbers are a function of the seed and `keys`, and there are no
        gradients.
        """
        with own_random_state(self.data.device), torch.no_grad():
            seed_all(self.data.device, self.options.seed, *keys)
            yield

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """`compute()`, which is kept under `key` for all metrics."""
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def is_cached(self, key: Hashable) -> bool:
        """Whether something is kept under `key`."""
        return key in self._kept

    def rows(self, names: Iterable[str]) -> Tensor:
        """The samples that have all of `names`, (N_S,).

        Raises UnavailableError if there is none.
        """
        names = list(names)
        rows = complete_rows(self.data, names)
        if not len(rows):
            raise UnavailableError(f"No sample has {' and '.join(names)}.")
        return rows

    def batches(self, names: Iterable[str]) -> Iterator[Batch]:
        """The samples that have all of `names`, as if only these had been observed."""
        names = list(names)
        return complete_batches(self.data, self.rows(names), names, self.options.batch)

    def latents(self, given: Given) -> Tensor:
        """One draw z ~ q(z|x_S) for every sample that has x_S, (N_S, D), always the same; z ~ p(z)
        if nothing is given, (N, D).
        """
        return self._draws(given)[0]

    def reported(self, given: Given, name: str) -> Tensor | None:
        """A figure of each sample from the reports of the sampler that drew `latents(given)`,
        (N_S,); None if no sampler drew them, or it has no such figure.

        Args:
            name: a key of `SamplerReport.per_item()`.
        """
        figures = [report.per_item() for report in self._draws(given)[1]]
        if not figures or any(name not in each for each in figures):
            return None
        return torch.cat([each[name] for each in figures]).double()

    def _draws(self, given: Given) -> tuple[Tensor, list[SamplerReport]]:
        return self.cached(("latents", given), lambda: self._draw(given))

    def _draw(self, given: Given) -> tuple[Tensor, list[SamplerReport]]:
        with self.stream("latents", given):
            if not given:
                return self.model.latents(None, len(self.data)).squeeze(1), []
            draws = [self.model.draw(batch) for batch in self.batches(given)]
        reports = [draw.report for draw in draws if draw.report is not None]
        return torch.cat([draw.z.squeeze(0) for draw in draws]), reports

    def classifier(self, target: str) -> LabelClassifier:
        """The classifier of a modality. Raises UnavailableError if there is none."""
        if self.classifiers is None or target not in self.classifiers:
            raise UnavailableError(
                f"There is no classifier for {target!r}; give `classifiers`, or a data set with"
                " labelled values of it."
            )
        return self.cached(("folded classifier", target), self.classifiers[target].folded)

    def classify(self, given: Given, target: str) -> tuple[Tensor, Tensor]:
        """Features and labels that the target's classifier gives to the values generated from
        `latents(given)`; the last ones are kept.
        """
        place = (given, target)
        if self._classified[0] != place:
            net, z, decoding = self.classifier(target), self.latents(given), self.options.decoding
            self._classified = (place, classify(self.model, net, target, z, decoding))
        return self._classified[1]

    def real_features(self, target: str, kind: str, of: Callable[[Tensor], Tensor]) -> Tensor:
        """Features of the target's value in every sample that has it; a value that several samples
        share is read only once.

        Args:
            kind: the name under which the features are kept.
            of: values (B, *shape) -> features (B, F).
        """
        return self.cached((kind, target), lambda: self._real_features(target, of))

    @torch.no_grad()
    def _real_features(self, target: str, of: Callable[[Tensor], Tensor]) -> Tensor:
        rows = self.data.rows_of(target, self.rows([target]))
        distinct, inverse = rows.unique(return_inverse=True)
        table = self.data.tables[target]
        parts = [of(gather(table, part)) for part in distinct.split(self.options.batch)]
        return torch.cat(parts)[inverse]


def complete_rows(data: Dataset, names: Iterable[str]) -> Tensor:
    """The samples that have all of `names`, (N_S,)."""
    complete = torch.ones(len(data), dtype=torch.bool, device=data.device)
    for m in names:
        complete = complete & data.is_present(m)
    return complete.nonzero().squeeze(1)


def complete_batches(
    data: Dataset, rows: Tensor, names: Iterable[str], size: int
) -> Iterator[Batch]:
    """The samples `rows`, which have all of `names`, as if only these had been observed."""
    names = list(names)
    for part in rows.split(size):
        batch = data.batch(part).only(names)
        yield Batch(batch.x, covariates=batch.covariates)
