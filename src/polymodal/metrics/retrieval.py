"""Retrieval across modalities: the partner of a value among many, by the distance of latents."""

from __future__ import annotations

import torch
from torch import Tensor

from polymodal.metrics.features import drawn_rows
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, partners
from polymodal.metrics.probe import held_out_means
from polymodal.metrics.statistics import mean_of

GALLERY = 1000  # values among which the partner is looked for


def recall_at(k: int, query: Tensor, gallery: Tensor, partner: Tensor) -> Tensor:
    """Whether the partner is among the k nearest of a gallery, (N,), float64: where it is as far as
    others, the share of their orders in which it is.

    Args:
        query: (N, D).
        gallery: (M, D).
        partner: (N,), rows of the gallery.

    Raises UnavailableError for values that are not finite.

    >>> z = torch.eye(3)
    >>> recall_at(1, z, z, torch.arange(3)), recall_at(1, 0 * z, 0 * z, torch.arange(3))[0]
    (tensor([1., 1., 1.], dtype=torch.float64), tensor(0.3333, dtype=torch.float64))
    """
    if not bool(query.isfinite().all() and gallery.isfinite().all()):
        raise UnavailableError("Retrieval needs finite latents; some are not.")
    exact = "donot_use_mm_for_euclid_dist"  # equal latents are exactly as far
    distance = torch.cdist(query.double(), gallery.double(), compute_mode=exact)
    own = distance.gather(1, partner[:, None])
    nearer, as_far = (distance < own).sum(1), (distance == own).sum(1)
    return ((k - nearer) / as_far).clamp(0, 1).double()


def _samples(m: Measurement, given: Given, target: str) -> Tensor:
    """At most GALLERY samples that have both, in a random order, (N,): the same both ways."""
    rows = m.rows(sorted([*given, target]))
    return rows[drawn_rows(len(rows), GALLERY, m.options.seed).to(rows.device)]


def _partners(m: Measurement, samples: Tensor, target: str) -> tuple[Tensor, Tensor]:
    """Samples that show each different value of the target once, (M,), and which of them (N,) is
    the partner of each.
    """
    values, partner = m.data.rows_of(target, samples).unique(return_inverse=True)
    return samples.new_empty(len(values)).scatter_(0, partner, samples), partner


def _recall(m: Measurement, given: Given, target: str, k: int) -> Value:
    samples = _samples(m, given, target)
    gallery, partner = _partners(m, samples, target)
    query, looked_among = _shared(m, given, samples), _shared(m, (target,), gallery)
    return mean_of(recall_at(k, query, looked_among, partner))


def _shared(m: Measurement, given: Given, samples: Tensor) -> Tensor:
    """E[z|x_S] of these samples, which have x_S; only what modalities share, of a latent with
    private parts.
    """
    z = held_out_means(m, given)[torch.searchsorted(m.rows(given), samples)]
    private = m.model.posterior.private_columns
    return z[:, : min(columns.start for columns in private.values())] if private else z


@metric(places=partners, direction="higher", unit="share", default=False)
def retrieval_1(m: Measurement, given: Given, target: str) -> Value:
    """Share of values whose partner in the other modality has the nearest latent mean, of 1,000."""
    return _recall(m, given, target, 1)


@metric(places=partners, direction="higher", unit="share", default=False)
def retrieval_5(m: Measurement, given: Given, target: str) -> Value:
    """Share of values whose partner in the other modality is among the 5 nearest of 1,000."""
    return _recall(m, given, target, 5)


@metric(places=partners, direction="higher", unit="share", default=False)
def retrieval_10(m: Measurement, given: Given, target: str) -> Value:
    """Share of values whose partner in the other modality is among the 10 nearest of 1,000."""
    return _recall(m, given, target, 10)


@metric(places=partners, direction="none", unit="share", default=False)
def retrieval_chance(m: Measurement, given: Given, target: str) -> Value:
    """What `retrieval_1` is by chance; `retrieval_5` and `retrieval_10` are 5 and 10 times that."""
    samples = _samples(m, given, target)
    return 1 / len(_partners(m, samples, target)[0]), 0.0, len(samples)
