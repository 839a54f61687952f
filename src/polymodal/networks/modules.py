"""Experts, joint encoders and decoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch, Modality
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.distributions.normal import DiagNormal
from polymodal.networks.architectures import Network
from polymodal.networks.heads import normal_head
from polymodal.networks.layers import mlp


class Expert(nn.Module):
    """q(z | x): `head(net(x))`, where a head maps features to a distribution. `embed`, if any,
    reads x before `net`.
    """

    def __init__(self, net: nn.Module, head: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.head, self.embed = net, head, embed

    def given(self, features: Tensor) -> Distribution:
        """q(z | g(x)) for an embedding g(x) that is there already (x itself where there is no
        `embed`).
        """
        return self.head(self.net(features))

    def forward(self, x: Tensor) -> Distribution:
        return self.given(x if self.embed is None else self.embed(x))


class JointEncoder(nn.Module):
    """q(z | x_1, ..., x_M): one encoder per modality, concatenated, one hidden layer (MLP_j of
    Table 4), a normal head.

    A missing modality's features are replaced by a learned stand-in, and a flag says which are
    there, so that the same encoder reads any pattern of missing modalities.

    Args:
        encoders: encoders[m](x_m) -> (B, features).
        features: size of each encoder's output.
        hidden: width of the hidden layer; 0: none, the features are added up linearly.
        dim: D.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], features: int, hidden: int, dim: int
    ) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.zeros(features)) for m in encoders})
        self.mix = mlp([len(encoders) * (features + 1), hidden, 2 * dim])

    def forward(self, batch: Batch) -> DiagNormal:
        size = len(batch)
        parts = []
        for m, encoder in self.encoders.items():
            absent = self.absent[m].expand(size, -1)
            flag = absent.new_ones(size, 1)
            if m not in batch.x:
                parts += [absent, 0 * flag]
            elif m not in batch.present:
                parts += [encoder(batch.x[m]), flag]
            else:
                here = batch.present[m].unsqueeze(-1)
                parts += [torch.where(here, encoder(batch.x[m]), absent), flag * here]
        return normal_head(self.mix(torch.cat(parts, dim=-1)))


class Decoder(nn.Module):
    """p(x_m | z): a network, then the modality's likelihood. z (..., B, D) -> distribution of
    batch_shape (..., B).

    Args:
        modality: x_m.
        dim: how many columns of z it reads.
        network: its network.
        columns: which; None: all.
    """

    columns: Tensor | None

    def __init__(
        self, modality: Modality, dim: int, network: Network, columns: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.register_buffer(
            "columns", None if columns is None else torch.tensor(columns), persistent=False
        )
        self.modality, self.likelihood = modality, likelihood_of(modality)
        params = self.likelihood.params
        self.raw = modality.shape if params == 1 else (params, *modality.shape)
        if params > 1 and len(modality.shape) > 1:
            raise ValueError(
                f"The likelihood {modality.likelihood!r} of {modality.name!r} reads vectors, not"
                " images."
            )
        self.net = network.decoder(dim, self.raw)

    def forward(self, z: Tensor) -> Distribution:
        z = z if self.columns is None else z[..., self.columns]
        raw = self.net(z.reshape(-1, z.shape[-1])).to(
            z.dtype
        )  # densities in full precision whatever autocast did
        return self.likelihood.make(
            raw.reshape(*z.shape[:-1], *self.raw) if z.dim() != 2 else raw, self.modality
        )
