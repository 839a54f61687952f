"""The degenerate cases and a discriminative one: independent VAEs, the conditional VAE, and MFM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from polymodal.batch import Batch, Modality
from polymodal.distributions.mixture import Joint, choose
from polymodal.distributions.normal import Point
from polymodal.methods.builder import Parts
from polymodal.methods.products import random_subset
from polymodal.model import Method, MultimodalVAE, Stage
from polymodal.networks.layers import mlp
from polymodal.networks.modules import Decoder
from polymodal.objectives import Loss, Part, elbo, elbos, mmd

Networks = Mapping[str, str] | None


def vae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    posterior: str = "normal",
    beta: float = 1.0,
) -> Method:
    """Independent VAEs (Kingma and Welling 2014), one per modality: z = [z_1, ..., z_M]. With one
    modality, the VAE.

    What is not given is drawn from the prior: coherence at chance, the baseline of every other
        method.

    Args:
        posterior: "normal"; or "point", a regularised autoencoder: beta |z|^2 / 2 for the
            divergence.
    """
    parts = Parts(modalities, latent, networks)
    model = parts.apart(posterior)
    loss = lambda batch, progress: elbo(model, batch, model.posterior(batch), kl=beta)
    return Method(model, [Stage("all", loss, [model])])


class Condition(nn.Module):
    """h(x_given), what a CVAE's decoder reads besides z: (B, dim). Reads any pattern of missing
    modalities.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, batch: Batch) -> Point:
        return Point(self.encoder(batch).loc)


class ConditionalPrior(nn.Module):
    """p(z) and the condition when nothing is given: Joint(N(0, I), Point)."""

    def __init__(self, base: nn.Module, dim: int) -> None:
        super().__init__()
        self.base, self.empty = base, nn.Parameter(torch.zeros(dim))

    def forward(self) -> Joint:
        return Joint(self.base(), Point(self.empty))


class Conditional(nn.Module):
    """q(z, h | x): h of what is given; z ~ q(z|x_target, x_given) where the target is seen, else
    the prior.
    """

    def __init__(
        self, target: str, joint: nn.Module, condition: nn.Module, prior: ConditionalPrior
    ) -> None:
        super().__init__()
        self.target, self.joint, self.condition, self.prior = target, joint, condition, prior
        self.experts = nn.ModuleDict()

    def forward(self, batch: Batch) -> Joint:
        p, h = (part.expand((len(batch),)) for part in self.prior().parts)
        if others := [m for m in batch.x if m != self.target]:
            given = batch.only(others)
            seen = torch.stack([given.mask([m]) for m in others]).any(0)
            h = choose(seen, self.condition(given), h)
        if self.target not in batch.x:
            return Joint(p, h)
        q = self.joint(batch)
        return Joint(
            choose(batch.present[self.target], q, p) if self.target in batch.present else q, h
        )


def cvae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
    target: str | None = None,
    beta: float = 1.0,
) -> Method:
    """Conditional VAE (Sohn et al. 2015): p(x_target | z, x_given), the others given in any
    pattern; z ~ N(0, I).

    Args:
        target: the one modality that is generated; None: the last.
    """
    parts = Parts(modalities, latent, networks, hidden)
    names = [m.name for m in parts.modalities]
    wanted = names[-1] if target is None else target
    if wanted not in names or len(names) < 2:
        raise ValueError(
            f"A CVAE generates one of several modalities given others; of {names} it cannot"
            f" {wanted!r}."
        )
    prior, one = ConditionalPrior(parts.prior(), latent), parts.modalities[names.index(wanted)]
    posterior = Conditional(
        wanted, parts.joint(), Condition(parts.joint([m for m in names if m != wanted])), prior
    )
    decoders = {wanted: Decoder(one, 2 * latent, parts.networks[wanted])}
    model = MultimodalVAE(prior, decoders, posterior, parts.modalities)

    def loss(batch: Batch, progress: float) -> Loss:
        value, terms = elbo(model, batch.only([wanted]), model.posterior(batch), kl=beta)
        return Loss(torch.where(batch.mask([wanted]), value, 0), terms)

    return Method(model, [Stage("all", loss, [model])])


def mfm(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    hidden: int = 512,
    private: int = 8,
    classes: int = 10,
    discriminate: float = 1.0,
    discrepancy: float = 100.0,
) -> Method:
    """MFM (Tsai et al. 2019): a shared factor that also predicts the label, and private factors,
    all deterministic.

    -log p(X|u, w) + discriminate CE(label; u) + discrepancy MMD(z, p(z)). The shared factor's
    encoder reads any pattern of missing modalities and learns each sample's whole and a random
    subset of it: the paper's surrogate inference.

    Args:
        private: dimensions of each w_m; classes: number of labels.
        discriminate, discrepancy: weights; MMD is a number of the batch.
    """
    parts = Parts(modalities, latent, networks, hidden)
    model = parts.with_private(lambda prior: Condition(parts.joint()), private, "point")
    model.posterior.classify = mlp([latent, hidden, classes])
    loss = lambda batch, progress: _mfm_loss(model, batch, discriminate, discrepancy)
    return Method(model, [Stage("all", loss, [model])])


def _mfm_loss(model: MultimodalVAE, batch: Batch, discriminate: float, discrepancy: float) -> Loss:
    if batch.label is None:
        raise ValueError(
            "MFM predicts labels and the data have none; take data with labels or another method."
        )
    posterior, keep = model.posterior, random_subset(batch, list(batch.x), least=1)
    shared = [posterior.shared(batch), posterior.shared(Batch(batch.x, keep))]
    own = posterior.own(batch)
    each = [Part(Joint(u, *own), list(batch.x), batch.present) for u in shared]
    value, terms = elbos(model, batch, each, kl=0.0)
    wrong = [
        cross_entropy(posterior.classify(u.loc), batch.label, reduction="none") for u in shared
    ]
    far = mmd(each[0].q.rsample(), model.prior().sample((len(batch),))).expand(len(batch))
    value = value / 2 + discriminate * (wrong[0] + wrong[1]) / 2 + discrepancy * far
    return Loss(value, terms | {"cross_entropy": wrong[0], "mmd": far.detach()})
