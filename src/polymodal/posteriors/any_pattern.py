"""A joint encoder that answers for every pattern of modalities and entries."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.networks.named import Named
from polymodal.posteriors.posterior import Posterior


class AnyPattern(Posterior):
    """q(z | x_S) of a joint encoder for every S, see `polymodal.methods.miwae`.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
    """

    def __init__(self, joint: nn.Module) -> None:
        super().__init__()
        self.joint, self.experts = joint, Named({})

    def forward(self, batch: Batch) -> Distribution:
        return self.joint(batch)

    def unimodal(self, batch: Batch) -> dict[str, Any]:
        return {m: self.joint(batch.only([m])) for m in batch.x}
