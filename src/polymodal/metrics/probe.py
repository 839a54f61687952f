"""Linear probe: how much of the label a linear classifier reads from the latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.metrics.means import averaged
from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, subsets
from polymodal.model import MultimodalVAE

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement

DRAWS = 8


@metric(direction="higher", unit="share", places=subsets, labels=True)
def probe(measurement: Measurement, given: Given, target: str) -> Value | None:
    """Accuracy of a linear classifier that reads the label from the latents' means."""
    return averaged(measurement.probed(given))


@torch.no_grad()
def latent_means(model: MultimodalVAE, batch: Batch) -> Tensor:
    """E[z|x_S] for what the batch holds, (B, D): exact if the posterior has a mean in closed form,
    else the mean of 8 draws.
    """
    q = model.posterior(batch)
    try:
        return q.mean
    except NotImplementedError:  # flows, and products that are drawn by a sampler
        return q.sample(torch.Size((DRAWS,))).mean(0)


def probe_hits(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> Tensor:
    """1 if logistic regression on standardised latents, fitted on `train`, finds the label of a
    test latent, else 0.

    scikit-learn's LogisticRegression with its default penalty, as Sutter et al. (2021) and Hwang et
    al. (2021) use it.

    Args:
        train, test: (N, D) and (K, D).
        train_labels, test_labels: (N,) and (K,) classes.

    Returns: (K,), float64.
    Raises: ValueError if the training labels are all the same.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(train_labels.unique()) < 2:
        raise ValueError("A linear probe needs training samples of at least two classes.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train.double().cpu().numpy(), train_labels.cpu().numpy())
    predicted = torch.from_numpy(model.predict(test.double().cpu().numpy()))
    return (predicted == test_labels.cpu()).double()
