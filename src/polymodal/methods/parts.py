"""`Parts`: the slots that methods fill, built from modalities, a latent size and network names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality
from polymodal.distributions import DiagNormal
from polymodal.flows import Flow
from polymodal.model import MultimodalVAE
from polymodal.networks import Decoder, Expert, JointEncoder, Network, NormalHead, mlp, network_of
from polymodal.objectives import Loss, bound
from polymodal.posteriors import Combine, JointWithSurrogates
from polymodal.priors import StandardNormal


class RandomShift(nn.Module):
    """In training, each image moved by up to `pixels` in both directions, its border repeated; else the identity."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.pixels or x.dim() != 4:
            return x
        size, (height, width) = len(x), x.shape[-2:]
        move = torch.randint(-self.pixels, self.pixels + 1, (2, size, 1), device=x.device)
        rows = (torch.arange(height, device=x.device) + move[0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=x.device) + move[1]).clamp(0, width - 1)
        each = torch.arange(size, device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class Parts:
    """Prior, encoders, decoders and experts for these modalities, with a latent of `latent` dimensions.

    Args:
        modalities: at least one, with distinct names.
        latent: D.
        networks: a name of `polymodal.networks.NETWORKS` for some modalities; the others' are chosen by shape.
        hidden: width of the joint encoder's hidden layer (Table 4: 512).

    Raises ValueError for no or doubled modalities, a latent below 1, or networks for unknown modalities.
    """

    def __init__(
        self, modalities: Sequence[Modality], latent: int, networks: Mapping[str, str] | None = None, hidden: int = 512
    ) -> None:
        self.modalities, self.latent, self.hidden = tuple(modalities), latent, hidden
        names = [m.name for m in self.modalities]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"A method needs at least one modality and distinct names, got {names}.")
        if latent < 1:
            raise ValueError(f"The latent needs at least one dimension, got latent={latent}.")
        for m in networks or {}:
            if m not in names:
                near = "".join(f" Did you mean {n!r}?" for n in get_close_matches(m, names, 1))
                raise ValueError(f"networks names the modality {m!r}, which the data does not have: {names}.{near}")
        self.networks: dict[str, Network] = {
            m.name: network_of(m, (networks or {}).get(m.name)) for m in self.modalities
        }

    def prior(self) -> StandardNormal:
        return StandardNormal(self.latent)

    def encoder(self, m: Modality, out: int) -> nn.Module:
        return self.networks[m.name].encoder(m.shape, out)

    def decoders(self) -> dict[str, nn.Module]:
        return {m.name: Decoder(m, self.latent, self.networks[m.name]) for m in self.modalities}

    def joint(self) -> JointEncoder:
        encoders = {m.name: self.encoder(m, self.latent) for m in self.modalities}
        return JointEncoder(encoders, self.latent, self.hidden, self.latent)

    def experts(self) -> dict[str, nn.Module]:
        """Normal experts q(z|x_m), the last layer doubled to location and log-variance."""
        return {m.name: Expert(self.encoder(m, 2 * self.latent), NormalHead()) for m in self.modalities}

    def flow_experts(
        self, embeddings: Mapping[str, nn.Module] | None = None, size: int = 0, **flow
    ) -> dict[str, nn.Module]:
        """Experts with flows on x_m, or on embeddings[m](x_m) of `size` through an MLP (Table 4)."""
        out = 2 * self.latent
        if embeddings is None:
            return {m.name: Expert(self.encoder(m, out), Flow(self.latent, out, **flow)) for m in self.modalities}
        net = lambda: mlp([size, self.hidden, self.hidden, self.hidden, out])
        return {m: Expert(net(), Flow(self.latent, out, **flow), embed) for m, embed in embeddings.items()}

    def model(
        self, prior: nn.Module, experts: Callable[[], Mapping[str, nn.Module]], combine: Combine
    ) -> MultimodalVAE:
        """Joint encoder, decoders and surrogates, made in this order: one seed gives one first stage to all."""
        joint, decoders = self.joint(), self.decoders()
        return MultimodalVAE(prior, decoders, JointWithSurrogates(joint, experts(), combine), self.modalities)


def joint_bound(model: MultimodalVAE, batch: Batch, kl: float = 1.0, consensus: float = 0.0) -> Loss:
    """L(q(z|X); 1, kl, consensus): the joint encoder's ELBO, with the surrogates' consensus where asked."""
    return bound(model, batch, model.posterior.joint(batch), kl=kl, consensus=consensus)


def keep_joint(model: MultimodalVAE, batch: Batch, embeddings: Mapping[str, nn.Module] | None = None) -> Batch:
    """What frozen parts say of a batch: the joint posterior's location and scale; embeddings in place of x, if any."""
    q = model.posterior.joint(batch)
    x = batch.x if embeddings is None else {m: embeddings[m](x) for m, x in batch.x.items()}
    return Batch(x, batch.present, batch.label, {"loc": q.loc, "scale": q.scale})


def surrogate_bound(model: MultimodalVAE, batch: Batch) -> Loss:
    """L(0, 0, 1) on a batch that `keep_joint` made: sum_m KL(q(z|X) || q_m), eqs. (4) and (9)."""
    experts = {m: model.posterior.experts[m].given(x) for m, x in batch.x.items()}
    q = DiagNormal(batch.kept["loc"], batch.kept["scale"])
    return bound(model, batch, q, likelihood=0, kl=0, consensus=1, experts=experts)
