"""Experts, joint encoders and decoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch, Modality
from polymodal.distributions.likelihoods import entries, likelihood_of
from polymodal.distributions.normal import DiagNormal
from polymodal.networks.architectures import Network
from polymodal.networks.covariates import OneHot
from polymodal.networks.heads import normal_head
from polymodal.networks.layers import mlp
from polymodal.networks.learned import LearnedDegrees, LearnedDispersion, LearnedScale
from polymodal.networks.named import Named


class Expert(nn.Module):
    """q(z | x) = `head(net(embed(x)))`.

    Args:
        net: its features of x (B, *shape), or of embed(x).
        head: features -> distribution of batch_shape (B,).
        embed: an embedding of x; None: the identity.
    """

    def __init__(self, net: nn.Module, head: nn.Module, embed: nn.Module | None = None) -> None:
        super().__init__()
        self.net, self.head, self.embed = net, head, embed

    def given(self, features: Tensor) -> Distribution:
        """q(z | g(x)) for a computed embedding g(x); for x itself if there is no `embed`."""
        return self.head(self.net(features))

    def forward(self, x: Tensor) -> Distribution:
        return self.given(x if self.embed is None else self.embed(x))


class JointEncoder(nn.Module):
    """q(z | x_1, ..., x_M): one encoder for each modality, concatenated features, one hidden layer
    (MLP_j of Senellart et al. 2023, table 4), a normal head.

    A missing modality's features are replaced by a learned missing-modality embedding, and a flag
    for each modality says whether it is present, so that one encoder reads any pattern of missing
    modalities.

    Args:
        encoders: encoders[m](x_m) -> (B, features).
        features: features[m], the size of each encoder's output.
        hidden: width of the hidden layer; 0: none, the output is linear in the features.
        dim: D.
    """

    def __init__(
        self, encoders: Mapping[str, nn.Module], features: Mapping[str, int], hidden: int, dim: int
    ) -> None:
        super().__init__()
        self.encoders = Named(encoders)
        self.absent = Named({m: nn.Parameter(torch.zeros(features[m])) for m in encoders})
        self.mix = mlp([sum(features[m] + 1 for m in encoders), hidden, 2 * dim])

    def forward(self, batch: Batch) -> DiagNormal:
        parts: list[Tensor] = []
        for m in self.encoders:
            parts += self._features(m, batch)
        return normal_head(self.mix(torch.cat(parts, dim=-1)))

    def _features(self, m: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features (B, features) of modality m or its missing-modality embedding, and the flag
        (B, 1).
        """
        absent = self.absent[m].expand(len(batch), -1)
        flag = absent.new_ones(len(batch), 1)
        if m not in batch.x:
            return absent, 0 * flag
        features = self.encoders[m](batch.inputs(m))
        if m not in batch.present:
            return features, flag
        present = batch.present[m].unsqueeze(-1)
        return torch.where(present, features, absent), flag * present


class Decoder(nn.Module):
    """p(x_m | z): a network and the modality's likelihood. z (..., B, D) -> distribution of
    batch_shape (..., B). With a covariate p(x_m | z, c), c being places (B,) of categories; without
    them, or where they are -1, the categories are averaged in what the network reads.

    Args:
        modality: x_m.
        dim: how many columns of z it reads.
        network: its network.
        columns: which columns of z it reads; None: all.

    Raises ValueError for a likelihood with two parameters of each value if the values are not
    vectors.
    """

    columns: Tensor | None
    start: Tensor | None

    def __init__(
        self, modality: Modality, dim: int, network: Network, columns: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        index = None if columns is None else torch.tensor(columns)
        self.register_buffer("columns", index, persistent=False)
        self.modality = modality
        self.likelihood = likelihood_of(modality)
        self.output_shape = self.likelihood.output_shape(modality)
        if self.likelihood.params > 1 and len(modality.shape) > 1:
            raise ValueError(
                f"The likelihood {modality.likelihood!r} of {modality.name!r} reads vectors, not"
                " images."
            )
        self.one_hot = None if modality.covariate is None else OneHot(modality.covariate)
        told = 0 if self.one_hot is None else self.one_hot.size
        self.net = network.decoder(dim + told, self.output_shape)
        start = None if self.likelihood.start is None else torch.zeros(self.output_shape)
        self.register_buffer("start", start)
        self.learned: nn.Module | None = None
        if self.likelihood.columns:
            self.learned = LearnedDegrees(len(modality.columns))
        elif self.likelihood.library:
            self.learned = LearnedDispersion(modality.shape[0])
        elif self.likelihood.scaled and modality.scale is None:
            self.learned = LearnedScale(modality.shape if len(modality.shape) == 1 else ())

    @property
    def reads_moments(self) -> bool:
        """Whether `start_at` has an effect."""
        return self.start is not None or isinstance(self.learned, LearnedScale)

    @torch.no_grad()
    def start_at(self, mean: Tensor, variance: Tensor) -> None:
        """Adds to the network's output that at which the likelihood has these moments (*shape), if
        it is one of counts; a learned scale begins at the standard deviation.
        """
        if self.likelihood.start is not None and self.start is not None:
            self.start.copy_(self.likelihood.start(mean, variance))
        if isinstance(self.learned, LearnedDispersion):
            self.learned.start_at(mean, variance)
        if isinstance(self.learned, LearnedScale):
            self.learned.start_at(variance.sqrt() / self._spread(variance))

    def _spread(self, like: Tensor) -> Tensor:
        return entries(self.modality.spread or (1.0,), self.modality.shape, like)

    @property
    def scale(self) -> float | Tensor | None:
        """The scale of the likelihood, of tables the degrees of freedom, of counts the
        dispersions.
        """
        return self.modality.scale if self.learned is None else self.learned()

    def forward(self, z: Tensor, places: Tensor | None = None) -> Distribution:
        if self.columns is not None:
            z = z[..., self.columns]
        if self.one_hot is not None:
            z = torch.cat([z, self.one_hot.like(z, places)], -1)
        raw = self.net(z.reshape(-1, z.shape[-1]))
        raw = raw.to(z.dtype)  # densities in full precision, also under autocast
        if z.dim() != 2:
            raw = raw.reshape(*z.shape[:-1], *self.output_shape)
        if self.start is not None:
            raw = raw + self.start
        return self.likelihood.make(raw, self.modality, self.scale)
