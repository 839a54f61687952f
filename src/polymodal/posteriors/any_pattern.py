"""A joint encoder that answers for every pattern of modalities and entries."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import choose
from polymodal.networks.named import Named
from polymodal.posteriors.posterior import Posterior


class AnyPattern(Posterior):
    """q(z | x_S) of a joint encoder for every S, see `polymodal.methods.miwae`; the prior where
    nothing was observed.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        prior: () -> p(z), a DiagNormal of batch_shape ().
    """

    def __init__(self, joint: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.joint, self.prior, self.experts = joint, prior, Named({})

    def forward(self, batch: Batch) -> Distribution:
        q = self.joint(batch)
        if any(m not in batch.present for m in batch.x):
            return q
        anything = torch.stack([batch.present[m] for m in batch.x]).any(0)
        return choose(anything, q, self.prior().expand((len(batch),)))

    def unimodal(self, batch: Batch) -> dict[str, Any]:
        return {m: self(batch.only([m])) for m in batch.x}
