"""Baselines: independent VAEs, the conditional VAE, and MFM, which predicts labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn
from torch.distributions import Distribution
from torch.nn.functional import cross_entropy

from polymodal.analysis.gathering import gathered, is_shared
from polymodal.batch import Batch
from polymodal.checks import NonNegative, Size
from polymodal.distributions import Joint, Point, choose
from polymodal.methods.builder import Builder
from polymodal.methods.common import HIDDEN, random_subset, whole_model
from polymodal.methods.method import method
from polymodal.model import Loss, Method, MultimodalVAE, Stage, Step
from polymodal.networks import Decoder, JointEncoder, mlp
from polymodal.networks.named import Named
from polymodal.objectives import ElboTerm, elbo, elbos, mmd
from polymodal.posteriors import Posterior, SharedPrivate
from polymodal.posteriors.masks import presence


def vae_loss(model: MultimodalVAE, batch: Batch, progress: float, beta: float) -> Loss:
    """The ELBO of the model's posterior."""
    return elbo(model, batch, model.posterior(batch), kl=beta)


@method(shared_latent=False)
def vae(
    builder: Builder,
    *,
    posterior: Literal["normal", "point", "laplace"] = "normal",
    beta: NonNegative = 1.0,
) -> Method:
    """Independent VAEs (Kingma and Welling 2014), one per modality: z = [z_1, ..., z_M]. With one
    modality, the VAE.

    The latents of absent modalities are drawn from the prior: coherence at chance, the baseline of
    every other method.

    Args:
        posterior: "normal"; or "point", a regularised autoencoder: beta |z|^2 / 2 for the
            divergence.
    """
    return Method(builder.independent(posterior), whole_model(Step(vae_loss, beta=beta)))


class Condition(Posterior):
    """h(x_S), (B, dim), as a point: reads any pattern of missing modalities.

    Args:
        encoder: encoder(batch) -> DiagNormal, of which the location is taken.
        prior: () -> what takes its place where no modality is present; None: nothing does.
    """

    def __init__(self, encoder: JointEncoder, prior: nn.Module | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.experts = Named()
        self._prior = [] if prior is None else [prior]  # its parameters are the model's

    def forward(self, batch: Batch) -> Distribution:
        point = Point(self.encoder(batch).loc)
        some = presence(batch, self.encoder.encoders).any(-1)
        if not self._prior or bool(some.all()):
            return point
        return choose(some, point, self._prior[0]().expand((len(batch),)))


class ConditionalPrior(nn.Module):
    """p(z) and the condition when nothing is given: Joint(N(0, I), Point)."""

    def __init__(self, base: nn.Module, dim: int) -> None:
        super().__init__()
        self.base, self.empty = base, nn.Parameter(torch.zeros(dim))

    def forward(self) -> Joint:
        return Joint(self.base(), Point(self.empty))


class Conditional(Posterior):
    """q(z, h | x): h of the given modalities; z ~ q(z|x_target, x_given) where the target is
    present, else the prior.
    """

    def __init__(
        self, target: str, joint: nn.Module, condition: nn.Module, prior: ConditionalPrior
    ) -> None:
        super().__init__()
        self.target, self.joint, self.condition, self.prior = target, joint, condition, prior
        self.experts = Named()

    def forward(self, batch: Batch) -> Joint:
        prior, condition = (part.expand((len(batch),)) for part in self.prior().parts)
        if others := [m for m in batch.x if m != self.target]:
            some = presence(batch, others).any(-1)
            condition = choose(some, self.condition(batch.only(others)), condition)
        if self.target not in batch.x:
            return Joint(prior, condition)
        q = self.joint(batch)
        if self.target in batch.present:
            q = choose(batch.present[self.target], q, prior)
        return Joint(q, condition)


def cvae_loss(
    model: MultimodalVAE, batch: Batch, progress: float, target: str, beta: float
) -> Loss:
    """The ELBO of the target; 0 for samples without it."""
    q = model.posterior(batch)
    if target not in batch.x:
        zero = q.rsample().sum(-1) * 0
        return Loss(zero, {"kl": zero})
    value, terms = elbo(model, batch.only([target]), q, kl=beta)
    return Loss(batch.where(target, value), terms)


@method(hidden=HIDDEN, min_modalities=2, shared_latent=False)
def cvae(builder: Builder, *, target: str | None = None, beta: NonNegative = 1.0) -> Method:
    """Conditional VAE (Sohn et al. 2015): p(x_target | z, x_given), the others given in any
    pattern; z ~ N(0, I).

    Args:
        target: the only modality that is generated; None: the last.
    """
    names = builder.names
    wanted = names[-1] if target is None else target
    if wanted not in names:
        raise ValueError(f"target must be one of {names}, got {wanted!r}.")
    prior, m = ConditionalPrior(builder.prior(), builder.latent), builder.modality(wanted)
    joint = builder.joint()
    condition = Condition(builder.joint([name for name in names if name != wanted]))
    posterior = Conditional(wanted, joint, condition, prior)
    decoders = {wanted: Decoder(m, 2 * builder.latent, builder.networks[wanted])}
    model = MultimodalVAE(prior, decoders, posterior, builder.modalities)
    return Method(model, whole_model(Step(cvae_loss, target=wanted, beta=beta)))


def mfm_loss(
    model: MultimodalVAE[SharedPrivate],
    batch: Batch,
    progress: float,
    discriminate: float,
    discrepancy: float,
) -> Loss:
    """The likelihoods, the labels' cross entropy and the discrepancy from the prior, given all of a
    sample and a random subset of it.
    """
    if batch.label is None:
        raise ValueError(
            "MFM predicts labels and the data have none; take data with labels or another method."
        )
    posterior: Any = model.posterior
    names, subset = list(batch.x), random_subset(batch, list(batch.x), smallest=1)
    shared = [posterior.shared(batch), posterior.shared(replace(batch, present=subset))]
    private = posterior.private_latents(batch)
    terms = [ElboTerm(Joint(u, *private), names, batch.present) for u in shared]
    value, logs = elbos(model, batch, terms, kl=0.0)
    wrong = [
        cross_entropy(posterior.classify(u.loc), batch.label, reduction="none") for u in shared
    ]
    z, prior = terms[0].q.rsample(), model.prior().sample((len(batch),))
    if is_shared():
        z, prior = gathered(z), gathered(prior)
    distance = mmd(z, prior).expand(len(batch))
    value = value / 2 + discriminate * (wrong[0] + wrong[1]) / 2 + discrepancy * distance
    return Loss(value, logs | {"cross_entropy": wrong[0], "mmd": distance.detach()})


def check_labels(model: MultimodalVAE, batch: Batch, classes: int) -> Batch:
    """The batch itself. Raises ValueError for more than `classes` different labels."""
    if batch.label is not None and int(batch.label.max()) >= classes:
        raise ValueError(
            f"MFM predicts {classes} classes and the data have more; set method.classes to at least"
            f" {int(batch.label.max()) + 1}."
        )
    return batch


@method(hidden=HIDDEN)
def mfm(
    builder: Builder,
    *,
    private: Size = 8,
    classes: Size = 10,
    discriminate: NonNegative = 1.0,
    discrepancy: NonNegative = 100.0,
) -> Method:
    """MFM (Tsai et al. 2019): a shared factor that also predicts the label, and private factors,
    all deterministic.

    -log p(X|u, w) + discriminate CE(label; u) + discrepancy MMD(z, p(z)). The shared factor's
    encoder reads any pattern of missing modalities and learns each sample's whole and a random
    subset of it: the paper's surrogate inference.

    Args:
        private: dimensions of each w_m.
        classes: number of labels, at least 2.
        discriminate, discrepancy: weights; MMD is a number of the batch.
    """
    if classes < 2:
        raise ValueError(f"classes must be a whole number of at least 2, got {classes}.")

    def shared(prior: nn.Module) -> Condition:
        return Condition(builder.joint(), prior)

    model = builder.with_private(shared, private, "point")
    model.posterior.classify = mlp([builder.latent, builder.hidden, classes])
    loss = Step(mfm_loss, discriminate=discriminate, discrepancy=discrepancy)
    return Method(model, [Stage("all", loss, [""], Step(check_labels, classes=classes))])
