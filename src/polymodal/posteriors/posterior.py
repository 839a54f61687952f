"""The base of all posteriors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.diffusion import DiffusionSampler
from polymodal.distributions import Mixture, Proposal
from polymodal.networks.named import Named
from polymodal.sampling import Sampler

AnySampler = Sampler | DiffusionSampler  # of a product of experts, or of a diffusion prior
Strata = tuple[list[Distribution], Tensor]  # strata of a posterior, and their weights (B, C)


class Embeddings(NamedTuple):
    """Features g_m(x_m) of shared information, which a posterior reads instead of x_m.

    Args:
        networks: networks[m](x_m) -> (B, embedding size).
        spectrum: (embedding size,), held-out correlations of the directions, largest first.
        num_directions: how many leading directions are used; the others are 0.
    """

    networks: Mapping[str, nn.Module]
    spectrum: Tensor
    num_directions: int


def embeddings_of(networks: Mapping[str, Any], spectrum: Tensor) -> Embeddings:
    """The embeddings of networks that end in a `polymodal.analysis.projection.Projection`."""
    projection = next(iter(networks.values()))[-1]
    return Embeddings(networks, spectrum, projection.used)


class Posterior(nn.Module):
    """q(z | x_S) for the non-empty subset S that a batch holds: Batch -> Distribution.

    A modality that is not a key of the batch counts as absent for every sample.

    Attributes:
        experts: experts[m](x_m) -> q(z | x_m).
        least_effective: the share of draws that counts at least when they are weighted by the
            model's density. A posterior that was fitted to what the other modalities of training
            samples say is the better guess where the model is wrong, and the model's density of
            thousands of values would choose one draw.
    """

    experts: Named
    least_effective = 0.0

    def forward(self, batch: Batch) -> Distribution:
        raise NotImplementedError(f"{type(self).__name__} must define forward(batch).")

    def unimodal(self, batch: Batch) -> dict[str, Any]:
        """The posterior of every single modality q(z | x_m), for the modalities of the batch."""
        return {m: self.experts[m](batch.inputs(m)) for m in batch.x if m in self.experts}

    def strata(self, batch: Batch) -> Strata:
        """The components of a mixture, each with the log-density of the whole, and their weights
        (B, C); the posterior itself if it is no mixture.
        """
        q = self(batch)
        if not isinstance(q, Mixture):
            return [q], torch.ones(len(batch), 1, device=batch.device)
        return [Proposal(c, q) for c in q.components], q.weights.expand(len(batch), -1)

    @property
    def samplers(self) -> Mapping[str, Callable[..., AnySampler]]:
        """The samplers that can draw subsets, by name; empty if all are drawn in closed form."""
        return {}

    @property
    def sampled_by(self) -> Any:
        """The object whose `sampler` draws subsets; None if all are drawn in closed form."""
        return None

    @property
    def sampler(self) -> AnySampler | None:
        """The sampler that draws subsets; None if all of them are drawn in closed form. It can be
        set, which raises ValueError if there is none.
        """
        return None if self.sampled_by is None else self.sampled_by.sampler

    @sampler.setter
    def sampler(self, sampler: AnySampler) -> None:
        if self.sampled_by is None:
            raise ValueError("The subsets of this model are drawn in closed form; set no sampler.")
        self.sampled_by.sampler = sampler

    @property
    def embeddings(self) -> Embeddings | None:
        """The embeddings that the posterior reads; None if it reads x itself."""
        return None

    @property
    def private_columns(self) -> Mapping[str, slice]:
        """The columns of z of each modality's private latent, behind those of the shared latent;
        empty if the method has no private latents.
        """
        return {}
