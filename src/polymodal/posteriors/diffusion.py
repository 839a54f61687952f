"""A joint encoder on its trained patterns; elsewhere a diffusion of the latent given embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.diffusion.prior import FirstBlock
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.distributions import Point
from polymodal.posteriors.patterns import JointEncoderPosterior
from polymodal.posteriors.posterior import AnySampler, Embeddings, embeddings_of
from polymodal.priors import FittedPrior


class JointWithDiffusion(JointEncoderPosterior):
    """A joint encoder, and a diffusion of z given the embeddings g_m(x_m) of any subset.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        embeddings: g_m(x_m) -> (B, embedding_size).
        prior: a `FittedPrior` over a `DiffusionPrior` of the blocks z and g_m; before that is
            fitted, z has the base prior.
        dim: D, of z.
        embedding_size: of every g_m.
    """

    prior: FittedPrior
    spectrum: Tensor

    def __init__(
        self,
        joint: nn.Module,
        embeddings: Mapping[str, nn.Module],
        prior: FittedPrior,
        dim: int,
        embedding_size: int,
    ) -> None:
        super().__init__(joint, embeddings)
        self.prior, self.dim = prior, dim
        self.register_buffer("spectrum", torch.zeros(embedding_size))

    def surrogate(self, batch: Batch) -> Distribution:
        seen = {m: Point(g) for m, g in self.unimodal(batch).items()}
        conditional: Any = self.prior.fill(seen, batch)
        if conditional is None:
            return self.prior.base().expand((len(batch),))
        return FirstBlock(conditional, self.dim)

    @property
    def samplers(self) -> Mapping[str, Callable[..., AnySampler]]:
        return DIFFUSIONS

    @property
    def sampled_by(self) -> Any:
        return self.prior.fitted

    @property
    def embeddings(self) -> Embeddings:
        return embeddings_of(dict(self.experts.items()), self.spectrum)
