"""Linear probes: how much of the label a linear classifier reads from the latents, from their
shared and private parts, and with few or all labels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data.dataset import Dataset
from polymodal.metrics.measurement import Measurement, complete_batches
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, each_alone, once, subsets
from polymodal.metrics.statistics import mean_of
from polymodal.model import MultimodalVAE

DRAWS = 8
TRAINING = 2000  # training samples that a probe is fitted on
FEW = 500  # the first so many of them


@torch.no_grad()
def latent_means(model: MultimodalVAE, batch: Batch) -> Tensor:
    """E[z|x_S] for the modalities of the batch, (B, D): exact where the posterior has a mean, else
    the mean of 8 draws.
    """
    q = model.posterior(batch)
    try:
        return q.mean
    except NotImplementedError:  # flows, and products that are drawn by a sampler
        return q.sample(torch.Size((DRAWS,))).mean(0)


def linear_probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> Tensor:
    """1 where logistic regression on standardised latents, fitted on `train`, finds the label of a
    test latent, else 0.

    scikit-learn's LogisticRegression with its default penalty, as Sutter et al. (2021) and Hwang et
    al. (2021) use it.

    Args:
        train, test: (N, D) and (K, D).
        train_labels, test_labels: (N,) and (K,) classes.

    Returns: (K,), float64.
    Raises: UnavailableError if the training labels are all the same.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(train_labels.unique()) < 2:
        raise UnavailableError("A linear probe needs training samples of at least two classes.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train.double().cpu().numpy(), train_labels.cpu().numpy())
    predicted = torch.from_numpy(model.predict(test.double().cpu().numpy()))
    return (predicted == test_labels.cpu()).double()


def held_out_means(m: Measurement, given: Given) -> Tensor:
    """`latent_means` of every sample that has x_S, (N_S, D), kept for all metrics."""
    return m.cached(("means", given), lambda: _means(m, m.data, m.rows(given), given, "means"))


def _means(m: Measurement, data: Dataset, rows: Tensor, given: Given, stream: str) -> Tensor:
    with m.stream(stream, given):
        batches = complete_batches(data, rows, given, m.options.batch)
        return torch.cat([latent_means(m.model, batch) for batch in batches])


def _training_rows(m: Measurement, train: Dataset, given: Given) -> Tensor:
    """All samples that have all of `given`, in random order."""
    generator = torch.Generator().manual_seed(m.options.seed)
    order = torch.randperm(len(train), generator=generator).to(m.data.device)
    for name in given:
        order = order[train.is_present(name)[order]]
    if not len(order):
        raise UnavailableError(f"No training sample has {' and '.join(given)}.")
    return order


class Encoded(NamedTuple):
    """Latents' means and labels of the samples that a probe is fitted on, and of those on which it
    is judged.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def _labels(m: Measurement) -> tuple[Dataset, Tensor, Tensor]:
    """The training part, its labels and those of the test data. Raises UnavailableError if there
    are none.
    """
    if m.train is None or m.train.label is None or m.data.label is None:
        raise UnavailableError(
            "A linear probe needs a training part, and class labels in both parts."
        )
    return m.train, m.train.label, m.data.label


def _encoded(m: Measurement, given: Given, whole: bool = False) -> Encoded:
    """Kept for all probes of these modalities; `whole`: of all training samples."""
    return m.cached(("probe", given, whole), lambda: _encode(m, given, whole))


def _encode(m: Measurement, given: Given, whole: bool) -> Encoded:
    training, train_labels, test_labels = _labels(m)
    rows = _training_rows(m, training, given)
    rows = rows if whole else rows[:TRAINING]
    train = _means(m, training, rows, given, "probe")
    test = held_out_means(m, given)
    return Encoded(train, train_labels[rows], test, test_labels[m.rows(given)])


def _accuracy(
    m: Measurement,
    given: Given,
    columns: slice = slice(None),
    first: int | None = None,
    whole: bool = False,
) -> Value:
    """The accuracy of a probe that reads these columns of the latents' means.

    Args:
        first: it is fitted on the first so many of the training samples; None: on all that are
            encoded.
        whole: all training samples are encoded.
    """
    train, train_labels, test, test_labels = _encoded(m, given, whole)
    train, train_labels = train[:first], train_labels[:first]
    return mean_of(linear_probe(train[:, columns], train_labels, test[:, columns], test_labels))


@metric(places=subsets, direction="higher", unit="share", labels=True)
def probe(m: Measurement, given: Given, target: str) -> Value:
    """Accuracy of a linear classifier on the latents' means, fitted on 2,000 labels."""
    return _accuracy(m, given)


@metric(places=subsets, direction="higher", unit="share", labels=True, default=False)
def probe_500(m: Measurement, given: Given, target: str) -> Value:
    """Accuracy of a linear classifier on the latents' means, fitted on 500 labels."""
    return _accuracy(m, given, first=FEW)


@metric(places=subsets, direction="higher", unit="share", labels=True, default=False)
def probe_all(m: Measurement, given: Given, target: str) -> Value:
    """Accuracy of a linear classifier on the latents' means, fitted on all training labels."""
    return _accuracy(m, given, whole=True)


@metric(places=subsets, direction="higher", unit="share", labels=True)
def shared_probe(m: Measurement, given: Given, target: str) -> Value | None:
    """Accuracy of a linear classifier on the means of the shared latent only.

    Of methods with private latents.
    """
    private = m.model.posterior.private_columns
    if not private:
        return None
    return _accuracy(m, given, slice(min(columns.start for columns in private.values())))


@metric(places=each_alone, direction="none", unit="share", labels=True)
def private_probe(m: Measurement, given: Given, target: str) -> Value | None:
    """Accuracy of a linear classifier on the means of a modality's private latent only.

    At `probe_chance` the label is in the shared latent alone, if that is where `shared_probe` finds
    it. Of methods with private latents.
    """
    columns = m.model.posterior.private_columns.get(target)
    return None if columns is None else _accuracy(m, given, columns)


@metric(places=once, direction="none", unit="share", labels=True)
def probe_chance(m: Measurement, given: Given, target: str) -> Value:
    """Accuracy of a probe that reads nothing: the share of the most frequent training label."""
    _, train_labels, test_labels = _labels(m)
    return mean_of((test_labels == train_labels.mode().values).double())
