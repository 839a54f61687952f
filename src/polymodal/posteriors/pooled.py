"""Posteriors that pool the experts of single modalities: products, mixtures, mixtures of products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions.mixture import Mixture, Proposal, choose
from polymodal.distributions.normal import DiagNormal, product
from polymodal.posteriors.masks import Strata, masks
from polymodal.posteriors.pooling import Family, Rule
from polymodal.posteriors.posterior import Posterior


class PooledExperts(Posterior):
    """q(z | x_S) = mean over A in family(S) of rule({q(z | x_m): m in A}): product, mixture, or
    both.

    Where nothing at all is observed it is the prior.

    Args:
        experts: experts[m](x_m) -> q(z | x_m). A modality without one says nothing about z.
        family: `whole`, `singletons` or `powerset`.
        prior: () -> p(z).
        prior_expert: whether the prior is one more expert in every product (MVAE).
        rule: one distribution of the experts in a subset, see `polymodal.posteriors.pooling`.
        flow: an unconditional `Flow` that all components are sent through: the rule then holds in
            its base coordinates.
        logits: learned logarithms of the subsets' weights, {names, sorted and joined by "+":
            number}; None: equal.
    """

    def __init__(
        self,
        experts: Mapping[str, nn.Module],
        family: Family,
        prior: nn.Module | None = None,
        *,
        prior_expert: bool = False,
        rule: Rule = product,
        flow: nn.Module | None = None,
        logits: Mapping[str, nn.Parameter] | None = None,
    ) -> None:
        super().__init__()
        self.experts, self.prior = nn.ModuleDict(experts), prior
        self.family, self.prior_expert = family, prior_expert
        self.rule: Rule = rule
        self.flow: Any = flow
        self.logits = None if logits is None else nn.ParameterDict(logits)

    def forward(self, batch: Batch) -> Distribution:
        q = self.unimodal(batch)
        if not q and self.prior is not None:
            return self.prior().expand((len(batch),))
        return self.pool(q, batch.present)

    def pool(self, q: Mapping[str, Any], present: Mapping[str, Tensor]) -> Distribution:
        """The posterior of experts that are encoded already, for the subset that q's keys are."""
        subsets = self.family(list(q))
        parts = [self.component({m: q[m] for m in s}, present, len(subsets) == 1) for s in subsets]
        if len(parts) == 1:
            return parts[0]
        weights = self.weights(q, subsets, present)
        if self.prior is not None and all(m in present for m in q):
            parts.append(self.prior().expand(parts[0].batch_shape))
            weights = torch.cat([weights, (weights.sum(-1, keepdim=True) == 0).to(weights)], dim=-1)
        return Mixture(parts, weights)

    def single(self, q: Mapping[str, Any]) -> dict[str, Distribution]:
        """q(z | x_m) of every single modality: what the posterior is if only it is given."""
        return {m: self.component({m: e}) for m, e in q.items()}

    def strata(self, batch: Batch) -> Strata:
        """The components, each charged the density of the whole, and their weights (B, C)."""
        q = self(batch)
        if not isinstance(q, Mixture):
            return [q], torch.ones(len(batch), 1, device=batch.device)
        return [Proposal(c, q) for c in q.components], q.weights.expand(len(batch), -1)

    def weights(
        self, q: Mapping[str, Any], subsets: Sequence[Sequence[str]], present: Mapping[str, Tensor]
    ) -> Tensor:
        """Of the subsets, (B, C), not normalised: 0 where one of its modalities is absent."""
        like = next(iter(q.values()))
        every = torch.ones(like.batch_shape, dtype=torch.bool, device=like.mean.device)
        here = [
            reduce(torch.logical_and, (present[m] for m in s if m in present), every)
            for s in subsets
        ]
        weights = torch.stack(here, dim=-1).to(like.mean.dtype)
        if self.logits is None:
            return weights
        return weights * torch.stack([self.logits["+".join(sorted(s))] for s in subsets]).softmax(0)

    def component(
        self, q: Mapping[str, Any], present: Mapping[str, Tensor] | None = None, alone: bool = False
    ) -> Distribution:
        """The component of the subset that q's keys are; with `alone`, of the experts that are
        present in it.
        """
        experts, here = list(q.values()), masks(present or {}, list(q)) if alone else None
        if self.prior_expert:
            here = None if here is None else [*here, torch.ones_like(here[0])]
            return self.rule([*experts, self._prior(experts[0])], here)
        if here is None or not all(m in (present or {}) for m in q):
            return self._pushed(self.rule(experts, here) if len(experts) > 1 else experts[0])
        none = ~torch.stack(here).any(0)
        prior = self._prior(experts[0])
        if len(experts) > 1:  # something to hold on to where no expert is present
            unit = DiagNormal(torch.zeros_like(experts[0].mean), torch.ones_like(experts[0].mean))
            pooled = self.rule([*experts, unit], [*here, none])
        else:
            pooled = experts[0]
        return choose(~none, self._pushed(pooled), prior)

    def prior_for(self, size: int) -> Any:
        """p(z) of batch_shape (size,). Raises ValueError if the posterior has no prior."""
        if self.prior is None:
            raise ValueError("This posterior was built without a prior.")
        return self.prior().expand((size,))

    def _pushed(self, q: Distribution) -> Distribution:
        return q if self.flow is None else self.flow.push(q)

    def _prior(self, like: Any) -> Any:
        """p(z) of batch_shape (B,); N(0, I) where none is given."""
        if self.prior is not None:
            return self.prior().expand(like.batch_shape)
        return DiagNormal(torch.zeros_like(like.mean), torch.ones_like(like.mean))
