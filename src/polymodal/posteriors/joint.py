"""A joint encoder on its trained patterns; elsewhere surrogates and their product."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import Product
from polymodal.posteriors.masks import masks
from polymodal.posteriors.patterns import JointEncoderPosterior
from polymodal.posteriors.pooling import Rule
from polymodal.posteriors.posterior import AnySampler, Embeddings, embeddings_of
from polymodal.sampling import SAMPLERS, Sampler


class SampledProduct:
    """Combines experts into their `Product` over the prior, drawn by `sampler`, which can be
    replaced at any time.
    """

    def __init__(self, prior: nn.Module, sampler: Sampler) -> None:
        self.prior, self.sampler = prior, sampler

    def __call__(
        self, experts: Sequence[Distribution], present: Sequence[Tensor] | None
    ) -> Distribution:
        return Product(experts, self.prior(), self.sampler, present)


class JointWithSurrogates(JointEncoderPosterior):
    """A joint encoder, one surrogate per modality, and a rule that combines surrogates.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        experts: experts[m](x_m) -> q(z | x_m), normalised.
        combine: (experts, present masks or None) -> distribution, for two and more modalities.
        embedding_size: dimensions of the experts' embeddings g_m; 0: they read x_m itself.
    """

    spectrum: Tensor
    least_effective = 0.5  # surrogates are fitted to the joint posterior of training samples
    over_prior = True  # whether products are divided by a power of the prior

    def __init__(
        self,
        joint: nn.Module,
        experts: Mapping[str, nn.Module],
        combine: Rule,
        embedding_size: int = 0,
    ) -> None:
        super().__init__(joint, experts)
        self.combine = combine
        if embedding_size:
            self.register_buffer("spectrum", torch.zeros(embedding_size))

    def embed(self, m: str, x: Tensor) -> Tensor:
        """g_m(x_m), (B, embedding size)."""
        expert: Any = self.experts[m]
        return expert.embed(x)

    def surrogate(self, batch: Batch) -> Distribution:
        experts = self.unimodal(batch)
        q, present = list(experts.values()), masks(batch.present, list(experts))
        return q[0] if len(q) == 1 and present is None else self.combine(q, present)

    @property
    def samplers(self) -> Mapping[str, Callable[..., AnySampler]]:
        return {} if self.sampled_by is None else SAMPLERS

    @property
    def sampled_by(self) -> SampledProduct | None:
        return self.combine if isinstance(self.combine, SampledProduct) else None

    @property
    def embeddings(self) -> Embeddings | None:
        experts: dict[str, Any] = dict(self.experts.items())
        networks = {m: e.embed for m, e in experts.items() if e.embed is not None}
        return embeddings_of(networks, self.spectrum) if networks else None
