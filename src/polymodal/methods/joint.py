"""Methods with a joint encoder and one surrogate posterior per modality: JMVAE, TELBO, M2VAE, JNF,
JNF-DCCA.

Each returns `Method(model, stages)`. The stage "joint" (joint encoder, decoders) is the same in all
that have two stages, so that one trained first stage can serve them all. All of them train on
incomplete data. Equations and appendices without another source are those of Senellart et al. 2023
(hal-04207134).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality
from polymodal.distributions.normal import DiagNormal, product
from polymodal.methods.builder import Parts, joint_elbo, keep_joint, rise, surrogate_kl
from polymodal.model import Method, MultimodalVAE, Stage
from polymodal.objectives import Loss, elbo

Networks = Mapping[str, str] | None


def _gaussian(
    modalities: Sequence[Modality], latent: int, networks: Networks, hidden: int
) -> MultimodalVAE:
    """Normal surrogates, whose product over p(z)^(n-1) is closed: eq. (11)."""
    parts = Parts(modalities, latent, networks, hidden)
    prior = parts.prior()
    return parts.model(prior, parts.experts, lambda q, present: product(q, present, over=prior()))


def joint_stage(model: MultimodalVAE) -> Stage:
    return Stage(
        "joint",
        lambda batch, _: joint_elbo(model, batch),
        [model.prior, model.posterior.joint, model.decoders],
    )


def jmvae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
    alpha: float = 0.1,
    warmup: float = 0.5,
) -> Method:
    """JMVAE (Suzuki et al. 2016), one stage: L(q(z|X); 1, 1, alpha), eq. (5).

    Args:
        alpha: weight of the surrogates' consensus; 0.1 and 1 in the papers.
        warmup: share of the epochs over which both KL terms rise linearly from 0 (appendix E:
            half).
    """
    model = _gaussian(modalities, latent, networks, hidden)

    def loss(batch: Batch, progress: float) -> Loss:
        risen = rise(progress, warmup)
        return joint_elbo(model, batch, kl=risen, consensus=risen * alpha)

    return Method(model, [Stage("joint", loss, [model])])


def jmvae_two_stage(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
) -> Method:
    """JMVAE in two stages (appendix E): the joint ELBO, then the surrogates with the rest held."""
    model = _gaussian(modalities, latent, networks, hidden)
    return Method(model, [joint_stage(model), _surrogate_stage(model)])


def _surrogate_stage(
    model: MultimodalVAE, embeddings: Mapping[str, nn.Module] | None = None
) -> Stage:
    """L(0, 0, 1) with the rest held. What frozen parts say of the data, g_m(x_m) included, is
    computed once.
    """
    trains = [
        part for expert in model.posterior.experts.values() for part in (expert.net, expert.head)
    ]
    prepare = partial(keep_joint, model, embeddings=embeddings)
    return Stage("surrogates", lambda batch, _: surrogate_kl(model, batch), trains, prepare)


def _unimodal_elbos(model: MultimodalVAE, batch: Batch, consensus: float = 0.0) -> Loss:
    """sum_m L(q_m, {m}; 1, 1, 0), and with `consensus` c besides -c sum_m KL(q(z|X) || q_m)."""
    value: Tensor = torch.zeros((), device=batch.device)
    terms: dict[str, Tensor] = {}
    for m, q in model.posterior.unimodal(batch).items():
        loss = elbo(model, batch.only([m]), q)
        value = value + torch.where(batch.mask([m]), loss.value, 0)
        terms |= {f"log_p_{m}": loss.terms[f"log_p_{m}"], f"kl_prior_{m}": loss.terms["kl"]}
    if consensus:
        q = DiagNormal(batch.kept["loc"], batch.kept["scale"])
        pull = elbo(model, batch, q, likelihood=0, kl=0, consensus=consensus)
        value, terms = value + pull.value, terms | pull.terms
    return Loss(value, terms)


def telbo(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
) -> Method:
    """TELBO (Vedantam et al. 2018): the joint ELBO, then one ELBO for each surrogate with the
    decoders held.
    """
    model = _gaussian(modalities, latent, networks, hidden)
    loss = lambda batch, _: _unimodal_elbos(model, batch)
    return Method(model, [joint_stage(model), Stage("surrogates", loss, [model.posterior.experts])])


def m2vae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
    consensus: float = 1.0,
) -> Method:
    """M2VAE (Korthals et al. 2019): TELBO's surrogates' ELBOs together with JMVAE's consensus,
    weighted `consensus`.
    """
    model = _gaussian(modalities, latent, networks, hidden)
    loss = lambda batch, _: _unimodal_elbos(model, batch, consensus)
    surrogates = Stage("surrogates", loss, [model.posterior.experts], partial(keep_joint, model))
    return Method(model, [joint_stage(model), surrogates])
