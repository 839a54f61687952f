"""Methods whose posterior mixes experts, or products of experts: MMVAE, MoPoE, mmJSD, MMVM,
CoDE-VAE and others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from polymodal.batch import Batch, Modality
from polymodal.distributions.divergence import divergence
from polymodal.distributions.sums import sum_of
from polymodal.methods.builder import Parts, rise
from polymodal.methods.options import check_share
from polymodal.methods.products import Networks, present_count
from polymodal.model import Method, Stage
from polymodal.objectives import Loss, Part, elbo, elbos, variational_bound
from polymodal.posteriors.masks import masks
from polymodal.posteriors.pooling import correlated, geometric, powerset


def pooled(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    pooling: str = "mixture_of_products",
    posterior: str = "normal",
    prior: str = "normal",
    prior_expert: bool = False,
    learn_prior: bool = False,
    objective: str = "elbo",
    k: int = 1,
    inside: bool = False,
    beta: float = 1.0,
    warmup: float = 0.0,
) -> Method:
    """Any pooling with any posterior family, prior and objective; a combination without meaning
    says why.

    Args:
        pooling, posterior, prior, prior_expert, learn_prior: see `Parts.mixture`.
        objective, k, inside: see `polymodal.objectives.variational_bound`; Hoelder pooling needs
            iwae or dreg.
        beta: weight of the divergence from the prior; `warmup`: share of the epochs over which it
            rises from 0.
    """
    model = Parts(modalities, latent, networks).pooled(
        pooling, posterior, prior, prior_expert=prior_expert, learn_prior=learn_prior
    )
    loss = lambda batch, progress: variational_bound(
        model, batch, objective, k, beta=beta * rise(progress, warmup), inside=inside
    )
    return Method(model, [Stage("all", loss, [model])])


def mmvae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    posterior: str = "laplace",
    learn_prior: bool = True,
    objective: str = "iwae",
    k: int = 10,
    inside: bool = False,
    beta: float = 1.0,
) -> Method:
    """MMVAE (Shi et al. 2019): a mixture of experts, the k-sample bound from each of them.

    Args:
        posterior: "laplace" as in the paper, or "normal"; the prior is of the same family.
        learn_prior: whether its scales are learned.
        objective: "iwae", "elbo", or "dreg", the papers' estimator, whose gradient is biased for a
            mixture.
        k: samples from each expert; the papers: 1, 10, 15, 30.
        inside: one bound over all of them (tighter) instead of the mean of the experts' bounds.
    """
    return pooled(
        modalities,
        latent=latent,
        networks=networks,
        pooling="mixture",
        posterior=posterior,
        prior=posterior,
        learn_prior=learn_prior,
        objective=objective,
        k=k,
        inside=inside,
        beta=beta,
    )


def mopoe(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    beta: float = 1.0,
) -> Method:
    """MoPoE (Sutter et al. 2021): a mixture of the products of all subsets; one decoding,
    divergences by convexity.
    """
    return pooled(
        modalities, latent=latent, networks=networks, pooling="mixture_of_products", beta=beta
    )


def hoelder(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    beta: float = 1.0,
    moments: bool = False,
) -> Method:
    """Hoelder pooling with exponent 1/2 (Hoelder++, 2026); `moments`: the normal of its moments
    (HELVAE, 2026).

    The exact mixture has weights that depend on the experts, so that each component is decoded and
    charged the mixture.
    """
    pooling, objective = ("hoelder_moments", "elbo") if moments else ("hoelder", "iwae")
    return pooled(
        modalities,
        latent=latent,
        networks=networks,
        pooling=pooling,
        objective=objective,
        beta=beta,
    )


def barycentre(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    beta: float = 1.0,
) -> Method:
    """MWB-VAE (Qiu et al. 2024): a mixture of the Wasserstein barycentres of all subsets."""
    return pooled(
        modalities, latent=latent, networks=networks, pooling="mixture_of_barycentres", beta=beta
    )


def mmjsd(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    beta: float = 1.0,
) -> Method:
    """mmJSD (Sutter et al. 2020): a mixture of experts, and the Jensen-Shannon divergence of
    experts and prior.

    The dynamic prior f is their normalised geometric mean: sum_m KL(q_m||f) / (n + 1) + KL(p||f) /
        (n + 1).
    """
    model = Parts(modalities, latent, networks).pooled("mixture")

    def loss(batch: Batch, progress: float) -> Loss:
        q = model.posterior.unimodal(batch)
        value, terms = elbo(model, batch, model.posterior.pool(q, batch.present), kl=0)
        here = masks(batch.present, list(q))
        prior = model.posterior.prior().expand((len(batch),))
        dynamic = geometric(
            [*q.values(), prior], None if here is None else [*here, torch.ones_like(here[0])]
        )
        apart = [
            torch.where(batch.mask([m]), divergence(e, dynamic, e.loc), 0) for m, e in q.items()
        ]
        js = sum_of([*apart, divergence(prior, dynamic, prior.loc)]) / (
            present_count(batch, list(q)) + 1
        )
        return Loss(value + beta * js, terms | {"js": js})

    return Method(model, [Stage("all", loss, [model])])


def mmvm(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    beta: float = 1.0,
    alpha: float = 0.0,
) -> Method:
    """MMVM (Sutter et al. 2024): each modality its own autoencoder, regularised towards the mixture
    of all experts.

    sum_m E_{q_m} log p(x_m|z) - beta sum_m [alpha KL(q_m||p) + (1 - alpha) / n sum_r KL(q_m||q_r)]:
    by convexity the last is above the divergence from the mixture. alpha = 1: independent
    autoencoders.
    """
    check_share(alpha=alpha)
    model = Parts(modalities, latent, networks).pooled("mixture")

    def loss(batch: Batch, progress: float) -> Loss:
        q = model.posterior.unimodal(batch)
        value, terms = elbos(
            model, batch, [Part(e, [m], batch.present) for m, e in q.items()], kl=beta * alpha
        )
        pairs = [
            (batch.mask([m, r]), divergence(q[m], q[r], q[m].loc)) for m in q for r in q if r != m
        ]
        apart = (
            sum_of(torch.where(here, gap, 0) for here, gap in pairs)
            if pairs
            else torch.zeros_like(value)
        )
        apart = apart / present_count(batch, list(q))
        return Loss(value + beta * (1 - alpha) * apart, terms | {"apart": apart})

    return Method(model, [Stage("all", loss, [model])])


def code_vae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    rho: float = 0.4,
    beta: float = 1.0,
) -> Method:
    """CoDE-VAE (Mancisidor et al. 2025): consensus of correlated experts, every subset's ELBO with
    a learned weight.

    sum_A pi_A L(q_A; 1, beta, 0) + H(pi), over the subsets A that a sample has; pi is the
    posterior's weights too.

    Args:
        rho: correlation of the experts' errors.
    """
    parts = Parts(modalities, latent, networks)
    model = parts.pooled("mixture_of_correlated")
    posterior, names = model.posterior, [m.name for m in modalities]
    posterior.rule = partial(correlated, rho=rho)
    posterior.logits = nn.ParameterDict(
        {"+".join(sorted(s)): nn.Parameter(torch.zeros(())) for s in powerset(names)}
    )

    def loss(batch: Batch, progress: float) -> Loss:
        q, subsets = posterior.unimodal(batch), powerset(list(batch.x))
        one = lambda s: posterior.one({m: q[m] for m in s})
        each = [Part(one(s), list(q), batch.present, batch.mask(s)) for s in subsets]
        weights = posterior.weights(q, subsets, batch.present)
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(
            1e-12
        )  # all 0 where nothing is seen
        value, terms = elbos(model, batch, each, kl=beta, weights=weights.T)
        entropy = -(weights * weights.clamp_min(1e-12).log()).sum(
            -1
        )  # a weight 0 has a gradient too
        return Loss(value - entropy, terms | {"entropy": entropy})

    return Method(model, [Stage("all", loss, [model])])
