"""Surrogates whose products are those of likelihoods: Bayes' rule instead of a product of
posteriors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import jacrev, vmap

from polymodal.batch import Batch
from polymodal.distributions import LikelihoodProduct
from polymodal.distributions.laplace import NormalLikelihood
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

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """mu(z) and log s(z), (..., size), of z (..., D)."""
        mu, raw = self.net(z).chunk(2, dim=-1)
        return mu, math.log(LOWEST) + math.log(HIGHEST / LOWEST) * raw.sigmoid()

    def log_prob(self, z: Tensor, g: Tensor) -> Tensor:
        """log p(g | z) of z (..., B, D) and g (B, size): (..., B), nats."""
        mu, log_scale = self.moments(z)
        density = -0.5 * ((g - mu) / log_scale.exp()).square() - log_scale
        return torch.where(g != 0, density - 0.5 * math.log(2 * math.pi), 0).sum(-1)


@dataclass(frozen=True)
class Given:
    """p(g | z) of embeddings g (B, size), as `laplace_mixture` reads it."""

    likelihood: EmbeddingLikelihood
    g: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        return self.likelihood.log_prob(z, self.g)

    def linear(self, z: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        def mean(point: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            mu, log_scale = self.likelihood.moments(point)
            return mu, (mu, log_scale)

        slope, (mu, log_scale) = vmap(jacrev(mean, has_aux=True))(z.flatten(0, 1))
        mu, log_scale, slope = (v.unflatten(0, z.shape[:2]) for v in (mu, log_scale, slope))
        g = self.g[rows].unsqueeze(1)
        return g - mu, slope, torch.where(g != 0, (-2 * log_scale).exp(), 0)


class SampledLikelihoods(SampledProduct):
    """Combines likelihoods into their `LikelihoodProduct` with its `prior`, the aggregate posterior
    a(z).
    """

    def given(
        self,
        experts: Sequence[Distribution],
        present: Sequence[Tensor] | None,
        likelihoods: Sequence[NormalLikelihood],
        exponent: Tensor | float = 1.0,
    ) -> LikelihoodProduct:
        """The product of the aggregate posterior and the likelihoods, each to the `exponent`."""
        aggregate: Any = self.prior()
        return LikelihoodProduct(experts, aggregate, self.sampler, present, likelihoods, exponent)


class JointWithLikelihoods(JointWithSurrogates):
    """A joint encoder; on patterns that it was not trained on, a single modality has its surrogate,
    and several have a(z) prod_m p(g_m | z)^t.

    The buffer `exponent` is t: 1 until `polymodal.methods.calibration` has fitted it.

    Args:
        joint, experts, embedding_size: see `JointWithSurrogates`.
        combine: the product over the aggregate a(z), which is fitted to draws of the joint encoder.
        shared: None: experts read embeddings. Else shared[m](features) -> g_m, of the features that
            the surrogate's network has of x_m.
    """

    combine: SampledLikelihoods
    exponent: Tensor
    over_prior = False
    may_be_missing = ("exponent",)  # in runs that were saved before it was fitted

    def __init__(
        self,
        joint: nn.Module,
        experts: Mapping[str, nn.Module],
        combine: SampledLikelihoods,
        embedding_size: int,
        shared: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__(joint, experts, combine, embedding_size)
        self.shared = None if shared is None else Named(shared)
        self.aggregate = combine.prior
        latent = combine.prior().event_shape.numel()
        self.likelihoods = Named({m: EmbeddingLikelihood(latent, embedding_size) for m in experts})
        self.register_buffer("exponent", torch.ones(()))

    def surrogate(self, batch: Batch) -> Distribution:
        whole = self.product(batch)
        alone = len(whole.experts) == 1 and whole.present is None
        return whole.experts[0] if alone else whole

    def embed(self, m: str, x: Tensor) -> Tensor:
        if self.shared is None:
            return super().embed(m, x)
        expert: Any = self.experts[m]
        return self.shared[m](expert.net(x))

    def encode(self, m: str, x: Tensor) -> tuple[Distribution, Tensor]:
        """q(z | x_m) and g_m(x_m)."""
        expert: Any = self.experts[m]
        if self.shared is None:
            g = expert.embed(x)
            return expert.given(g), g
        features = expert.net(x)
        return expert.head(features), self.shared[m](features)

    def product(self, batch: Batch) -> LikelihoodProduct:
        """a(z) prod_m p(g_m | z)^t, of a single modality too."""
        encoded = {m: self.encode(m, batch.inputs(m)) for m in batch.x}
        experts = [q for q, _ in encoded.values()]
        embeddings = {m: g for m, (_, g) in encoded.items()}
        present = masks(batch.present, [*encoded])
        return self.product_of(embeddings, experts, present, self.exponent)

    def product_of(
        self,
        embeddings: Mapping[str, Tensor],
        experts: Sequence[Distribution],
        present: Sequence[Tensor] | None,
        exponent: Tensor | float,
    ) -> LikelihoodProduct:
        """The product for embeddings g_m (B, size) and an exponent.

        Args:
            experts, present: see `SampledPosterior`, in the order of `embeddings`.
        """
        likelihoods: Any = self.likelihoods
        given = [Given(likelihoods[m], g) for m, g in embeddings.items()]
        return self.combine.given(experts, present, given, exponent)
