"""Coherence: whether generated values show the label of the given ones, or the same label in all
modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from polymodal.metrics.labels import labels_of
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, once, pairs, targets
from polymodal.metrics.statistics import macro_mean_and_error, mean_of


def agreement(predicted: Tensor, labels: Tensor) -> Tensor:
    """1 where (N,) classes are equal, else 0; for (N, A) attributes the share that is: (N,),
    float64.
    """
    right = (predicted == labels).double()
    return right.mean(-1) if right.dim() == 2 else right


def unanimity(labels: Mapping[str, Tensor]) -> Tensor:
    """1 where all modalities have the same class, else 0; for attributes the share on which all
    agree: (N,), float64.

    Args:
        labels: labels[m], (N,) classes or (N, A) attributes.
    """
    values = torch.stack(list(labels.values()))
    right = (values == values[0]).all(0).double()
    return right.mean(-1) if right.dim() == 2 else right


def kappa(labels: Mapping[str, Tensor]) -> tuple[float, float]:
    """Agreement of (N,) classes between pairs of modalities beyond chance, and its standard error.

    (A - C) / (1 - C), Conger (1980): A the mean share of pairs that agree, C what modalities with
    these shares of classes would agree by chance. A model whose every sample looks like a one has a
    unanimity near 1 and a kappa of 0.

    >>> ones = torch.tensor([1, 1, 1, 1, 0])
    >>> kappa({"a": ones, "b": ones})[0], round(kappa({"a": ones, "b": ones.roll(1)})[0], 3)
    (1.0, -0.25)
    """
    shown = one_hot(torch.stack(list(labels.values()))).double()  # (M, N, K)
    share, size = shown.mean(1), shown.shape[1]
    count = len(shown) * (len(shown) - 1)
    agree = (shown.sum(0).square().sum(-1) - len(shown)) / count
    chance = (share.sum(0).square().sum() - share.square().sum()) / count
    if chance >= 1:
        raise UnavailableError(
            "All samples show one and the same class, so that chance explains all."
        )
    chance_influence = (
        2 * ((shown.sum(0) @ share.sum(0)) - torch.einsum("mnk,mk->n", shown, share)) / count
        - 2 * chance
    )
    value = (agree.mean() - chance) / (1 - chance)
    influence = ((agree - agree.mean()) - chance_influence * (1 - value)) / (1 - chance)
    return value.item(), influence.std().item() / math.sqrt(size)


def correct(m: Measurement, given: Given, target: str) -> tuple[Tensor, Tensor]:
    """Whether the generated values show the labels of their samples, (N_S,) in [0, 1] (attributes:
    the share of them), and these labels.

    Senellart et al. (2023), section 5.4: z ~ q(z|x_S), the mean of p(x_target|z) is classified.
    """
    labels = labels_of(m.data, m.rows(given))
    return agreement(m.classify(given, target)[1], labels), labels


@metric(places=pairs, direction="higher", unit="share", labels=True)
def coherence(m: Measurement, given: Given, target: str) -> Value:
    """Share of generated values that show the label of the given ones."""
    return mean_of(correct(m, given, target)[0])


@metric(places=pairs, direction="higher", unit="share", labels=True)
def coherence_macro(m: Measurement, given: Given, target: str) -> Value | None:
    """Coherence as a mean over the classes, each with the same weight."""
    right, labels = correct(m, given, target)
    if labels.dim() > 1:
        return None
    return *macro_mean_and_error(right, labels), len(right)


def _joint_labels(m: Measurement) -> dict[str, Tensor]:
    """The labels of joint samples from the prior, for each modality that has a classifier.

    Raises UnavailableError for fewer than two.
    """
    names = [name for name in m.classifiers or {} if name in m.model.decoders]
    if len(names) < 2:
        raise UnavailableError("Fewer than two modalities have a classifier and are generated.")
    return {name: m.classify((), name)[1] for name in names}


@metric(places=once, direction="higher", unit="share", labels=True)
def joint_coherence(m: Measurement, given: Given, target: str) -> Value:
    """Share of joint samples from the prior with the same label in all modalities.

    Shi et al. (2019), section 4.1, for any number of modalities.
    """
    return mean_of(unanimity(m.cached("joint labels", partial(_joint_labels, m))))


@metric(places=once, direction="higher", unit="kappa", labels=True)
def joint_kappa(m: Measurement, given: Given, target: str) -> Value | None:
    """Agreement of the labels in joint samples beyond chance: of pairs, against independent
    modalities.
    """
    labels = m.cached("joint labels", partial(_joint_labels, m))
    if any(values.dim() > 1 for values in labels.values()):
        return None
    return *kappa(labels), len(next(iter(labels.values())))


@metric(places=targets, direction="none", unit="share", labels=True)
def classifier_accuracy(m: Measurement, given: Given, target: str) -> Value | None:
    """Accuracy of the classifier on real test values, which bounds the coherence."""
    classifier = None if m.classifiers is None else m.classifiers.get(target)
    if classifier is None or classifier.net is None:
        return None
    accuracy, size = classifier.accuracy, classifier.size
    if classifier.several:
        return accuracy, math.nan, size
    return accuracy, math.sqrt(accuracy * (1 - accuracy) / max(size - 1, 1)), size
