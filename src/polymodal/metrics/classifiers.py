"""Classifiers of generated values: one for each modality that shows the label, trained once on the
values of the data set itself and kept in a cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from polymodal.checks import FilePath, keep_heap
from polymodal.data.readers.files import cache_folder
from polymodal.data.splits import Splits
from polymodal.metrics.classifier_networks import check_networks
from polymodal.metrics.classifier_training import (
    ClassifierCache,
    ClassifierTraining,
    LabelClassifier,
    fit_or_read,
)
from polymodal.metrics.decoding import DECODING, Decoding
from polymodal.metrics.labels import attributes_of, distinct, has_labels
from polymodal.model import MultimodalVAE
from polymodal.rng import own_random_state

TRAINING = ClassifierTraining()


def classifier_folder(cache: FilePath | None) -> Path:
    """Where classifiers are kept: `cache`; None: "classifiers" in the user's cache directory."""
    return cache_folder() / "classifiers" if cache is None else Path(cache)


class Classifiers(Mapping[str, LabelClassifier]):
    """A `LabelClassifier` for every modality whose values show the label.

    The labels are `Dataset.label`. A data set without it, but with one modality of attributes (a
    bernoulli vector), has these as its labels; that modality needs no network.

    Args:
        by_name: by_name[m] classifies modality m.
    """

    def __init__(self, by_name: Mapping[str, LabelClassifier]) -> None:
        self._by_name = dict(by_name)

    def __getitem__(self, name: str) -> LabelClassifier:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def accuracy(self) -> dict[str, float]:
        """The test accuracy of each, which bounds the coherence that can be measured."""
        return {m: classifier.accuracy for m, classifier in self.items()}

    def to(self, device: torch.device | str) -> Classifiers:
        """All of them on `device`."""
        return Classifiers({m: classifier.to(device) for m, classifier in self.items()})

    @classmethod
    def fit_or_load(
        cls,
        splits: Splits,
        training: ClassifierTraining = TRAINING,
        cache: FilePath | None = None,
        progress: Callable[[str], None] | None = None,
        networks: Mapping[str, str] = {},
    ) -> Classifiers:
        """Those of a data set: read from the cache, or trained on each different value of the
        training part.

        AdamW, one cycle up to a rate of 3e-3, batches of 256, 250 steps or one epoch, whichever is
        more; "compact" is trained on images shifted by up to 2 pixels. The weights with the best
        validation accuracy of five checks are kept; a perfect one ends the training. Seeded: the
        same data gives the same classifiers. Give the whole data set, not a limited one.

        Args:
            training: how they are trained.
            cache: the folder where they are kept; None: "classifiers" in the user's cache
                directory.
            progress: is called with a line for each network that is trained, before and after.
            networks: of some modalities, {modality: name}, instead of that of `training`.

        Raises ValueError for data without labels, and networks that do not fit.
        """
        check_networks(networks, splits.modalities)
        if not has_labels(splits.train):
            raise ValueError(
                f"The data set {splits.name!r} has no labels, so that generated values cannot be"
                " classified; give `label` to the Dataset, or leave the metrics that need it out."
            )
        store = ClassifierCache(classifier_folder(cache), splits.name, progress)
        attributes = attributes_of(splits.train)
        by_name = {}
        for m in splits.modalities:
            if m.name == attributes:
                by_name[m.name] = LabelClassifier(None, True, 1.0)
                continue
            parts = [distinct(part, m.name) for part in (splits.train, splits.val, splits.test)]
            if not len(parts[0].rows):
                continue  # its metrics say that there is no classifier
            own = replace(training, network=networks.get(m.name, training.network))
            with own_random_state(torch.device(training.device)):
                by_name[m.name] = fit_or_read(m, parts, own, store)
        return cls(by_name)


@torch.no_grad()
def classify(
    model: MultimodalVAE,
    classifier: LabelClassifier,
    target: str,
    z: Tensor,
    decoding: Decoding = DECODING,
) -> tuple[Tensor, Tensor]:
    """Features (N, F) and labels, (N,) or (N, A), of the means of p(x_target | z), z (N, D)."""
    keep_heap()
    pieces = [
        classifier(mean.to(z.dtype), decoding.precision)
        for mean in decoding.means(model, target, z)
    ]
    features, labels = zip(*pieces, strict=True)
    return torch.cat(features), torch.cat(labels)
