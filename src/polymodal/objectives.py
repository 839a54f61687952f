"""Two losses serve almost every method: `elbo` (an ELBO with an optional consensus term) and `iwae`
(k samples).

`elbos` is a sum of several ELBOs in which each decoder runs once, `stratified_iwae` the k-sample
bound of a mixture. These are negative bounds, per sample, in nats, of shape (B,), which only the
trainer averages; `mmd` is a number of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch, where_present
from polymodal.distributions import Joint, Mixture, Proposal, detach, divergence, sum_of
from polymodal.model import Loss, MultimodalVAE


def counts(weight: float | Tensor) -> bool:
    """Whether a term of this weight has to be computed: all but the number 0."""
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
        likelihood, kl, consensus: a, b, c; numbers, or (B,) if they differ between samples.
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
        gaps = {f"kl_{m}": batch.where(m, divergence(q, p, z)) for m, p in experts.items()}
        value, terms = value + consensus * sum_of(gaps.values()), terms | gaps
    return Loss(value, terms)


ESTIMATORS = ("iwae", "dreg")


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
        q: of batch_shape (B,), with rsample; the log-density of a `Proposal` is that of its
            `density`.
        k: number of samples.
        estimator: "iwae", or "dreg" (Tucker et al. 2019): the same value, another gradient for q.
            For a stratum of a mixture that gradient is biased; it is the estimator of the MMVAE
            papers.

    Raises ValueError for an unknown estimator.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator must be one of {', '.join(ESTIMATORS)}, got {estimator!r}.")
    z = q.rsample(torch.Size([k]))
    density = detach(q) if estimator == "dreg" else q
    log_w = model.log_likelihood(batch, z, weighted=True) + beta * (
        model.prior().log_prob(z) - density.log_prob(z)
    )
    value = torch.logsumexp(log_w, dim=0) - math.log(k)
    if estimator == "dreg":
        value = _dreg(value, log_w, z, beta, _in_density(q, z))
    return Loss(-value, {"bound": value.detach()})


def _dreg(value: Tensor, log_w: Tensor, z: Tensor, beta: float, in_density: Tensor) -> Tensor:
    """`value` with the doubly reparametrised gradient: weights w for the decoders, and for q
    w (1 - beta (1 - w)), of which w^2 is the case beta = 1 (Tucker et al. 2019).

    Args:
        in_density: (D,) bool: where not, the density depends on no parameter of the draw, whose
            gradient then has the weights w.
    """
    w = torch.softmax(log_w.detach(), dim=0)
    factor = torch.where(in_density, 1 - beta * (1 - w).unsqueeze(-1), 1)
    if z.requires_grad:
        z.register_hook(lambda grad: factor * grad)
    surrogate = (w * log_w).sum(0)
    return value.detach() + surrogate - surrogate.detach()


def _in_density(q: Distribution, z: Tensor) -> Tensor:
    """Whether the density of q depends on the parameters of the draw, (D,), by column of z."""
    parts = q.parts if isinstance(q, Joint) else [q]
    known = [not (isinstance(p, Proposal) and p.nuisance) for p in parts]
    sizes = torch.tensor([p.event_shape.numel() for p in parts], device=z.device)
    return torch.tensor(known, device=z.device).repeat_interleave(sizes)


class ElboTerm(NamedTuple):
    """One of several ELBOs: a posterior, the modalities that it explains, and the samples for which
    it counts.

    Args:
        q: of batch_shape (B,), with rsample.
        names: of modalities.
        present: (B,) masks as in `Batch`; no key: all present.
        counts_for: (B,), the samples for which the term counts; None: those with any of `names`.
    """

    q: Distribution
    names: Sequence[str]
    present: Mapping[str, Tensor]
    counts_for: Tensor | None = None


def elbos(
    model: MultimodalVAE,
    batch: Batch,
    terms: Sequence[ElboTerm],
    *,
    kl: float | Sequence[float] = 1.0,
    weights: Sequence[float] | Tensor | None = None,
) -> Loss:
    """Negative of sum_i w_i L(q_i, S_i; 1, b_i, 0): each decoder runs once, on the latents of all
    terms that it serves.

    Args:
        terms: at least one.
        kl: b, or one b_i for each term.
        weights: w_i, numbers or (B,) each; None: all 1.

    Returns the loss in nats; its terms are the first ELBO's divergence and each log p(x_m|z) where
    it first occurs.
    """
    z = torch.stack([term.q.rsample() for term in terms])
    each = [z.new_zeros(len(batch)) for _ in terms]
    logged: dict[str, Tensor] = {}
    for m, logs in _log_likelihoods(model, batch, terms, z):
        logged[f"log_p_{m}"] = next(iter(logs.values()))
        for i, log in logs.items():
            each[i] = each[i] - model.weights[m] * log
    p, betas = model.prior(), kl if isinstance(kl, Sequence) else [kl] * len(terms)
    gaps = [divergence(term.q, p, z_i) for term, z_i in zip(terms, z, strict=True)]
    each = [
        counted(term, value + beta * gap)
        for term, value, beta, gap in zip(terms, each, betas, gaps, strict=True)
    ]
    if weights is not None:
        each = [w * value for w, value in zip(weights, each, strict=True)]
    return Loss(sum_of(each), logged | {"kl": gaps[0]})


def _log_likelihoods(
    model: MultimodalVAE, batch: Batch, terms: Sequence[ElboTerm], z: Tensor
) -> Iterator[tuple[str, dict[int, Tensor]]]:
    """log p(x_m|z_i) of each modality for each term i that explains it, unweighted, (B,); 0 where
    the modality is absent. z is (terms, B, D).
    """
    for m, copy in model.copies(z, {m for term in terms for m in term.names}).items():
        rows = [i for i, term in enumerate(terms) if m in term.names]
        latents = copy if len(rows) == len(terms) else copy[rows]
        logs = model.log_p(m, batch, latents)
        yield m, {i: where_present(terms[i].present, m, v) for i, v in zip(rows, logs, strict=True)}


def counted(term: ElboTerm, value: Tensor) -> Tensor:
    """`value` (B,) where the term counts, 0 elsewhere."""
    counts_for = term.counts_for
    if counts_for is None and all(m in term.present for m in term.names):
        counts_for = reduce(torch.logical_or, (term.present[m] for m in term.names))
    return value if counts_for is None else torch.where(counts_for, value, 0)


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
    """Negative k-sample bound of a mixture, k samples from each stratum: the mean of the strata's
    bounds, or with `log_mean` the log of the mean of all weights.

    ELBO <= mean of the bounds <= log of the mean, in expectation (Shi et al. 2019; Jensen). A
    stratum has weight 0 for samples that lack its modality.

    Args:
        strata: each with the log-density of the whole, see `Posterior.strata`.
        weights: (B, C); they need not be normalised.
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


OBJECTIVES = ("elbo", *ESTIMATORS)


def variational_bound(
    model: MultimodalVAE,
    batch: Batch,
    objective: str = "elbo",
    k: int = 1,
    *,
    beta: float = 1.0,
    log_mean: bool = False,
) -> Loss:
    """Negative lower bound of log p(x_S) with the model's posterior: the ELBO, or the k-sample
    bound with the gradient of "iwae" or "dreg".

    The ELBO of a mixture bounds its divergence by convexity (MoPoE); the k-sample bounds take the
    mixture's density.

    Raises ValueError for an unknown objective, and for an ELBO of a mixture with learned weights.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}.")
    if objective == "elbo":
        q = model.posterior(batch)
        if isinstance(q, Mixture) and q.weights.requires_grad:
            raise ValueError(
                "objective=elbo cannot learn these mixture weights (one sampled component carries"
                " no gradient); use objective=iwae, k=1."
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
    return _mean_kernel(z, z) + _mean_kernel(p, p) - 2 * _mean_kernel(z, p)


def _mean_kernel(a: Tensor, b: Tensor) -> Tensor:
    return (-torch.cdist(a, b).square() / a.shape[-1]).exp().mean()
