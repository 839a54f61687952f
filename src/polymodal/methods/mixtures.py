"""Methods whose posterior mixes experts, or products of experts: MMVAE, MoPoE, mmJSD and others.

`pooled` combines pooling, posterior family, prior and objective freely; the others are the
published ones. All of them train on incomplete data: an absent expert is left out of the pooling,
an absent modality out of the likelihood.
"""

from __future__ import annotations

from functools import partial
from itertools import permutations
from typing import Literal

import torch
from torch import nn

from polymodal.batch import Batch
from polymodal.checks import BelowOne, NonNegative, Share, Size
from polymodal.distributions import divergence, sum_of
from polymodal.methods.builder import Builder, learned_prior, pooling_of
from polymodal.methods.common import Objective, Pooled, bound_loss, present_count, whole_model
from polymodal.methods.method import method
from polymodal.methods.settings import PriorSettings
from polymodal.model import Loss, Method, Step
from polymodal.networks.named import Named
from polymodal.objectives import ElboTerm, elbo, elbos
from polymodal.posteriors import masks
from polymodal.posteriors.pooling import correlated, geometric, powerset, singletons

NORMAL = PriorSettings()


@method
def pooled(
    builder: Builder,
    *,
    pooling: str = "mixture_of_products",
    posterior: Literal["normal", "laplace", "flow"] = "normal",
    prior: PriorSettings = NORMAL,
    objective: Objective = "elbo",
    k: Size = 1,
    log_mean: bool = False,
    beta: NonNegative = 1.0,
    warmup: Share = 0.0,
) -> Method:
    """Any pooling with any posterior family, prior and objective. A combination that has no
    meaning is refused, and why.

    Args:
        pooling: a key of `polymodal.posteriors.POOLINGS`.
        posterior: family of the experts; "flow": normal experts pooled in the base coordinates of a
            shared flow.
        prior: see `polymodal.methods.settings.PriorSettings`.
        objective, k, log_mean: see `polymodal.objectives.variational_bound`; Hoelder pooling needs
            iwae or dreg.
        beta: weight of the divergence from the prior.
        warmup: share of the epochs over which it rises from 0.
    """
    chosen = pooling_of(pooling, posterior, prior.name, prior.expert, objective)
    p = learned_prior(prior.name, builder.latent, prior.learn_scale)
    model = builder.with_pooling(chosen, posterior, p, prior.expert)
    options = {"k": k, "log_mean": log_mean, "beta": beta, "warmup": warmup}
    return Method(model, whole_model(Step(bound_loss, objective=objective, **options)))


def _pooled_as(builder: Builder, pooling: str, loss: Step, family: str = "normal") -> Method:
    """A pooling of POOLINGS with experts and a prior of one family."""
    prior = learned_prior(family, builder.latent, learn_scale=False)
    chosen = pooling_of(pooling, family, family, prior_expert=False)
    return Method(builder.with_pooling(chosen, family, prior), whole_model(loss))


@method
def mmvae(
    builder: Builder,
    *,
    posterior: Literal["laplace", "normal"] = "laplace",
    learn_prior: bool = True,
    objective: Objective = "iwae",
    k: Size = 10,
    log_mean: bool = False,
    beta: NonNegative = 1.0,
) -> Method:
    """MMVAE (Shi et al. 2019): a mixture of experts, the k-sample bound from each of them.

    Args:
        posterior: "laplace" as in the paper, or "normal"; the prior is of the same family.
        learn_prior: whether the prior's scales are learned.
        objective: "iwae", "elbo", or "dreg", the papers' estimator, whose gradient is biased for a
            mixture.
        k: samples from each expert; the papers: 1, 10, 15, 30.
        log_mean: one bound over all of them (tighter) instead of the mean of the experts' bounds.
    """
    prior = learned_prior(posterior, builder.latent, learn_prior)
    chosen = pooling_of("mixture", posterior, posterior, prior_expert=False)
    model = builder.with_pooling(chosen, posterior, prior)
    loss = Step(bound_loss, objective=objective, k=k, log_mean=log_mean, beta=beta)
    return Method(model, whole_model(loss))


@method
def mopoe(builder: Builder, *, beta: NonNegative = 1.0) -> Method:
    """MoPoE (Sutter et al. 2021): a mixture of the products of all subsets; one decoding,
    divergences by convexity.
    """
    return _pooled_as(builder, "mixture_of_products", Step(bound_loss, beta=beta))


@method
def hoelder(builder: Builder, *, beta: NonNegative = 1.0, moments: bool = False) -> Method:
    """Hoelder pooling with exponent 1/2 (Hoelder++, arXiv:2606.13381); `moments`: the normal of its
    moments (HELVAE, arXiv:2601.06572).

    The weights of the exact mixture depend on the experts, so that each component is decoded, with
    the log-density of the mixture.
    """
    if moments:
        return _pooled_as(builder, "hoelder_moments", Step(bound_loss, beta=beta))
    return _pooled_as(builder, "hoelder", Step(bound_loss, objective="iwae", beta=beta))


@method
def barycentre(builder: Builder, *, beta: NonNegative = 1.0) -> Method:
    """MWB-VAE (Qiu et al. 2024): a mixture of the Wasserstein barycentres of all subsets."""
    return _pooled_as(builder, "mixture_of_barycentres", Step(bound_loss, beta=beta))


def mmjsd_loss(model: Pooled, batch: Batch, progress: float, beta: float) -> Loss:
    """The likelihood's ELBO term and the Jensen-Shannon divergence of experts and prior."""
    q = model.posterior.unimodal(batch)
    value, terms = elbo(model, batch, model.posterior.pool(q, batch.present), kl=0)
    present = masks(batch.present, list(q))
    prior = model.posterior.prior_for((len(batch),))
    everyone = None if present is None else [*present, torch.ones_like(present[0])]
    dynamic = geometric([*q.values(), prior], everyone)
    gaps = [batch.where(m, divergence(e, dynamic, e.loc)) for m, e in q.items()]
    gaps.append(divergence(prior, dynamic, prior.loc))
    js = sum_of(gaps) / (present_count(batch, list(q)) + 1)
    return Loss(value + beta * js, terms | {"js": js})


@method
def mmjsd(builder: Builder, *, beta: NonNegative = 1.0) -> Method:
    """mmJSD (Sutter et al. 2020): a mixture of experts, and the Jensen-Shannon divergence of
    experts and prior.

    The dynamic prior f is their normalised geometric mean: sum_m KL(q_m||f) / (n + 1) + KL(p||f) /
    (n + 1).
    """
    return Method(builder.pooled(singletons), whole_model(Step(mmjsd_loss, beta=beta)))


def mmvm_loss(model: Pooled, batch: Batch, progress: float, alpha: float, beta: float) -> Loss:
    """Each modality's ELBO, with the divergences between the experts of a sample."""
    q = model.posterior.unimodal(batch)
    terms = [ElboTerm(e, [m], batch.present) for m, e in q.items()]
    value, logs = elbos(model, batch, terms, kl=beta * alpha)
    gaps = [
        torch.where(batch.mask([m, r]), divergence(q[m], q[r], q[m].loc), 0)
        for m, r in permutations(q, 2)
    ]
    total = sum_of(gaps) if gaps else torch.zeros_like(value)
    expert_kl = total / present_count(batch, list(q))
    return Loss(value + beta * (1 - alpha) * expert_kl, logs | {"expert_kl": expert_kl})


@method(shared_latent=False)
def mmvm(builder: Builder, *, beta: NonNegative = 1.0, alpha: Share = 0.0) -> Method:
    """MMVM (Sutter et al. 2024): each modality its own autoencoder, regularised towards the mixture
    of all experts.

    sum_m E_{q_m} log p(x_m|z) - beta sum_m [alpha KL(q_m||p) + (1 - alpha) / n sum_r KL(q_m||q_r)]:
    by convexity the last sum is an upper bound of sum_m KL(q_m||mean_r q_r). alpha = 1: independent
    autoencoders.
    """
    loss = Step(mmvm_loss, alpha=alpha, beta=beta)
    return Method(builder.pooled(singletons), whole_model(loss))


def code_vae_loss(model: Pooled, batch: Batch, progress: float, beta: float) -> Loss:
    """The weighted ELBOs of all subsets that a sample has, and the entropy of the weights."""
    posterior = model.posterior
    q, subsets = posterior.unimodal(batch), powerset(list(batch.x))
    terms = []
    for subset in subsets:
        component = posterior.component({m: q[m] for m in subset})
        terms.append(ElboTerm(component, list(q), batch.present, batch.mask(subset)))
    weights = posterior.weights(q, subsets, batch.present)
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)  # all 0: nothing is present
    value, logs = elbos(model, batch, terms, kl=beta, weights=weights.T)
    entropy = -(weights * weights.clamp_min(1e-12).log()).sum(-1)  # a weight 0 has a gradient too
    return Loss(value - entropy, logs | {"entropy": entropy})


@method
def code_vae(builder: Builder, *, rho: BelowOne = 0.4, beta: NonNegative = 1.0) -> Method:
    """CoDE-VAE (Mancisidor et al. 2025): consensus of correlated experts, every subset's ELBO with
    a learned weight.

    sum_A pi_A L(q_A; 1, beta, 0) + H(pi), over the subsets A that a sample has; pi are the
    posterior's weights too.

    Args:
        rho: correlation of the experts' errors.
    """
    model = builder.pooled(powerset, partial(correlated, rho=rho))
    names = ["+".join(sorted(subset)) for subset in powerset(builder.names)]
    model.posterior.logits = Named({n: nn.Parameter(torch.zeros(())) for n in names})
    return Method(model, whole_model(Step(code_vae_loss, beta=beta)))
