"""Two losses serve almost every method: `elbo` (an ELBO with an optional consensus term) and `iwae`
(k samples).

`elbos` is a sum of several ELBOs with each decoder run once, `stratified_iwae` the k-sample bound
of a mixture. All are negative, per sample, in nats, of shape (B,); the trainer alone averages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions.divergences import detach, divergence
from polymodal.distributions.mixture import Mixture
from polymodal.distributions.sums import sum_of
from polymodal.model import Loss, MultimodalVAE


def counts(weight: float | Tensor) -> bool:
    """Whether a term of this weight need be computed."""
    return isinstance(weight, Tensor) or weight != 0


def elbo(
    model: MultimodalVAE,
    batch: Batch,
    q: Distribution,
    *,
    likelihood: float | Tensor = 1.0,
    kl: float | Tensor = 1.0,
    consensus: float | Tensor = 0.0,
    experts: Mapping[str, Distribution] | None = None,
) -> Loss:
    """Negative of L(q, S; a, b, c) = a E_q[sum_m w_m log p(x_m|z)] - b KL(q || p) - c sum_m KL(q ||
    q_m).

    JMVAE is (1, 1, alpha); JNF is (1, 1, 0), then (0, 0, 1) (Senellart et al. 2023, eq. (5),
    Algorithm 1). Modalities that are absent for a sample add nothing to its sums. A term whose
    weight is 0 is not computed.

    Args:
        q: q(z|x_S) of batch_shape (B,), with rsample.
        likelihood, kl, consensus: a, b, c; numbers, or (B,) where they differ from sample to
            sample.
        experts: q_m for the consensus; None: `model.posterior.unimodal(batch)`.

    Returns the loss in nats; its terms are the single log p(x_m|z), KL(q||p) and KL(q||q_m).
    """
    z = q.rsample()
    value, terms = z.new_zeros(len(batch)), dict[str, Tensor]()
    if counts(likelihood):
        for m, log in model.log_likelihoods(batch, z).items():
            terms[f"log_p_{m}"] = log
            value = value - likelihood * model.weights[m] * log
    if counts(kl):
        terms["kl"] = divergence(q, model.prior(), z)
        value = value + kl * terms["kl"]
    if counts(consensus):
        experts = model.posterior.unimodal(batch) if experts is None else experts
        for m, p in experts.items():
            gap = divergence(q, p, z)
            terms[f"kl_{m}"] = torch.where(batch.mask([m]), gap, 0) if m in batch.present else gap
        value = value + consensus * sum_of(v for k, v in terms.items() if k.startswith("kl_"))
    return Loss(value, terms)


def iwae(
    model: MultimodalVAE,
    batch: Batch,
    q: Distribution,
    k: int,
    *,
    beta: float = 1.0,
    estimator: str = "iwae",
) -> Loss:
    """Negative k-sample bound log 1/k sum_i exp(log w_i), w = p(x|z) (p(z) / q(z))^beta, z_i ~ q,
    for one stratum.

    Args:
        q: of batch_shape (B,), with rsample; a `Proposal` is charged its density.
        k: number of samples.
        estimator: "iwae", or "dreg" (Tucker et al. 2019): the same value, another gradient for q.
            For a stratum of a mixture that gradient is biased; it is the estimator of the MMVAE
            papers.
    """
    if estimator not in ("iwae", "dreg"):
        raise ValueError(f"The estimator is 'iwae' or 'dreg', not {estimator!r}.")
    z = q.rsample(torch.Size([k]))
    density = detach(q) if estimator == "dreg" else q
    log_w = model.log_likelihood(batch, z, weighted=True) + beta * (
        model.prior().log_prob(z) - density.log_prob(z)
    )
    value = torch.logsumexp(log_w, dim=0) - math.log(k)
    if estimator == "dreg":
        w = torch.softmax(log_w.detach(), dim=0)
        if z.requires_grad:
            z.register_hook(lambda grad: w.unsqueeze(-1) * grad)
        surrogate = (w * log_w).sum(0)
        value = value.detach() + surrogate - surrogate.detach()
    return Loss(-value, {"bound": value.detach()})


class ElboTerm(NamedTuple):
    """One of several ELBOs: a posterior, which modalities it is to explain, and for which samples
    they are there.

    Args:
        q: of batch_shape (B,), with rsample.
        names: of modalities.
        present: (B,) masks as in `Batch`; no key: all present.
        here: (B,), the samples for which the part counts; None: where any of `names` is present.
    """

    q: Distribution
    names: Sequence[str]
    present: Mapping[str, Tensor]
    here: Tensor | None = None


def elbos(
    model: MultimodalVAE,
    batch: Batch,
    parts: Sequence[ElboTerm],
    *,
    kl: float | Sequence[float] = 1.0,
    weights: Sequence[float] | Tensor | None = None,
) -> Loss:
    """Negative of sum_i w_i L(q_i, S_i; 1, b_i, 0): each decoder runs once, on the latents of all
    parts it serves.

    Args:
        parts: at least one.
        kl: b, or one b_i for each part.
        weights: w_i, numbers or (B,) each; None: all 1.

    Returns the loss in nats; its terms are the first part's divergence and each log p(x_m|z) where
    it first occurs.
    """
    z = torch.stack([part.q.rsample() for part in parts])
    seen = model.copies(z, {m for part in parts for m in part.names})
    each, terms = [z.new_zeros(len(batch)) for _ in parts], dict[str, Tensor]()
    for m, copy in seen.items():
        rows = [i for i, part in enumerate(parts) if m in part.names]
        logs = model.decoders[m](copy if len(rows) == len(parts) else copy[rows]).log_prob(
            batch.x[m]
        )
        for i, log in zip(rows, logs, strict=True):
            log = torch.where(parts[i].present[m], log, 0) if m in parts[i].present else log
            each[i] = each[i] - model.weights[m] * log
            terms |= {f"log_p_{m}": log} if i == rows[0] else {}
    p, beta = model.prior(), kl if isinstance(kl, Sequence) else [kl] * len(parts)
    for i, part in enumerate(parts):
        gap = divergence(part.q, p, z[i])
        terms |= {"kl": gap} if i == 0 else {}
        each[i] = counted(part, each[i] + beta[i] * gap)
    value = sum_of(each if weights is None else (w * v for w, v in zip(weights, each, strict=True)))
    return Loss(value, terms)


def counted(part: ElboTerm, value: Tensor) -> Tensor:
    """`value` (B,) where the part counts, 0 elsewhere."""
    here = part.here
    if here is None and all(m in part.present for m in part.names):
        here = reduce(torch.logical_or, (part.present[m] for m in part.names))
    return value if here is None else torch.where(here, value, 0)


def stratified_iwae(
    model: MultimodalVAE,
    batch: Batch,
    strata: Sequence[Distribution],
    weights: Tensor,
    k: int,
    *,
    log_mean: bool = False,
    beta: float = 1.0,
    estimator: str = "iwae",
) -> Loss:
    """The k-sample bound of a mixture, k samples from each stratum: their mean outside the log, or
    `log_mean` it.

    ELBO <= outside <= log_mean in expectation (Shi et al. 2019; Jensen). A stratum whose modality is
    absent for a sample has weight 0 there.

    Args:
        strata: each charged the density of the whole, see `polymodal.posteriors.pooled`.
        weights: (B, C), normalised here.
        k, beta, estimator: see `iwae`.
    """
    losses = torch.stack(
        [iwae(model, batch, q, k, beta=beta, estimator=estimator).value for q in strata], -1
    )
    share = weights / weights.sum(-1, keepdim=True)
    if log_mean:
        value = torch.logsumexp(torch.where(share > 0, share.log() - losses, -math.inf), dim=-1)
    else:
        value = -torch.where(share > 0, share * losses, 0).sum(-1)
    return Loss(-value, {"bound": value.detach()})


OBJECTIVES = ("elbo", "iwae", "dreg")


def variational_bound(
    model: MultimodalVAE,
    batch: Batch,
    objective: str = "elbo",
    k: int = 1,
    *,
    beta: float = 1.0,
    log_mean: bool = False,
) -> Loss:
    """A lower bound of log p(x_S) by the model's own posterior: "elbo", or the k-sample bound by
    "iwae" or "dreg".

    The ELBO of a mixture bounds its divergence by convexity (MoPoE); the k-sample bounds charge the
    mixture's density.

    Raises ValueError for an unknown objective.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"The objective is one of {', '.join(OBJECTIVES)}, not {objective!r}.")
    if objective == "elbo":
        q = model.posterior(batch)
        if isinstance(q, Mixture) and q.weights.requires_grad:
            raise ValueError(
                "The ELBO draws one component, which gives its weight no gradient, and here weights"
                " depend on the experts: take objective=iwae with k=1, the ELBO of all components."
            )
        return elbo(model, batch, q, kl=beta)
    strata, weights = model.posterior.strata(batch)
    return stratified_iwae(
        model, batch, strata, weights, k, log_mean=log_mean, beta=beta, estimator=objective
    )


def mmd(z: Tensor, p: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two samples (N, D), with the kernel exp(-|a - b|^2 / D)
    (Tsai et al. 2019).

    The biased estimate, which is never negative; a number of the whole batch.
    """
    kernel = lambda a, b: (-torch.cdist(a, b).square() / a.shape[-1]).exp().mean()
    return kernel(z, z) + kernel(p, p) - 2 * kernel(z, p)
