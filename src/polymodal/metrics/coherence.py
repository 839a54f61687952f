"""Coherence: whether generated values show the label of the given ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data.dataset import Dataset
from polymodal.metrics.classifiers import Classifiers, LabelClassifier, labels_of
from polymodal.metrics.likelihood import autocast, pieces, rows_for
from polymodal.metrics.means import averaged, macro_mean_with_error
from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, once, pairs
from polymodal.model import MultimodalVAE
from polymodal.networks.layers import keep_heap

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement


@metric(direction="higher", unit="share", places=pairs, labels=True)
def coherence(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Share of generated values in which a classifier sees the label of the given values."""
    right, _ = measurement.right(given, target)
    return averaged(right)


@metric(direction="higher", unit="share", places=pairs, labels=True)
def coherence_macro(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Coherence as a mean over the classes, in which every class counts the same."""
    right, labels = measurement.right(given, target)
    if labels.dim() > 1:  # attributes
        return None
    return *macro_mean_with_error(right, labels), len(right)


@metric(direction="higher", unit="share", places=once, labels=True)
def joint_coherence(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Share of joint samples from the prior in which all modalities show one label."""
    labels = _joint_labels(measurement)
    return None if labels is None else averaged(unanimity(labels))


@metric(direction="higher", unit="kappa", places=once, labels=True)
def joint_kappa(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Agreement between the labels of modalities in joint samples from the prior, beyond chance."""
    labels = _joint_labels(measurement)
    if labels is None or any(values.dim() > 1 for values in labels.values()):
        return None
    return *kappa(labels), len(next(iter(labels.values())))


def _joint_labels(measurement: Measurement) -> dict[str, Tensor] | None:
    """The label that each modality's classifier sees in joint samples; None for fewer than two
    classifiers.
    """
    decoded = measurement.model.decoders
    names = [name for name in measurement.label_classifiers if name in decoded]
    if len(names) < 2:
        return None
    return {name: measurement.classify((), name)[1] for name in names}


@torch.no_grad()
def classify(
    model: MultimodalVAE,
    classifier: LabelClassifier,
    target: str,
    z: Tensor,
    precision: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Features (N, F) and labels, (N,) or (N, A), that the classifier sees in the means of
    p(x_target | z), z (N, D).
    """
    keep_heap()
    features, labels = [], []
    for piece in pieces(len(z), rows_for(model, [target], z.device)):
        with autocast(precision, z.device):
            mean = model.decoders[target](z[piece]).mean
        feature, label = classifier(mean.to(z.dtype), precision)
        features.append(feature)
        labels.append(label)
    return torch.cat(features), torch.cat(labels)


@torch.no_grad()
def coherences(
    model: MultimodalVAE,
    data: Dataset,
    classifiers: Classifiers,
    given: Sequence[str],
    target: str,
    n: int = 1,
    *,
    batch: int = 256,
) -> Tensor:
    """For each sample the share of n generated values of `target` in which the classifier sees the
    sample's label.

    Senellart et al. (2023), section 5.4: z ~ q(z|x_S), the classifier sees the decoder's mean. The
    mean over samples is the coherence. For attributes: the share of attributes that agree.

    Args:
        data: N samples with labels.
        given: S.
        target: the modality that is generated.
        n: draws for each sample.
        batch: samples encoded at once.

    Returns: (N,) in [0, 1]; NaN if a sample lacks a part of x_S.
    Raises: ValueError for data without labels, names it does not hold, or a target that has no
        classifier.
    """
    classifier = classifiers.classifier_of(target)
    labels = labels_of(data)
    right = torch.full((len(data),), torch.nan, dtype=torch.float64, device=data.device)
    for rows in torch.arange(len(data), device=data.device).split(batch):
        rows = rows[data.batch(rows).only(given).mask(given)]
        if not len(rows):
            continue
        z = model.latents(Batch(data.batch(rows).only(given).x), n)
        _, shown = classify(model, classifier, target, z.flatten(0, 1))
        wanted = labels[rows].repeat(n, *[1] * (labels.dim() - 1))
        right[rows] = agreement(shown, wanted).unflatten(0, (n, -1)).mean(0)
    return right


@torch.no_grad()
def joint_coherences(
    model: MultimodalVAE, classifiers: Classifiers, n: int = 10_000, precision: str | None = None
) -> Tensor:
    """For each of n samples z ~ p(z), decoded into every modality: 1 if all classifiers see one
    label, else 0.

    Shi et al. (2019), section 4.1, for any number of modalities. For attributes: the share of
    attributes on which all agree. Shape (n,).

    Raises: ValueError for fewer than two classifiers.
    """
    if len(classifiers.by_modality) < 2:
        raise ValueError(
            "Joint coherence needs classifiers of at least two modalities, got"
            f" {list(classifiers.by_modality)}."
        )
    z = model.latents(None, n).squeeze(1)
    labels = {
        m: classify(model, classifier, m, z, precision)[1]
        for m, classifier in classifiers.by_modality.items()
    }
    return unanimity(labels)


def agreement(shown: Tensor, labels: Tensor) -> Tensor:
    """1 if (N,) classes are equal, else 0; for (N, A) attributes the share that are equal: (N,),
    float64.
    """
    right = (shown == labels).double()
    return right.mean(-1) if right.dim() == 2 else right


def unanimity(labels: Mapping[str, Tensor]) -> Tensor:
    """1 if all modalities have one class, else 0; for attributes the share on which all agree:
    (N,), float64.
    """
    values = torch.stack(list(labels.values()))
    right = (values == values[0]).all(0).double()
    return right.mean(-1) if right.dim() == 2 else right


def kappa(labels: Mapping[str, Tensor]) -> tuple[float, float]:
    """Agreement of (N,) classes between pairs of modalities beyond chance, and its standard error.

    (A - C) / (1 - C), Conger (1980): A the mean share of pairs that agree, C the share that
    independent modalities with these shares of classes have. A model whose every sample looks like
    a one has a unanimity near 1 and a kappa of 0.

    >>> ones = torch.tensor([1, 1, 1, 1, 0])
    >>> kappa({"a": ones, "b": ones})[0], round(kappa({"a": ones, "b": ones.roll(1)})[0], 3)
    (1.0, -0.25)
    """
    shown = torch.nn.functional.one_hot(torch.stack(list(labels.values()))).double()  # (M, N, K)
    share, size = shown.mean(1), shown.shape[1]
    count = len(shown) * (len(shown) - 1)  # ordered pairs of modalities
    agree = (shown.sum(0).square().sum(-1) - len(shown)) / count
    chance = (share.sum(0).square().sum() - share.square().sum()) / count
    if chance >= 1:
        return math.nan, math.nan
    moved = (
        2 * ((shown.sum(0) @ share.sum(0)) - torch.einsum("mnk,mk->n", shown, share)) / count
        - 2 * chance
    )
    value = (agree.mean() - chance) / (1 - chance)
    influence = ((agree - agree.mean()) - moved * (1 - value)) / (1 - chance)
    return value.item(), influence.std().item() / math.sqrt(size)
