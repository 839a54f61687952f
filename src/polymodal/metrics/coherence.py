"""Coherence: whether what is generated shows the label of what was given; and means with standard
errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data.dataset import Dataset
from polymodal.metrics.classifiers import Classifiers, LabelClassifier, labels_of
from polymodal.metrics.likelihood import autocast, pieces, rows_for
from polymodal.model import MultimodalVAE
from polymodal.networks.layers import keep_heap


@torch.no_grad()
def judged(
    model: MultimodalVAE,
    judge: LabelClassifier,
    target: str,
    z: Tensor,
    precision: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Features (N, F) and labels, (N,) or (N, A), that `judge` sees in the means of p(x_target |
    z), z (N, D).
    """
    keep_heap()
    found = []
    for piece in pieces(len(z), rows_for(model, [target], z.device)):
        with autocast(precision, z.device):
            mean = model.decoders[target](z[piece]).mean
        found.append(judge(mean.to(z.dtype), precision))
    features, labels = zip(*found, strict=True)
    return torch.cat(features), torch.cat(labels)


@torch.no_grad()
def coherence(
    model: MultimodalVAE,
    data: Dataset,
    classifiers: Classifiers,
    given: Sequence[str],
    target: str,
    n: int = 1,
    *,
    batch: int = 256,
    precision: str | None = None,
) -> Tensor:
    """For each sample the share of n generated values of `target` in which the classifier sees the
    sample's label.

    Senellart et al. (2023), section 5.4: z ~ q(z|x_S), the decoder's mean is shown to the
    classifier. The mean over samples is the coherence; see `plain` and `macro`. For attributes: the
    share of attributes that agree.

    Args:
        data: N samples with labels.
        given: S.
        target: what is generated.
        n: draws for each sample.

    Returns: (N,) in [0, 1]; NaN where a sample lacks a part of x_S.
    Raises: ValueError for data without labels, names it does not hold, or a target that has no
        classifier.
    """
    if target not in classifiers.judges:
        raise ValueError(
            f"There is no classifier for {target!r}, only for {list(classifiers.judges)}."
        )
    labels = labels_of(data)
    right = torch.full((len(data),), torch.nan, dtype=torch.float64, device=data.device)
    for rows in torch.arange(len(data), device=data.device).split(batch):
        x = data.batch(rows).only(given)
        rows = rows[x.mask(given)]
        if not len(rows):
            continue
        z = model.latents(Batch(data.batch(rows).only(given).x), n)
        _, found = judged(model, classifiers.judges[target], target, z.flatten(0, 1), precision)
        right[rows] = (
            agreement(found, labels[rows].repeat(n, *[1] * (labels.dim() - 1)))
            .unflatten(0, (n, -1))
            .mean(0)
        )
    return right


@torch.no_grad()
def joint_coherence(
    model: MultimodalVAE, classifiers: Classifiers, n: int = 10_000, precision: str | None = None
) -> Tensor:
    """For each of n samples z ~ p(z), decoded into every modality: 1 where all classifiers see one
    label, else 0.

    Shi et al. (2019), section 4.1, for any number of modalities. For attributes: the share of
    attributes on which all agree. Shape (n,).

    Raises: ValueError for fewer than two classifiers.
    """
    if len(classifiers.judges) < 2:
        raise ValueError(
            "Joint coherence needs classifiers of two modalities, there are"
            f" {list(classifiers.judges)}."
        )
    z = model.latents(None, n).squeeze(1)
    return unanimity(
        {m: judged(model, judge, m, z, precision)[1] for m, judge in classifiers.judges.items()}
    )


def agreement(found: Tensor, labels: Tensor) -> Tensor:
    """1 where (N,) classes are equal, else 0; for (N, A) attributes the share that is: (N,),
    float64.
    """
    right = (found == labels).double()
    return right.mean(-1) if right.dim() == 2 else right


def unanimity(found: Mapping[str, Tensor]) -> Tensor:
    """1 where all modalities have one class, else 0; for attributes the share on which all agree:
    (N,), float64.
    """
    values = torch.stack(list(found.values()))
    right = (values == values[0]).all(0).double()
    return right.mean(-1) if right.dim() == 2 else right


def kappa(found: Mapping[str, Tensor]) -> tuple[float, float]:
    """Agreement of (N,) classes between pairs of modalities beyond chance, and its standard error.

    (A - C) / (1 - C), Conger (1980): A the mean share of pairs that agree, C what modalities with
    these shares of classes would agree by chance. A model whose every sample looks like a one has a
    unanimity near 1 and a kappa of 0.

    >>> ones = torch.tensor([1, 1, 1, 1, 0])
    >>> kappa({"a": ones, "b": ones})[0], round(kappa({"a": ones, "b": ones.roll(1)})[0], 3)
    (1.0, -0.25)
    """
    shown = torch.nn.functional.one_hot(torch.stack(list(found.values()))).double()  # (M, N, K)
    share, size = shown.mean(1), shown.shape[1]
    pairs = len(shown) * (len(shown) - 1)
    agree = (shown.sum(0).square().sum(-1) - len(shown)) / pairs
    chance = (share.sum(0).square().sum() - share.square().sum()) / pairs
    if chance >= 1:
        return math.nan, math.nan
    moved = (
        2 * ((shown.sum(0) @ share.sum(0)) - torch.einsum("mnk,mk->n", shown, share)) / pairs
        - 2 * chance
    )
    value = (agree.mean() - chance) / (1 - chance)
    influence = ((agree - agree.mean()) - moved * (1 - value)) / (1 - chance)
    return value.item(), influence.std().item() / math.sqrt(size)


def plain(values: Tensor) -> tuple[float, float]:
    """The mean of (N,) and its standard error, s / sqrt(N).

    >>> plain(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    (0.75, 0.25)
    """
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), error


def macro(values: Tensor, labels: Tensor) -> tuple[float, float]:
    """The mean over classes of each class's mean, and its standard error: every class counts the
    same.

    Args:
        values: (N,).
        labels: (N,) classes; only those that occur count.

    >>> macro(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1]))[0]
    0.5
    """
    each = [plain(values[labels == c]) for c in labels.unique()]
    errors = [
        0.0 if math.isnan(e) else e for _, e in each
    ]  # of a class with one sample nothing is known
    return math.fsum(v for v, _ in each) / len(each), math.hypot(*errors) / len(each)
