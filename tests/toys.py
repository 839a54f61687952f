"""A small method and small data for the tests of training: batch norm, dropout, two stages, a
closed-form end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality
from polymodal.data import Dataset, Splits
from polymodal.distributions.normal import DiagNormal, product
from polymodal.model import Loss, Method, MultimodalVAE, Stage, Step
from polymodal.networks.architectures import network_of
from polymodal.networks.modules import Decoder
from polymodal.objectives import elbo
from polymodal.posteriors.joint import JointWithSurrogates
from polymodal.priors import StandardNormal

MODALITIES = (Modality("a", (3,)), Modality("b", (2,)))


class Gaussian(nn.Module):
    """A normal q(z|x) of x (B, n), or of all modalities concatenated, through batch norm and
    dropout.
    """

    def __init__(self, n: int, latent: int, plain: bool) -> None:
        super().__init__()
        between = [] if plain else [nn.BatchNorm1d(8), nn.Dropout(0.2)]
        self.net = nn.Sequential(nn.Linear(n, 8), *between, nn.Tanh(), nn.Linear(8, 2 * latent))

    def forward(self, x: Tensor | Batch) -> DiagNormal:
        values = torch.cat([x.x[m.name] for m in MODALITIES], -1) if isinstance(x, Batch) else x
        loc, scale = self.net(values).chunk(2, -1)
        return DiagNormal(loc, scale.exp())


def joint_loss(model: MultimodalVAE, batch: Batch, progress: float, weight: float = 1.0) -> Loss:
    """The joint ELBO, its KL warmed up, times `weight`."""
    loss = elbo(model, batch, model.posterior.joint(batch), kl=progress)
    return Loss(weight * loss.value, loss.terms)


def keep_joint(model: MultimodalVAE, batch: Batch) -> Batch:
    """Keeps the joint posterior of every sample."""
    q = model.posterior.joint(batch)
    return Batch(batch.x, batch.present, batch.label, {"loc": q.loc, "scale": q.scale})


def surrogate_loss(model: MultimodalVAE, batch: Batch, progress: float) -> Loss:
    """The consensus of the experts with what `keep_joint` kept."""
    q = DiagNormal(batch.kept["loc"], batch.kept["scale"])
    return elbo(model, batch, q, likelihood=0, kl=0, consensus=1)


def finish_mean(model: MultimodalVAE, train: Iterable[Batch], val: Iterable[Batch]) -> dict:
    """Sets the posterior's buffer `mean` in closed form."""
    posterior = model.posterior
    posterior.mean.copy_(torch.cat([batch.kept["loc"] for batch in train]).mean(0))
    largest = posterior.mean.abs().max()
    return {"largest": largest, "mean": posterior.mean, "held_out": sum(map(len, val))}


def toy_model(modalities: Sequence[Modality], latent: int, plain: bool) -> MultimodalVAE:
    """A joint encoder, experts of single modalities and decoders, all of them small."""
    prior = StandardNormal(latent)
    experts = {m.name: Gaussian(m.shape[0], latent, plain) for m in modalities}
    joint = Gaussian(sum(m.shape[0] for m in modalities), latent, plain)
    decoders = {m.name: Decoder(m, latent, network_of(m, "mlp-small")) for m in modalities}
    posterior = JointWithSurrogates(
        joint, experts, lambda q, present: product(q, present, over=prior())
    )
    posterior.register_buffer("mean", torch.zeros(latent))
    return MultimodalVAE(prior, decoders, posterior, modalities)


def toy(
    modalities: Sequence[Modality] = MODALITIES,
    *,
    latent: int = 2,
    networks: Mapping[str, str] | None = None,
    plain: bool = False,
    weight: float = 1.0,
) -> Method:
    """Two stages: joint ELBO, its KL warmed up; surrogates on what the joint encoder said, then a
    mean at the end.
    """
    model = toy_model(modalities, latent, plain)
    surrogates = Stage(
        "surrogates",
        Step(surrogate_loss),
        ["posterior.experts"],
        Step(keep_joint),
        Step(finish_mean),
    )
    joint = Stage("joint", Step(joint_loss, weight=weight), ["posterior.joint", "decoders"])
    return Method(model, [joint, surrogates])


def toy_data(n: int = 96, held_out: int = 32, seed: int = 0) -> Splits:
    """Two noisy linear views of one Gaussian."""
    g = torch.Generator().manual_seed(seed)
    mix = {m.name: torch.randn(2, *m.shape, generator=g) for m in MODALITIES}

    def part(size: int) -> Dataset:
        z = torch.randn(size, 2, generator=g)
        tables = {
            m: z @ w + 0.1 * torch.randn(size, w.shape[1], generator=g) for m, w in mix.items()
        }
        return Dataset(MODALITIES, tables)

    return Splits(part(n), part(held_out), part(held_out), "toy")


def equal(one: nn.Module, other: nn.Module) -> bool:
    """The same weights, bit for bit."""
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())
