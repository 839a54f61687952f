"""A joint encoder on complete batches, surrogates and their product on subsets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions.product import Product
from polymodal.posteriors.masks import Combine, masks


class SampledProduct:
    """Combines experts to their `Product` over the prior, drawn by `sampler`, which can be
    exchanged at any time.
    """

    def __init__(self, prior: nn.Module, sampler: Callable) -> None:
        self.prior, self.sampler = prior, sampler

    def __call__(
        self, experts: Sequence[Distribution], present: Sequence[Tensor] | None
    ) -> Distribution:
        return Product(experts, self.prior(), self.sampler, present)


class JointWithSurrogates(nn.Module):
    """A joint encoder on the whole, one surrogate per modality, and a rule for what lies between.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        experts: experts[m](x_m) -> q(z | x_m), normalised.
        combine: (experts, present masks or None) -> distribution, for subsets of two and more that
            are not the whole.
    """

    def __init__(
        self, joint: nn.Module, experts: Mapping[str, nn.Module], combine: Combine
    ) -> None:
        super().__init__()
        self.joint, self.experts, self.combine = joint, nn.ModuleDict(experts), combine

    def forward(self, batch: Batch) -> Distribution:
        if all(m in batch.x for m in self.experts):
            return self.joint(batch)
        q, present = self.unimodal(batch), masks(batch.present, list(batch.x))
        return (
            next(iter(q.values()))
            if len(q) == 1 and present is None
            else self.combine(list(q.values()), present)
        )

    def unimodal(self, batch: Batch) -> dict[str, Distribution]:
        """Every modality's own posterior q(z | x_m), for what the batch holds."""
        return {m: self.experts[m](x) for m, x in batch.x.items()}
