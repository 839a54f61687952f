"""Linear probes: how much of the label a linear classifier reads from the latents, and from their
shared and private parts.
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
TRAINING = 2000  # training samples that the probe is fitted on


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


def _training_rows(m: Measurement, train: Dataset, given: Given) -> Tensor:
    """The first TRAINING samples of a random order that have all of `given`."""
    generator = torch.Generator().manual_seed(m.options.seed)
    order = torch.randperm(len(train), generator=generator).to(m.data.device)
    for name in given:
        order = order[train.is_present(name)[order]]
    if not len(order):
        raise UnavailableError(f"No training sample has {' and '.join(given)}.")
    return order[:TRAINING]


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


def _encoded(m: Measurement, given: Given) -> Encoded:
    """Kept for all probes of these modalities."""
    return m.cached(("probe", given), lambda: _encode(m, given))


def _encode(m: Measurement, given: Given) -> Encoded:
    training, train_labels, test_labels = _labels(m)

    def means(data: Dataset, rows: Tensor) -> Tensor:
        batches = complete_batches(data, rows, given, m.options.batch)
        return torch.cat([latent_means(m.model, batch) for batch in batches])

    fitted_on, rows = _training_rows(m, training, given), m.rows(given)
    with m.stream("probe", given):
        train, test = means(training, fitted_on), means(m.data, rows)
    return Encoded(train, train_labels[fitted_on], test, test_labels[rows])


def _accuracy(m: Measurement, given: Given, columns: slice = slice(None)) -> Value:
    """The accuracy of a probe that reads these columns of the latents' means."""
    train, train_labels, test, test_labels = _encoded(m, given)
    return mean_of(linear_probe(train[:, columns], train_labels, test[:, columns], test_labels))


@metric(places=subsets, direction="higher", unit="share", labels=True)
def probe(m: Measurement, given: Given, target: str) -> Value:
    """Accuracy of a linear classifier on the latents' means."""
    return _accuracy(m, given)


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
