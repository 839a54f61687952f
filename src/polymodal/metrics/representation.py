"""Whether latents fall into clusters that are the classes, without a label being shown."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from polymodal.metrics.features import GROUPS, group_of, jackknife_error
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, subsets
from polymodal.metrics.probe import held_out_means

STARTS = 10  # of k-means

Score = Callable[..., float]


def clusters(z: Tensor, count: int, seed: int = 0) -> Tensor:
    """k-means of z (N, D), the best of 10 starts: the cluster of each, (N,).

    Raises UnavailableError for fewer samples than clusters.
    """
    from sklearn.cluster import KMeans

    if len(z) < count:
        raise UnavailableError(f"{count} clusters need as many samples, got {len(z)}.")
    means = KMeans(count, n_init=STARTS, random_state=seed)
    return torch.from_numpy(means.fit_predict(z.double().cpu().numpy())).long()


def score_with_error(score: Score, labels: Tensor, found: Tensor) -> tuple[float, float]:
    """score(labels, found), and its standard error by the jackknife over groups of samples, with
    the clusters (N,) as they are.
    """
    value = float(score(labels.numpy(), found.numpy()))
    group = group_of(labels)
    left = [score(labels[group != g].numpy(), found[group != g].numpy()) for g in range(GROUPS)]
    return value, jackknife_error(torch.tensor(left))


def _measured(m: Measurement, given: Given, name: str) -> Value | None:
    """None for data without classes."""
    if m.data.label is None:
        return None
    from sklearn import metrics

    labels = m.data.label[m.rows(given)].cpu()
    count = len(m.data.label.unique())
    if count < 2:
        raise UnavailableError("All samples have one and the same class.")
    found = m.cached(
        ("clusters", given), lambda: clusters(held_out_means(m, given), count, m.options.seed)
    )
    return *score_with_error(getattr(metrics, name), labels, found), len(labels)


@metric(places=subsets, direction="higher", unit="index", labels=True, default=False)
def cluster_ari(m: Measurement, given: Given, target: str) -> Value | None:
    """Agreement of k-means clusters of the latents' means with the classes: adjusted Rand index, 1
    if they are the same, 0 by chance.
    """
    return _measured(m, given, "adjusted_rand_score")


@metric(places=subsets, direction="higher", unit="share", labels=True, default=False)
def cluster_nmi(m: Measurement, given: Given, target: str) -> Value | None:
    """What k-means clusters of the latents' means tell about the classes: normalised mutual
    information.
    """
    return _measured(m, given, "normalized_mutual_info_score")
