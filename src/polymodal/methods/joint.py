"""Methods with a joint encoder and one surrogate posterior per modality: JMVAE, TELBO, M2VAE.

The stage "joint" (joint encoder, decoders) is the same in all methods with two stages, so that it
can be trained once for all of them. All of them train on incomplete data. Equations and appendices
without another source are those of Senellart et al. 2023 (hal-04207134).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.checks import NonNegative, Share
from polymodal.distributions import DiagNormal, product
from polymodal.methods.builder import Builder
from polymodal.methods.common import HIDDEN, warmed_up
from polymodal.methods.method import method
from polymodal.methods.settings import EmbeddingSettings, FlowSettings
from polymodal.model import Loss, Method, MultimodalVAE, Stage, Step
from polymodal.networks.named import key_of
from polymodal.objectives import elbo
from polymodal.posteriors import JointWithSurrogates, remember_patterns
from polymodal.posteriors.patterns import JointEncoderPosterior

Surrogates = MultimodalVAE[JointWithSurrogates]
JOINT_PARTS = ("prior", "posterior.joint", "decoders")


def joint_elbo(
    model: MultimodalVAE[JointEncoderPosterior],
    batch: Batch,
    progress: float,
    consensus: float = 0.0,
    warmup: float = 0.0,
) -> Loss:
    """L(q(z|X); 1, 1, consensus): the ELBO of the joint encoder, with the consensus of the
    surrogates, eq. (5); both KL terms are warmed up.
    """
    factor = warmed_up(progress, warmup)
    q = model.posterior.joint(batch)
    return elbo(model, batch, q, kl=factor, consensus=factor * consensus)


def joint_stage(builder: Builder) -> Stage:
    """The joint ELBO: the first stage of all methods with two stages."""
    return Stage(
        "joint",
        Step(joint_elbo),
        JOINT_PARTS,
        finish=Step(remember_patterns),
        built_from=builder.values(),
    )


def keep_joint(model: Surrogates, batch: Batch, embed: bool = False) -> Batch:
    """Keeps the location and scale of the frozen joint posterior; `embed`: x_m becomes g_m(x_m)."""
    q = model.posterior.joint(batch)
    x: Mapping[str, Tensor] = batch.x
    if embed:
        x = {m: model.posterior.embed(m, batch.inputs(m)) for m in batch.x}
    kept, told = {"loc": q.loc, "scale": q.scale}, {} if embed else batch.covariates
    return Batch(x, batch.present, batch.label, kept, covariates=told)


def kept_joint(batch: Batch) -> DiagNormal:
    """The joint posterior that `keep_joint` kept."""
    return DiagNormal(batch.kept["loc"], batch.kept["scale"])


def surrogate_kl(model: Surrogates, batch: Batch, progress: float) -> Loss:
    """L(0, 0, 1) on a batch that `keep_joint` made: sum_m KL(q(z|X) || q_m), eqs. (4) and (9)."""
    surrogates: Any = model.posterior.experts
    experts = {m: surrogates[m].given(batch.inputs(m)) for m in batch.x}
    return elbo(model, batch, kept_joint(batch), likelihood=0, kl=0, consensus=1, experts=experts)


def surrogate_stage(builder: Builder, embed: bool = False, **settings: Any) -> Stage:
    """L(0, 0, 1) with the other parts frozen; their outputs, also g_m(x_m), are computed once.
    `settings`: from which the surrogates are built.
    """
    parts = [(key_of(m), part) for m in builder.names for part in ("net", "head")]
    return Stage(
        "surrogates",
        Step(surrogate_kl),
        [f"posterior.experts.{m}.{part}" for m, part in parts],
        Step(keep_joint, embed=embed),
        built_from=builder.values() | settings,
    )


def flow_stage(
    builder: Builder, flow: FlowSettings, embedding: EmbeddingSettings | None = None
) -> Stage:
    """The stage of surrogates with flows, which are multiplied over the prior."""
    stage = surrogate_stage(builder, embedding is not None, flow=flow, embedding=embedding)
    return replace(stage, finish=Step(product_figures, tail_variance=flow.tail_variance))


def product_figures(
    model: Surrogates, train: Iterable[Batch], val: Iterable[Batch], tail_variance: float | None
) -> dict[str, Any]:
    """A stage's `finish`, on batches that `keep_joint` made: what decides whether eq. (12), the
    product of n surrogates over p(z)^(n-1), has a finite integral.

    A surrogate that says nothing of a direction has the variance v of the joint posteriors' draws
    in it. The product then has the precision n / v - (n - 1), negative for v > n / (n - 1).

    Args:
        tail_variance: the bound on the surrogates' tails.

    Returns: `largest_variance`, the largest eigenvalue of Cov(z) = Cov(loc) + E[scale^2];
    `most_experts`, the largest n that is drawn from a product (0: none is): all modalities, or all
    but one where the joint encoder answers for all; `tail_variance`.
    """
    moments = [(kept_joint(batch).loc, kept_joint(batch).scale) for batch in train]
    loc, scale = (torch.cat(parts).double() for parts in zip(*moments, strict=True))
    centred = loc - loc.mean(0)
    covariance = centred.T @ centred / len(loc) + scale.square().mean(0).diag()
    posterior = model.posterior
    n = len(posterior.experts) - int(posterior.trained_patterns.all(-1).any())
    n = n if posterior.over_prior else 0
    return {
        "largest_variance": float(torch.linalg.eigvalsh(covariance)[-1]),
        "most_experts": n if n > 1 else 0,
        "tail_variance": tail_variance,
    }


def unimodal_elbos(
    model: Surrogates, batch: Batch, progress: float, consensus: float = 0.0
) -> Loss:
    """sum_m L(q_m, {m}; 1, 1, 0); with `consensus` c also -c sum_m KL(q(z|X) || q_m)."""
    value: Tensor = torch.zeros((), device=batch.device)
    terms: dict[str, Tensor] = {}
    experts = model.posterior.unimodal(batch)
    for m, q in experts.items():
        loss = elbo(model, batch.only([m]), q)
        value = value + batch.where(m, loss.value)
        terms[f"log_p_{m}"] = loss.terms[f"log_p_{m}"]
        terms[f"kl_prior_{m}"] = batch.where(m, loss.terms["kl"])
    if consensus:
        joint = kept_joint(batch)
        agreement = elbo(
            model, batch, joint, likelihood=0, kl=0, consensus=consensus, experts=experts
        )
        value, terms = value + agreement.value, terms | agreement.terms
    return Loss(value, terms)


def _gaussian(builder: Builder) -> Surrogates:
    """Normal surrogates, whose product over p(z)^(n-1) has a closed form: eq. (11)."""
    prior = builder.prior()

    def combine(q: Sequence[DiagNormal], present: Sequence[Tensor] | None) -> DiagNormal:
        return product(q, present, over=prior())

    posterior = partial(JointWithSurrogates, combine=combine)
    return builder.with_surrogates(prior, builder.experts, posterior)


@method(hidden=HIDDEN)
def jmvae(builder: Builder, *, alpha: NonNegative = 0.1, warmup: Share = 0.5) -> Method:
    """JMVAE (Suzuki et al. 2016), one stage: L(q(z|X); 1, 1, alpha), eq. (5).

    Args:
        alpha: weight of the surrogates' consensus; 0.1 and 1 in the papers.
        warmup: share of the epochs over which both KL terms rise linearly from 0 (appendix E:
            half).
    """
    model = _gaussian(builder)
    loss = Step(joint_elbo, consensus=alpha, warmup=warmup)
    return Method(model, [Stage("joint", loss, [""], finish=Step(remember_patterns))])


@method(hidden=HIDDEN)
def jmvae_two_stage(builder: Builder) -> Method:
    """JMVAE in two stages (appendix E): the joint ELBO, then surrogates with the rest frozen."""
    return Method(_gaussian(builder), [joint_stage(builder), surrogate_stage(builder)])


@method(hidden=HIDDEN)
def telbo(builder: Builder) -> Method:
    """TELBO (Vedantam et al. 2018): the joint ELBO, then one ELBO for each surrogate with the
    decoders frozen.
    """
    surrogates = Stage("surrogates", Step(unimodal_elbos), ["posterior.experts"])
    return Method(_gaussian(builder), [joint_stage(builder), surrogates])


@method(hidden=HIDDEN)
def m2vae(builder: Builder, *, consensus: NonNegative = 1.0) -> Method:
    """M2VAE (Korthals et al. 2019): TELBO's ELBOs of the surrogates together with JMVAE's
    consensus.

    Args:
        consensus: weight of the consensus.
    """
    loss = Step(unimodal_elbos, consensus=consensus)
    surrogates = Stage("surrogates", loss, ["posterior.experts"], Step(keep_joint))
    return Method(_gaussian(builder), [joint_stage(builder), surrogates])
