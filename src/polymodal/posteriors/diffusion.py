"""A joint encoder, and a diffusion of the latent given embeddings on subsets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.diffusion.prior import FirstBlock
from polymodal.distributions.normal import Point


class JointWithDiffusion(nn.Module):
    """The joint encoder on the whole; on subsets z given the embeddings g_m(x_m) of what is seen,
    by a score.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        embeddings: g_m(x_m) -> (B, size).
        prior: a `FittedPrior` over a `DiffusionPrior` of the blocks z and g_m; before it is there,
            z has its base.
        dim: of z.
    """

    def __init__(
        self, joint: nn.Module, embeddings: Mapping[str, nn.Module], prior: Any, dim: int
    ) -> None:
        super().__init__()
        self.joint, self.experts, self.prior, self.dim = (
            joint,
            nn.ModuleDict(embeddings),
            prior,
            dim,
        )

    def forward(self, batch: Batch) -> Distribution:
        if all(m in batch.x for m in self.experts):
            return self.joint(batch)
        filled = self.prior.fill({m: Point(self.experts[m](x)) for m, x in batch.x.items()}, batch)
        return (
            self.prior.base().expand((len(batch),))
            if filled is None
            else FirstBlock(filled, self.dim)
        )
