"""Linear probe: how much of the label a linear classifier reads from the latents."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.data.dataset import Dataset
from polymodal.metrics.measurement import Measurement, complete_batches
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, subsets
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


@metric(places=subsets, direction="higher", unit="share", labels=True)
def probe(m: Measurement, given: Given, target: str) -> Value:
    """Accuracy of a linear classifier on the latents' means."""
    if m.train is None or m.train.label is None or m.data.label is None:
        raise UnavailableError(
            "A linear probe needs a training part, and class labels in both parts."
        )

    def means(data: Dataset, rows: Tensor) -> Tensor:
        batches = complete_batches(data, rows, given, m.options.batch)
        return torch.cat([latent_means(m.model, batch) for batch in batches])

    fitted_on, rows = _training_rows(m, m.train, given), m.rows(given)
    with m.stream("probe", given):
        train, test = means(m.train, fitted_on), means(m.data, rows)
    return mean_of(linear_probe(train, m.train.label[fitted_on], test, m.data.label[rows]))
