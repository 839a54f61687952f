"""Self-normalised importance sampling of q(z | x_S), and quantiles of weighted draws."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.data import Dataset
from polymodal.distributions import stratified, weighable
from polymodal.model import MultimodalVAE

ROWS = 1024  # samples whose latents are computed at a time


class Weighted(NamedTuple):
    """Draws z (K, B, D) with weights (K, B) that add up to 1 over K, and their effective number
    1 / sum_k w_k^2, (B,); and p(x_m|z) of the modalities that were decoded to be weighted and kept.
    """

    z: Tensor
    weight: Tensor
    ess: Tensor
    decoded: Mapping[str, Any] = {}

    def under(self, model: MultimodalVAE, m: str) -> Any:
        """p(x_m|z), batch_shape (K, B)."""
        return self.decoded[m] if m in self.decoded else model.decoders[m](self.z)


@torch.no_grad()
def weighted_latents(
    model: MultimodalVAE, batch: Batch, proposals: int, keep: Collection[str] = ()
) -> Weighted:
    """Draws of p(z | x_S) of the model itself: z_k ~ q(z | x_S) with weights proportional to
    p(z_k) p(x_S | z_k) / q(z_k | x_S) (Mattei and Frellsen 2019, eq. 10).

    Draws of a posterior without a density, such as a product that a sampler draws, have equal
    weights. Of a sample of which nothing is observed q is the prior.

    Args:
        batch: of any subset of modalities and entries, as the model's networks read it.
        proposals: K.
        keep: modalities whose decoded distributions are kept, so that they need not be decoded
            again.
    """
    q, prior = model.posterior(batch), model.prior()
    if not weighable(q, prior):
        z = q.sample(torch.Size([proposals]))
        weight = z.new_full(z.shape[:-1], 1 / proposals)
        return Weighted(z, weight, z.new_full((len(batch),), float(proposals)))
    z = stratified(q, proposals)
    decoded, log_w = {}, prior.log_prob(z) - q.log_prob(z)
    for m in batch.x:
        p = model.decoders[m](z)
        log_w = log_w + batch.where(m, model.log_p_under(m, batch, p))
        if m in keep:
            decoded[m] = p
    weight = log_w.double().softmax(0).to(z.dtype)
    return Weighted(z, weight, 1 / weight.square().sum(0), decoded)


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
