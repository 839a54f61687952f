"""Surrogates whose products are those of likelihoods: Bayes' rule instead of a product of
posteriors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import LikelihoodProduct
from polymodal.networks import mlp
from polymodal.networks.named import Named
from polymodal.posteriors.joint import JointWithSurrogates, SampledProduct
from polymodal.posteriors.masks import masks

LOWEST, HIGHEST = 0.1, 1.5  # bounds on s_m(z); every direction of an embedding has variance 1
HIDDEN, DROPOUT = 256, 0.2


class EmbeddingLikelihood(nn.Module):
    """p(g | z) = N(g; mu(z), diag s(z)^2) with s in [LOWEST, HIGHEST], so that it is bounded in z.

    Directions of the embedding that are 0 for every sample, which it does not use, are left out.

    Args:
        latent: D.
        size: dimensions of g.
    """

    def __init__(self, latent: int, size: int) -> None:
        super().__init__()
        first, *rest = mlp([latent, HIDDEN, HIDDEN, 2 * size])
        self.net = nn.Sequential(first, rest[0], nn.Dropout(DROPOUT), *rest[1:])

    def log_prob(self, z: Tensor, g: Tensor) -> Tensor:
        """log p(g | z) of z (..., B, D) and g (B, size): (..., B), nats."""
        mu, raw = self.net(z).chunk(2, dim=-1)
        log_scale = math.log(LOWEST) + math.log(HIGHEST / LOWEST) * raw.sigmoid()
        density = -0.5 * ((g - mu) / log_scale.exp()).square() - log_scale
        return torch.where(g != 0, density - 0.5 * math.log(2 * math.pi), 0).sum(-1)


class SampledLikelihoods(SampledProduct):
    """Combines likelihoods into their `LikelihoodProduct` with its `prior`, the aggregate posterior
    a(z).
    """

    def given(
        self,
        experts: Sequence[Distribution],
        present: Sequence[Tensor] | None,
        log_likelihoods: Sequence[Callable[[Tensor], Tensor]],
    ) -> Distribution:
        """The product, whose sampler starts at the mixture of the experts."""
        return LikelihoodProduct(experts, self.prior(), self.sampler, present, log_likelihoods)


class JointWithLikelihoods(JointWithSurrogates):
    """A joint encoder; on patterns that it was not trained on, a single modality has its surrogate,
    and several have a(z) prod_m p(g_m | z).

    Args:
        joint, experts, embedding_size: see `JointWithSurrogates`; experts read embeddings.
        combine: the product over the aggregate a(z), which is fitted to draws of the joint encoder.
    """

    combine: SampledLikelihoods

    def __init__(
        self,
        joint: nn.Module,
        experts: Mapping[str, nn.Module],
        combine: SampledLikelihoods,
        embedding_size: int,
    ) -> None:
        super().__init__(joint, experts, combine, embedding_size)
        self.aggregate = combine.prior
        latent = combine.prior().event_shape.numel()
        self.likelihoods = Named({m: EmbeddingLikelihood(latent, embedding_size) for m in experts})

    def surrogate(self, batch: Batch) -> Distribution:
        experts: Any = self.experts
        likelihoods: Any = self.likelihoods
        q, logs = {}, []
        for m, x in batch.x.items():
            g = experts[m].embed(x)
            q[m] = experts[m].given(g)
            logs.append(partial(likelihoods[m].log_prob, g=g))
        present = masks(batch.present, list(q))
        if len(q) == 1 and present is None:
            return next(iter(q.values()))
        return self.combine.given(list(q.values()), present, logs)
