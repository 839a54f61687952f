"""Posteriors that pool the experts of single modalities: products, mixtures, and mixtures of
products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions.mixture import Mixture, choose
from polymodal.distributions.normal import DiagNormal, product
from polymodal.networks.named import Named
from polymodal.posteriors.masks import masks
from polymodal.posteriors.pooling import Family, Rule
from polymodal.posteriors.posterior import Posterior


class PooledExperts(Posterior):
    """q(z | x_S), the mean over A in family(S) of rule({q(z | x_m): m in A}): a product, a mixture,
    or a mixture of products. For samples without any modality it is the prior.

    Args:
        experts: experts[m](x_m) -> q(z | x_m). A modality without one says nothing about z.
        family: `whole`, `singletons` or `powerset`.
        prior: () -> p(z).
        prior_expert: whether the prior is one more expert in every product (MVAE).
        rule: combines the experts of a subset, see `polymodal.posteriors.pooling`.
        flow: an unconditional `Flow` that maps all components: the rule then combines experts in
            its base coordinates.
        logits: learned logarithms of the subsets' weights, {names, sorted and joined by "+":
            number}; None: equal.
    """

    def __init__(
        self,
        experts: Mapping[str, nn.Module],
        family: Family,
        prior: nn.Module,
        *,
        prior_expert: bool = False,
        rule: Rule = product,
        flow: nn.Module | None = None,
        logits: Mapping[str, nn.Parameter] | None = None,
    ) -> None:
        super().__init__()
        if flow is not None and prior_expert:
            raise ValueError("The prior cannot be an expert where a flow maps the experts.")
        self.experts, self.prior = Named(experts), prior
        self.family, self.prior_expert = family, prior_expert
        self.rule: Rule = rule
        self.flow: Any = flow
        self.logits = None if logits is None else Named(logits)

    def forward(self, batch: Batch) -> Distribution:
        q = self.unimodal(batch)
        return self.pool(q, batch.present) if q else self.prior_for((len(batch),))

    def pool(self, q: Mapping[str, Any], present: Mapping[str, Tensor]) -> Distribution:
        """The posterior of encoded experts, for the subset of modalities that are q's keys."""
        subsets = self.family(list(q))
        if len(subsets) == 1:
            return self._only_component(q, present, subsets[0])
        components = [self.component({m: q[m] for m in s}) for s in subsets]
        weights = self.weights(q, subsets, present)
        if all(m in present for m in q):
            components.append(self.prior_for(components[0].batch_shape))
            nothing = (weights.sum(-1, keepdim=True) == 0).to(weights)
            weights = torch.cat([weights, nothing], dim=-1)
        return Mixture(components, weights)

    def single(self, q: Mapping[str, Any]) -> dict[str, Distribution]:
        """The posterior q(z | x_m) given each single modality."""
        return {m: self.component({m: e}) for m, e in q.items()}

    def weights(
        self, q: Mapping[str, Any], subsets: Sequence[Sequence[str]], present: Mapping[str, Tensor]
    ) -> Tensor:
        """The weights of the subsets, (B, C), not normalised: 0 where one of its modalities is
        absent.
        """
        like = next(iter(q.values()))
        every = torch.ones(like.batch_shape, dtype=torch.bool, device=like.mean.device)
        complete = [
            reduce(torch.logical_and, (present[m] for m in s if m in present), every)
            for s in subsets
        ]
        weights = torch.stack(complete, dim=-1).to(like.mean.dtype)
        if self.logits is None:
            return weights
        return weights * torch.stack([self.logits["+".join(sorted(s))] for s in subsets]).softmax(0)

    def component(self, q: Mapping[str, Any]) -> Distribution:
        """The component of the subset of modalities that are q's keys, all of them present."""
        experts = list(q.values())
        if self.prior_expert:
            return self.rule([*experts, self.prior_for(experts[0].batch_shape)], None)
        return self._pushed(self.rule(experts, None) if len(experts) > 1 else experts[0])

    def _only_component(
        self, q: Mapping[str, Any], present: Mapping[str, Tensor], subset: Sequence[str]
    ) -> Distribution:
        """The component of the experts in `subset` that are present, the prior where none is."""
        experts, mask = [q[m] for m in subset], masks(present, list(subset))
        if mask is None:
            return self.component({m: q[m] for m in subset})
        if self.prior_expert:
            always = torch.ones_like(mask[0])
            return self.rule([*experts, self.prior_for(experts[0].batch_shape)], [*mask, always])
        if not all(m in present for m in subset):
            return self._pushed(self.rule(experts, mask) if len(experts) > 1 else experts[0])
        some = torch.stack(mask).any(0)
        prior = self.prior_for(experts[0].batch_shape)
        pooled = self._with_unit(experts, mask, ~some) if len(experts) > 1 else experts[0]
        return choose(some, self._pushed(pooled), prior)

    def _with_unit(
        self, experts: Sequence[Any], present: Sequence[Tensor], none: Tensor
    ) -> Distribution:
        """The rule of the experts, and N(0, I) where `none` of them is present, so that all numbers
        are finite.
        """
        mean = experts[0].mean
        unit = DiagNormal(torch.zeros_like(mean), torch.ones_like(mean))
        return self.rule([*experts, unit], [*present, none])

    def prior_for(self, batch_shape: Sequence[int]) -> Any:
        """p(z) of this batch_shape."""
        return self.prior().expand(batch_shape)

    def _pushed(self, q: Distribution) -> Distribution:
        if self.flow is None:
            return q
        if isinstance(q, Mixture):
            return Mixture([self.flow.push(c) for c in q.components], q.weights)
        return self.flow.push(q)
