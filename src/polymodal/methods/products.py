"""Methods whose posterior is a product of experts: MVAE, MVTCAE, CRMVAE.

All of them train on incomplete data: an absent expert is left out of the product, an absent
modality out of the likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from annotated_types import Ge, Le

from polymodal.batch import Batch
from polymodal.checks import NonNegative, Share, Size
from polymodal.distributions import sum_of
from polymodal.methods.builder import Builder
from polymodal.methods.common import (
    Objective,
    Pooled,
    present_count,
    random_subset,
    warmed_up,
    whole_model,
)
from polymodal.methods.method import method
from polymodal.model import Loss, Method, Step
from polymodal.objectives import ElboTerm, counted, elbo, elbos, iwae
from polymodal.posteriors.pooling import whole


def _mvae_terms(model: Pooled, batch: Batch, random_subsets: int) -> list[ElboTerm]:
    """The whole, every single modality, and random subsets in between."""
    posterior, q = model.posterior, model.posterior.unimodal(batch)
    names = list(q)
    terms = [ElboTerm(posterior.pool(q, batch.present), names, batch.present)]
    if len(names) > 1:
        terms += [ElboTerm(e, [m], batch.present) for m, e in posterior.single(q).items()]
    for _ in range(random_subsets if len(names) > 2 else 0):
        subset = random_subset(batch, names)
        terms.append(ElboTerm(posterior.pool(q, subset), names, subset))
    return terms


def mvae_loss(
    model: Pooled,
    batch: Batch,
    progress: float,
    random_subsets: int,
    beta: float,
    warmup: float,
    bound: Mapping[str, Any],
) -> Loss:
    """The sum of the bounds of the whole, of every modality and of random subsets.

    Args:
        bound: objective and k.
    """
    terms, weight = _mvae_terms(model, batch, random_subsets), beta * warmed_up(progress, warmup)
    objective, k = bound["objective"], bound["k"]
    if objective == "elbo":
        return elbos(model, batch, terms, kl=weight)
    losses = []
    for term in terms:
        present = {m: v for m, v in term.present.items() if m in term.names}
        x = {m: batch.x[m] for m in term.names}
        observed = Batch(x, present, covariates=batch.covariates)
        losses.append(iwae(model, observed, term.q, k, beta=weight, estimator=objective))
    values = [counted(term, loss.value) for term, loss in zip(terms, losses, strict=True)]
    return Loss(sum_of(values), losses[0].terms)


@method
def mvae(
    builder: Builder,
    *,
    prior_expert: bool = True,
    random_subsets: Annotated[int, Ge(0), Le(1000)] = 1,
    beta: NonNegative = 1.0,
    warmup: Share = 0.0,
    objective: Objective = "elbo",
    k: Size = 1,
) -> Method:
    """MVAE (Wu and Goodman 2018): a product of experts; ELBOs of the whole, of each modality, and
    of random subsets.

    Their sum is not a bound on log p(x). Every sample draws its own random subsets.

    Args:
        prior_expert: whether p(z) is one more expert, as in the paper.
        random_subsets: how many random subsets of two and more are drawn for each sample.
        beta, warmup, objective, k: see `pooled`.
    """
    model = builder.pooled(whole, prior_expert=prior_expert)
    bound = {"objective": objective, "k": k}
    options = {"random_subsets": random_subsets, "beta": beta, "warmup": warmup}
    return Method(model, whole_model(Step(mvae_loss, bound=bound, **options)))


def mvtcae_loss(model: Pooled, batch: Batch, progress: float, alpha: float, beta: float) -> Loss:
    """L(q; (n - alpha) / n, beta (1 - alpha), beta alpha / n)."""
    q = model.posterior.unimodal(batch)
    n = present_count(batch, list(q))
    joint, experts = model.posterior.pool(q, batch.present), model.posterior.single(q)
    likelihood, consensus = (n - alpha) / n, beta * alpha / n
    return elbo(
        model,
        batch,
        joint,
        likelihood=likelihood,
        kl=beta * (1 - alpha),
        consensus=consensus,
        experts=experts,
    )


@method
def mvtcae(builder: Builder, *, alpha: Share = 5 / 6, beta: NonNegative = 2.5) -> Method:
    """MVTCAE (Hwang et al. 2021): a product of experts, L(q; (n - alpha) / n, beta (1 - alpha),
    beta alpha / n).

    Args:
        alpha: 0 is a plain ELBO, 1 the conditional bottlenecks only; n counts a sample's
            modalities.
        beta: weight of the divergences.
    """
    loss = Step(mvtcae_loss, alpha=alpha, beta=beta)
    return Method(builder.pooled(whole), whole_model(loss))


def crmvae_loss(model: Pooled, batch: Batch, progress: float, beta: float) -> Loss:
    """The ELBOs of the product and of each expert, with the consensus, over n + 1."""
    q = model.posterior.unimodal(batch)
    joint, experts = model.posterior.pool(q, batch.present), model.posterior.single(q)
    terms = [ElboTerm(joint, list(q), batch.present)]
    terms += [ElboTerm(e, [m], batch.present) for m, e in experts.items()]
    value, logs = elbos(model, batch, terms, kl=[beta] + [0.0] * len(experts))
    agreement = elbo(model, batch, joint, likelihood=0, kl=0, consensus=beta, experts=experts)
    count = present_count(batch, list(q)) + 1
    return Loss((value + agreement.value) / count, logs | agreement.terms)


@method
def crmvae(builder: Builder, *, beta: NonNegative = 1.0) -> Method:
    """CRMVAE (Suzuki and Matsuo 2023): a product of experts, coordinated with each of them, over
    M + 1.

    (E_q log p(X|z) + sum_m E_{q_m} log p(x_m|z) - beta [KL(q||p) + sum_m KL(q||q_m)]) / (M + 1).
    """
    return Method(builder.pooled(whole), whole_model(Step(crmvae_loss, beta=beta)))
