"""Methods with a shared latent and one private latent per modality: z = [u, w_1, ..., w_M]; decoder
m reads [u, w_m].

Private latents of modalities that are not observed have their priors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from polymodal.analysis.dcca import contrastive
from polymodal.batch import Batch, Modality
from polymodal.distributions.mixture import Joint
from polymodal.methods.builder import Parts, check_family
from polymodal.model import Method, MultimodalVAE, Stage
from polymodal.objectives import Loss, Part, elbo, elbos, variational_bound
from polymodal.posteriors.pooled import PooledExperts
from polymodal.posteriors.pooling import singletons, whole

Networks = Mapping[str, str] | None


def mmvae_plus(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    private: int = 8,
    posterior: str = "laplace",
    objective: str = "iwae",
    k: int = 1,
    inside: bool = False,
    beta: float = 1.0,
) -> Method:
    """MMVAE+ (Palumbo et al. 2023): MMVAE on a shared latent, with private ones.

    Modality m reconstructs itself with w_m ~ q(w_m|x_m), and the others with w_n ~ r_n(w_n),
    learned priors for training alone: generation draws unseen private latents from p(w_n).

    Args:
        private: dimensions of each w_m.
        posterior: "laplace" as in the paper, or "normal"; the priors are of the same family.
        objective, k, inside, beta: see `polymodal.objectives.variational_bound`; not "elbo".
    """
    if objective == "elbo":
        raise ValueError(
            "MMVAE+ draws foreign private latents in its k-sample bound: take objective=iwae, k=1."
        )
    check_family(posterior, ("normal", "laplace"))
    parts = Parts(modalities, latent, networks)
    shared = lambda prior: PooledExperts(parts.experts(posterior), singletons, prior)
    model = parts.with_private(shared, private, posterior, auxiliary=True)
    loss = lambda batch, progress: variational_bound(
        model, batch, objective, k, beta=beta, inside=inside
    )
    return Method(model, [Stage("all", loss, [model])])


def dmvae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    private: int = 4,
    beta: float = 1.0,
    contrast: float = 0.0,
) -> Method:
    """DMVAE (Lee and Pavlovic 2021): a shared latent from a product of experts with the prior, and
    private ones.

    The sum of the ELBOs of [u, w] with u ~ q(u|X) and with u ~ q(u|x_m) for each m, all decoding
    all modalities, each with its own private latent: joint, own and cross reconstruction.

    Args:
        private: dimensions of each w_m.
        contrast: weight of a contrastive term that tells the experts' shared locations of one
            sample from others'.
    """
    parts = Parts(modalities, latent, networks)
    shared = lambda prior: PooledExperts(parts.experts(), whole, prior, prior_expert=True)
    model = parts.with_private(shared, private)

    def loss(batch: Batch, progress: float) -> Loss:
        posterior = model.posterior
        q, own = posterior.shared.unimodal(batch), posterior.own(batch)
        each = posterior.shared.own(q)
        whole_part = Part(
            Joint(posterior.shared.pool(q, batch.present), *own), list(q), batch.present
        )
        singles = [
            Part(Joint(u, *own), list(q), batch.present, batch.mask([m])) for m, u in each.items()
        ]
        made = elbos(model, batch, [whole_part, *singles], kl=beta)
        if not contrast or len(q) < 2:
            return made
        apart = contrastive({m: e.loc for m, e in q.items()}, batch.present)
        return Loss(made.value + contrast * apart, made.terms | {"info_nce": apart})

    return Method(model, [Stage("all", loss, [model])])


def partitioned(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    private: int = 4,
    beta: float = 1.0,
    contrast: float = 1.0,
) -> Method:
    """Shared and private factors with a contrastive shared factor (Hsu and Glass 2018; Daunhawer et
    al. 2021).

    `dmvae` with its contrastive term: the shared latents of one sample's modalities must be closer
    to each other than to those of other samples, which keeps private information out of them.
    """
    return dmvae(
        modalities, latent=latent, networks=networks, private=private, beta=beta, contrast=contrast
    )


def vcca(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    lead: str | None = None,
    private: int = 0,
    beta: float = 1.0,
) -> Method:
    """VCCA, and with `private` VCCA-private (Wang et al. 2016): q(u|x_lead) alone encodes, all
    modalities are decoded.

    Given other modalities only, u has its prior: the model has no other encoder of u. Samples
    without the lead train nothing.

    Args:
        lead: the modality that is encoded; None: the first.
        private: dimensions of each modality's own latent h_m ~ q(h_m|x_m); 0: none.
    """
    parts = Parts(modalities, latent, networks)
    names = [m.name for m in parts.modalities]
    first = names[0] if lead is None else lead
    if first not in names:
        raise ValueError(f"The lead of VCCA must be one of {names}, got {lead!r}.")
    shared = lambda prior: PooledExperts({first: parts.experts()[first]}, whole, prior)
    model = parts.with_private(shared, private) if private else _without_private(parts, shared)

    def loss(batch: Batch, progress: float) -> Loss:
        value, terms = elbo(model, batch, model.posterior(batch), kl=beta)
        here = (
            batch.mask([first]) if first in batch.x else torch.zeros_like(value, dtype=torch.bool)
        )
        return Loss(torch.where(here, value, 0), terms)

    return Method(model, [Stage("all", loss, [model])])


def _without_private(parts: Parts, shared) -> MultimodalVAE:
    prior: nn.Module = parts.prior()
    return MultimodalVAE(prior, parts.decoders(), shared(prior), parts.modalities)
