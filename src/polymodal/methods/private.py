"""Methods with a shared latent and one private latent per modality: z = [u, w_1, ..., w_M]; decoder
m reads [u, w_m].

Private latents of absent modalities have their priors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn

from polymodal.analysis.dcca import contrastive
from polymodal.batch import Batch
from polymodal.checks import NonNegative, Size, SizeOrZero
from polymodal.distributions import Joint
from polymodal.methods.builder import Builder
from polymodal.methods.common import bound_loss, whole_model
from polymodal.methods.method import method
from polymodal.model import Loss, Method, MultimodalVAE, Step
from polymodal.objectives import ElboTerm, elbo, elbos
from polymodal.posteriors import PooledExperts, SharedPrivate
from polymodal.posteriors.pooling import singletons, whole


@method
def mmvae_plus(
    builder: Builder,
    *,
    private: Size = 8,
    posterior: Literal["laplace", "normal"] = "laplace",
    objective: Literal["iwae", "dreg"] = "iwae",
    k: Size = 1,
    log_mean: bool = False,
    beta: NonNegative = 1.0,
) -> Method:
    """MMVAE+ (Palumbo et al. 2023): MMVAE on a shared latent, with private ones.

    Modality m reconstructs itself with w_m ~ q(w_m|x_m), and the others with w_n ~ r_n(w_n),
    learned priors that are used in training only: generation draws absent private latents from
    p(w_n).

    Args:
        private: dimensions of each w_m.
        posterior: "laplace" as in the paper, or "normal"; the priors are of the same family.
        objective, k, log_mean, beta: see `polymodal.objectives.variational_bound`; not "elbo",
            since foreign private latents are drawn in the k-sample bound.
    """

    def shared(prior: nn.Module) -> PooledExperts:
        return PooledExperts(builder.experts(posterior), singletons, prior)

    model = builder.with_private(shared, private, posterior, auxiliary=True)
    loss = Step(bound_loss, objective=objective, k=k, log_mean=log_mean, beta=beta)
    return Method(model, whole_model(loss))


def dmvae_loss(
    model: MultimodalVAE[SharedPrivate],
    batch: Batch,
    progress: float,
    beta: float,
    contrast: float,
) -> Loss:
    """The ELBOs of [u, w] with u given all modalities, and given each of them."""
    posterior = model.posterior
    q, private = posterior.shared.unimodal(batch), posterior.private_latents(batch)
    names = list(q)
    whole_latent = Joint(posterior.shared.pool(q, batch.present), *private)
    terms = [ElboTerm(whole_latent, names, batch.present)]
    for m, u in posterior.shared.single(q).items():
        terms.append(ElboTerm(Joint(u, *private), names, batch.present, batch.mask([m])))
    loss = elbos(model, batch, terms, kl=beta)
    if not contrast or len(q) < 2:
        return loss
    agreement = contrastive({m: e.loc for m, e in q.items()}, batch.present)
    return Loss(loss.value + contrast * agreement, loss.terms | {"info_nce": agreement})


def _dmvae(builder: Builder, private: int, beta: float, contrast: float) -> Method:
    def shared(prior: nn.Module) -> PooledExperts:
        return PooledExperts(builder.experts(), whole, prior, prior_expert=True)

    model = builder.with_private(shared, private)
    return Method(model, whole_model(Step(dmvae_loss, beta=beta, contrast=contrast)))


@method
def dmvae(
    builder: Builder,
    *,
    private: Size = 4,
    beta: NonNegative = 1.0,
    contrast: NonNegative = 0.0,
) -> Method:
    """DMVAE (Lee and Pavlovic 2021): a shared latent from a product of experts with the prior, and
    private ones.

    The sum of the ELBOs of [u, w] with u ~ q(u|X) and with u ~ q(u|x_m) for each m, all decoding
    all modalities, each with its own private latent: joint, own and cross reconstruction.

    Args:
        private: dimensions of each w_m.
        contrast: weight of a contrastive term that distinguishes the experts' shared locations of
            one sample from those of other samples.
    """
    return _dmvae(builder, private, beta, contrast)


@method
def partitioned(
    builder: Builder,
    *,
    private: Size = 4,
    beta: NonNegative = 1.0,
    contrast: NonNegative = 1.0,
) -> Method:
    """Shared and private factors with a contrastive shared factor (Hsu and Glass 2018; Daunhawer et
    al. 2021).

    `dmvae` with its contrastive term: the shared latents of one sample's modalities must be closer
    to each other than to those of other samples, which keeps private information out of them.
    """
    return _dmvae(builder, private, beta, contrast)


def vcca_loss(model: MultimodalVAE, batch: Batch, progress: float, lead: str, beta: float) -> Loss:
    """The ELBO of samples that have the lead; 0 for the others."""
    value, terms = elbo(model, batch, model.posterior(batch), kl=beta)
    return Loss(torch.where(batch.mask([lead]), value, 0), terms)


@method
def vcca(
    builder: Builder,
    *,
    lead: str | None = None,
    private: SizeOrZero = 0,
    beta: NonNegative = 1.0,
) -> Method:
    """VCCA, and with `private` VCCA-private (Wang et al. 2016): only q(u|x_lead) encodes, all
    modalities are decoded.

    Given other modalities only, u has its prior: the model has no other encoder of u. Samples
    without the lead train nothing.

    Args:
        lead: the modality that is encoded; None: the first.
        private: dimensions of each modality's private latent h_m ~ q(h_m|x_m); 0: none.
    """
    first = builder.names[0] if lead is None else lead
    if first not in builder.names:
        raise ValueError(f"The lead of VCCA must be one of {builder.names}, got {lead!r}.")

    def shared(prior: nn.Module) -> PooledExperts:
        return PooledExperts({first: builder.experts()[first]}, whole, prior)

    model = builder.with_private(shared, private) if private else _shared_only(builder, shared)
    return Method(model, whole_model(Step(vcca_loss, lead=first, beta=beta)))


def _shared_only(builder: Builder, shared: Callable[[nn.Module], PooledExperts]) -> MultimodalVAE:
    prior, decoders = builder.prior(), builder.decoders()
    return MultimodalVAE(prior, decoders, shared(prior), builder.modalities)
