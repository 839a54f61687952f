"""Two losses serve almost every method: `bound` (an ELBO with an optional consensus term) and `importance` (k samples).

All are negative, per sample, in nats, of shape (B,); the trainer alone averages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import detach, divergence, sum_of
from polymodal.model import MultimodalVAE


class Loss(NamedTuple):
    """`value` (B,), what is minimised; `terms`, each (B,), what is logged of it: unweighted and named."""

    value: Tensor
    terms: dict[str, Tensor]


def bound(
    model: MultimodalVAE,
    batch: Batch,
    q: Distribution,
    *,
    likelihood: float = 1.0,
    kl: float = 1.0,
    consensus: float = 0.0,
    experts: Mapping[str, Distribution] | None = None,
) -> Loss:
    """Negative of L(q, S; a, b, c) = a E_q[sum_m w_m log p(x_m|z)] - b KL(q || p) - c sum_m KL(q || q_m).

    JMVAE is (1, 1, alpha); JNF is (1, 1, 0), then (0, 0, 1) (Senellart et al. 2023, eq. (5), Algorithm 1). Modalities
    that are absent for a sample add nothing to its sums. A term whose weight is 0 is not computed.

    Args:
        q: q(z|x_S) of batch_shape (B,), with rsample.
        likelihood, kl, consensus: a, b, c.
        experts: q_m for the consensus; None: `model.posterior.unimodal(batch)`.

    Returns the loss in nats; its terms are the single log p(x_m|z), KL(q||p) and KL(q||q_m).
    """
    z = q.rsample()
    value, terms = z.new_zeros(len(batch)), dict[str, Tensor]()
    if likelihood:
        for m, log in model.log_likelihoods(batch, z).items():
            terms[f"log_p_{m}"] = log
            value = value - likelihood * model.weights[m] * log
    if kl:
        terms["kl"] = divergence(q, model.prior(), z)
        value = value + kl * terms["kl"]
    if consensus:
        experts = model.posterior.unimodal(batch) if experts is None else experts
        for m, p in experts.items():
            gap = divergence(q, p, z)
            terms[f"kl_{m}"] = torch.where(batch.mask([m]), gap, 0) if m in batch.present else gap
        value = value + consensus * sum_of(v for k, v in terms.items() if k.startswith("kl_"))
    return Loss(value, terms)


def importance(
    model: MultimodalVAE, batch: Batch, q: Distribution, k: int, *, beta: float = 1.0, estimator: str = "iwae"
) -> Loss:
    """Negative k-sample bound log 1/k sum_i exp(log w_i), w = p(x|z) (p(z) / q(z))^beta, z_i ~ q, for one stratum.

    Args:
        q: of batch_shape (B,), with rsample; a `Proposal` is charged its density.
        k: number of samples.
        estimator: "iwae", or "dreg" (Tucker et al. 2019): the same value, another gradient for q. For a stratum of a
            mixture that gradient is biased; it is the estimator of the MMVAE papers.
    """
    if estimator not in ("iwae", "dreg"):
        raise ValueError(f"The estimator is 'iwae' or 'dreg', not {estimator!r}.")
    z = q.rsample(torch.Size([k]))
    density = detach(q) if estimator == "dreg" else q
    log_w = model.log_likelihood(batch, z, weighted=True) + beta * (model.prior().log_prob(z) - density.log_prob(z))
    value = torch.logsumexp(log_w, dim=0) - math.log(k)
    if estimator == "dreg":
        w = torch.softmax(log_w.detach(), dim=0)
        if z.requires_grad:
            z.register_hook(lambda grad: w.unsqueeze(-1) * grad)
        surrogate = (w * log_w).sum(0)
        value = value.detach() + surrogate - surrogate.detach()
    return Loss(-value, {"bound": value.detach()})


def stratified(
    model: MultimodalVAE,
    batch: Batch,
    strata: Sequence[Distribution],
    k: int,
    *,
    inside: bool = False,
    beta: float = 1.0,
    estimator: str = "iwae",
) -> Loss:
    """The k-sample bound of a mixture, k samples from each stratum: their mean outside the log, or `inside` it.

    A stratum whose modality is absent for a sample does not count for it. strata are in the order of `batch.x`.
    """
    losses = torch.stack([importance(model, batch, q, k, beta=beta, estimator=estimator).value for q in strata])
    seen = torch.stack([batch.mask([m]) for m in batch.x])
    if inside:
        value = math.inf * -1 * torch.ones_like(losses)
        value = torch.logsumexp(torch.where(seen, -losses, value), dim=0) - seen.sum(0).log()
    else:
        value = -torch.where(seen, losses, 0).sum(0) / seen.sum(0)
    return Loss(-value, {"bound": value.detach()})
