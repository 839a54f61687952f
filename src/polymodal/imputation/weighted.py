"""Self-normalised importance sampling of q(z | x_S), and quantiles of weighted draws."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch, Modality
from polymodal.data import Dataset, kind_of
from polymodal.distributions import likelihood_of, stratified, weighable
from polymodal.model import MultimodalVAE

HALVINGS = 20  # steps in which the power of weights is found
ROWS = 1024  # samples whose latents are computed at a time


class Weighted(NamedTuple):
    """Draws z (K, B, D) with weights (K, B) that add up to 1 over K, and their effective number
    1 / sum_k w_k^2, (B,); and p(x_m|z) of the modalities that were decoded to be weighted and kept.
    """

    z: Tensor
    weight: Tensor
    ess: Tensor
    decoded: Mapping[str, Any] = {}

    def under(self, model: MultimodalVAE, batch: Batch, m: str) -> Any:
        """p(x_m|z) of entries of a batch that were not observed, batch_shape (K, B)."""
        p = self.decoded[m] if m in self.decoded else model.decoded(m, self.z, batch.covariates)
        return model.predictive(m, batch, p)


@torch.no_grad()
def weighted_latents(
    model: MultimodalVAE, batch: Batch, proposals: int, keep: Collection[str] = ()
) -> Weighted:
    """Draws of p(z | x_S) of the model itself: z_k ~ q(z | x_S) with weights proportional to
    p(z_k) p(x_S | z_k) / q(z_k | x_S) (Mattei and Frellsen 2019, eq. 10).

    Weights are flattened where a posterior says which share of its draws counts at least
    (`Posterior.least_effective`).

    Draws have equal weights where the posterior has no density, such as a product that a sampler
    draws, and where a picture or a text is observed, see `is_large`. Of a sample of which nothing
    is observed q is the prior.

    Args:
        batch: of any subset of modalities and entries, as the model's networks read it.
        proposals: K.
        keep: modalities whose decoded distributions are kept, so that they need not be decoded
            again.
    """
    q, prior = model.posterior(batch), model.prior()
    if not weighable(q, prior):
        return equally_weighted(q.sample(torch.Size([proposals])))
    z = stratified(q, proposals)
    large = {m.name for m in model.modalities if is_large(m)}
    seen = [batch.mask([m]) for m in batch.x if m in large]
    others = [m for m in batch.x if m not in large]
    if not others or any(bool(mask.all()) for mask in seen):
        return equally_weighted(z)
    decoded, log_w = {}, prior.log_prob(z) - q.log_prob(z)
    for m in others:
        p = model.decoded(m, z, batch.covariates)
        log_w = log_w + batch.where(m, model.log_p_under(m, batch, p))
        if m in keep:
            decoded[m] = p
    for mask in seen:
        log_w = torch.where(mask, 0, log_w)
    least = proposals * model.posterior.least_effective
    weight = flattened(log_w.double(), least).to(z.dtype)
    return Weighted(z, weight, 1 / weight.square().sum(0), decoded)


def is_large(modality: Modality) -> bool:
    """Whether a modality is a picture or a text. The thousands of values of a picture would give
    all the weight to one draw, and both take long to decode from every draw.
    """
    return kind_of(modality).visual or likelihood_of(modality).words


def equally_weighted(z: Tensor) -> Weighted:
    """Draws z (K, B, D) of equal weights."""
    weight = z.new_full(z.shape[:-1], 1 / len(z))
    return Weighted(z, weight, z.new_full((z.shape[1],), float(len(z))))


def flattened(log_w: Tensor, least: float) -> Tensor:
    """Weights (K, B) in proportion to w^t, with the largest power t <= 1 for which the effective
    number of draws is at least `least`.

    >>> log_w = torch.tensor([[0.0, 0.0], [9.0, 0.1]])
    >>> 1 / flattened(log_w, 1.5).square().sum(0)
    tensor([1.5000, 1.9950])
    """
    whole = _effective(log_w) >= least
    if whole.all():
        return log_w.softmax(0)
    low, high = torch.zeros_like(log_w[0]), torch.ones_like(log_w[0])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        enough = _effective(middle * log_w) >= least
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return (torch.where(whole, 1.0, low) * log_w).softmax(0)


def _effective(log_w: Tensor) -> Tensor:
    """The effective number of draws of weights in proportion to exp(log_w), (B,)."""
    return 1 / log_w.softmax(0).square().sum(0)


@torch.no_grad()
def latent_means(model: MultimodalVAE, data: Dataset, seed: int = 0, draws: int = 256) -> Tensor:
    """Means of q(z | x_S) of all samples, (N, D).

    Args:
        seed, draws: of the average that stands for a mean without a closed form.
    """
    means = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for batch in data.batches(ROWS):
            means.append(_mean(model.posterior(model.readable(batch)), draws))
    return torch.cat(means)


def _mean(q: Distribution, draws: int) -> Tensor:
    """The mean of a distribution, in closed form or of draws."""
    try:
        return q.mean
    except NotImplementedError:
        return q.sample(torch.Size([draws])).mean(0)


def weighted_quantiles(x: Tensor, weight: Tensor, levels: Tensor) -> Tensor:
    """Quantiles (Q, B, ...) at `levels` (Q,) of draws x (K, B, ...) with weights (K, B): the
    smallest draw up to which the weights add up to the level.

    >>> x = torch.tensor([[3.0], [1.0], [2.0]])
    >>> weighted_quantiles(x, torch.tensor([[0.2], [0.5], [0.3]]), torch.tensor([0.4, 0.9]))
    tensor([[1.],
            [3.]])
    """
    ordered, order = x.flatten(2).sort(0) if x.dim() > 2 else x.sort(0)
    spread = weight.unsqueeze(-1).expand_as(order) if order.dim() > 2 else weight
    total = spread.gather(0, order).double().cumsum(0)
    place = torch.searchsorted(
        total.movedim(0, -1).contiguous(),
        levels.to(total).expand(*total.shape[1:], -1).contiguous(),
    ).clamp(max=len(x) - 1)
    found = ordered.movedim(0, -1).gather(-1, place).movedim(-1, 0)
    return found.reshape(len(levels), *x.shape[1:])
