"""q(z | x_S) for whatever non-empty subset S a batch holds: Batch -> Distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import DiagNormal, Joint, Mixture, Point, Product, Proposal, choose, product
from polymodal.pooling import Family, Rule, powerset, singletons, whole
from polymodal.priors_score import Marginal

__all__ = [
    "Concatenated", "JointWithSurrogates", "MixtureOfProducts", "SampledProduct", "SharedPrivate", "masks", "powerset",
    "singletons", "whole",
]  # fmt: skip
Combine = Callable[[Sequence[Any], Sequence[Tensor] | None], Distribution]
Strata = tuple[list[Distribution], Tensor]  # the parts of a posterior, and their weights (B, C)


def masks(present: Mapping[str, Tensor], names: Sequence[str]) -> list[Tensor] | None:
    """One presence mask (B,) for each of `names`; None when all of them are present throughout."""
    if not (known := [present[m] for m in names if m in present]):
        return None
    return [present.get(m, torch.ones_like(known[0])) for m in names]


class SampledProduct:
    """Combines experts to their `Product` over the prior, drawn by `sampler`, which can be exchanged at any time."""

    def __init__(self, prior: nn.Module, sampler: Callable) -> None:
        self.prior, self.sampler = prior, sampler

    def __call__(self, experts: Sequence[Distribution], present: Sequence[Tensor] | None) -> Distribution:
        return Product(experts, self.prior(), self.sampler, present)


class MixtureOfProducts(nn.Module):
    """q(z | x_S) = mean over A in family(S) of rule({q(z | x_m): m in A}): product, mixture, or both.

    Where nothing at all is observed it is the prior.

    Args:
        experts: experts[m](x_m) -> q(z | x_m). A modality without one says nothing about z.
        family: `whole`, `singletons` or `powerset`.
        prior: () -> p(z).
        prior_expert: whether the prior is one more expert in every product (MVAE).
        rule: one distribution of the experts in a subset, see `polymodal.pooling`.
        flow: an unconditional `Flow` that all components are sent through: the rule then holds in its base coordinates.
        logits: learned logarithms of the subsets' weights, {names, sorted and joined by "+": number}; None: equal.
    """

    def __init__(
        self, experts: Mapping[str, nn.Module], family: Family, prior: nn.Module | None = None, *,
        prior_expert: bool = False, rule: Rule = product, flow: nn.Module | None = None,
        logits: Mapping[str, nn.Parameter] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.experts, self.family, self.prior, self.prior_expert = nn.ModuleDict(experts), family, prior, prior_expert
        self.rule: Rule = rule
        self.flow: Any = flow
        self.logits = None if logits is None else nn.ParameterDict(logits)

    def forward(self, batch: Batch) -> Distribution:
        q = self.unimodal(batch)
        if not q and self.prior is not None:
            return self.prior().expand((len(batch),))
        return self.pool(q, batch.present)

    def unimodal(self, batch: Batch) -> dict[str, Distribution]:
        """Every modality's own expert, for what the batch holds, before any flow."""
        return {m: self.experts[m](x) for m, x in batch.x.items() if m in self.experts}

    def pool(self, q: Mapping[str, Any], present: Mapping[str, Tensor]) -> Distribution:
        """The posterior of experts that are encoded already, for the subset that q's keys are."""
        subsets = self.family(list(q))
        parts = [self.one({m: q[m] for m in s}, present, len(subsets) == 1) for s in subsets]
        if len(parts) == 1:
            return parts[0]
        weights = self.weights(q, subsets, present)
        if self.prior is not None and all(m in present for m in q):
            parts.append(self.prior().expand(parts[0].batch_shape))
            weights = torch.cat([weights, (weights.sum(-1, keepdim=True) == 0).to(weights)], dim=-1)
        return Mixture(parts, weights)

    def own(self, q: Mapping[str, Any]) -> dict[str, Distribution]:
        """q(z | x_m) of every expert: the experts as one modality alone gives them."""
        return {m: self.one({m: e}) for m, e in q.items()}

    def strata(self, batch: Batch) -> Strata:
        """The components, each charged the density of the whole, and their weights (B, C)."""
        q = self(batch)
        if not isinstance(q, Mixture):
            return [q], torch.ones(len(batch), 1, device=batch.device)
        return [Proposal(c, q) for c in q.components], q.weights.expand(len(batch), -1)

    def weights(self, q: Mapping[str, Any], subsets: Sequence[Sequence[str]], present: Mapping[str, Tensor]) -> Tensor:
        """Of the subsets, (B, C), not normalised: 0 where one of its modalities is absent."""
        like = next(iter(q.values()))
        every = torch.ones(like.batch_shape, dtype=torch.bool, device=like.mean.device)
        here = [reduce(torch.logical_and, (present[m] for m in s if m in present), every) for s in subsets]
        weights = torch.stack(here, dim=-1).to(like.mean.dtype)
        if self.logits is None:
            return weights
        return weights * torch.stack([self.logits["+".join(sorted(s))] for s in subsets]).softmax(0)

    def one(
        self, q: Mapping[str, Any], present: Mapping[str, Tensor] | None = None, alone: bool = False
    ) -> Distribution:  # fmt: skip
        """The component of the subset that q's keys are; with `alone`, of the experts that are present in it."""
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

    def _pushed(self, q: Distribution) -> Distribution:
        return q if self.flow is None else self.flow.push(q)

    def _prior(self, like: Any) -> Any:
        """p(z) of batch_shape (B,); N(0, I) where none is given."""
        if self.prior is not None:
            return self.prior().expand(like.batch_shape)
        return DiagNormal(torch.zeros_like(like.mean), torch.ones_like(like.mean))


class JointWithSurrogates(nn.Module):
    """A joint encoder on the whole, one surrogate per modality, and a rule for what lies between.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        experts: experts[m](x_m) -> q(z | x_m), normalised.
        combine: (experts, present masks or None) -> distribution, for subsets of two and more that are not the whole.
    """

    def __init__(self, joint: nn.Module, experts: Mapping[str, nn.Module], combine: Combine) -> None:
        super().__init__()
        self.joint, self.experts, self.combine = joint, nn.ModuleDict(experts), combine

    def forward(self, batch: Batch) -> Distribution:
        if all(m in batch.x for m in self.experts):
            return self.joint(batch)
        q, present = self.unimodal(batch), masks(batch.present, list(batch.x))
        return next(iter(q.values())) if len(q) == 1 and present is None else self.combine(list(q.values()), present)

    def unimodal(self, batch: Batch) -> dict[str, Distribution]:
        """Every modality's own posterior q(z | x_m), for what the batch holds."""
        return {m: self.experts[m](x) for m, x in batch.x.items()}


class SharedPrivate(nn.Module):
    """A shared latent u from any posterior and one private latent w_m per modality: z = [u, w_1, ..., w_M].

    Args:
        shared: Batch -> q(u | x_S).
        private: private[m](x_m) -> q(w_m | x_m); where x_m is not seen, w_m has its prior.
        prior: () -> Joint of p(u), p(w_1), ..., in the order of `private`.
        auxiliary: auxiliary[m]() -> r_m(w_m), from which MMVAE+ draws foreign private latents in training.
    """

    def __init__(
        self, shared: Any, private: Mapping[str, nn.Module], prior: nn.Module,
        auxiliary: Mapping[str, nn.Module] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shared, self.private, self.prior = shared, nn.ModuleDict(private), prior
        self.auxiliary = nn.ModuleDict(auxiliary or {})

    @property
    def experts(self) -> Any:
        """The shared latent's experts."""
        return self.shared.experts

    def forward(self, batch: Batch) -> Distribution:
        return Joint(self.shared(batch), *self.own(batch))

    def own(self, batch: Batch) -> list[Distribution]:
        """Every q(w_m | x_m), the prior where x_m is absent."""
        _, *priors = self.prior().parts
        return [
            observed(self.private[m](batch.x[m]) if m in batch.x else None, p, batch, m)
            for m, p in zip(self.private, priors, strict=True)
        ]

    def strata(self, batch: Batch) -> Strata:
        """One for each modality m: its shared expert, charged the whole mixture, its private latent, and the others'
        private latents from their auxiliaries, charged their priors, so that their weights cancel (MMVAE+)."""
        mixture, own, (_, *priors) = self.shared(batch), self.own(batch), self.prior().parts
        components = mixture.components if isinstance(mixture, Mixture) else [mixture]
        foreign = [
            Proposal(self.auxiliary[n]().expand((len(batch),)), p) for n, p in zip(self.private, priors, strict=True)
        ]
        names = list(self.private)
        pick = lambda m: [own[i] if n == m else foreign[i] for i, n in enumerate(names)]
        strata: list[Distribution] = [
            Joint(Proposal(u, mixture), *pick(m)) for m, u in zip(batch.x, components, strict=False)
        ]
        return strata, torch.stack([batch.mask([m]) for m in batch.x], dim=-1).to(own[0].mean)


class Concatenated(nn.Module):
    """q(z | x) = prod_m q(z_m | x_m) on concatenated latents z = [z_1, ..., z_M].

    Args:
        experts: experts[m](x_m) -> q(z_m | x_m).
        prior: () -> Joint of the p(z_m): what is not seen is drawn from it.
        fill: instead, (what is seen {m: q}, batch) -> q(z | x_S), or None where it cannot say yet.
    """

    def __init__(
        self, experts: Mapping[str, nn.Module], prior: nn.Module,
        fill: Callable[[dict[str, Distribution], Batch], Distribution | None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.experts, self.prior, self.fill = nn.ModuleDict(experts), prior, fill

    def forward(self, batch: Batch) -> Distribution:
        q = self.unimodal(batch)
        some = len(q) < len(self.experts) or not all(here.all() for here in batch.present.values())
        if self.fill is not None and some:
            if (filled := self.fill(q, batch)) is not None:
                return filled
        return self._joined(q, batch)

    def unimodal(self, batch: Batch) -> dict[str, Distribution]:
        """q(z_m | x_m) of what the batch holds."""
        return {m: self.experts[m](x) for m, x in batch.x.items()}

    def own(self, batch: Batch) -> Joint:
        """prod_m q(z_m | x_m), the prior's p(z_m) where x_m is absent, whatever `fill` says."""
        return self._joined(self.unimodal(batch), batch)

    def _joined(self, q: Mapping[str, Distribution], batch: Batch) -> Joint:
        priors = zip(self.experts, self.prior().parts, strict=True)
        return Joint(*(observed(q.get(m), p, batch, m) for m, p in priors))


class Embedded(nn.Module):
    """The joint encoder on the whole; on subsets z given the embeddings g_m(x_m) of what is seen, by a score.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        embeddings: g_m(x_m) -> (B, size).
        prior: a `FittedPrior` over a `ScorePrior` of the blocks z and g_m; before it is there, z has its base.
        dim: of z.
    """

    def __init__(self, joint: nn.Module, embeddings: Mapping[str, nn.Module], prior: Any, dim: int) -> None:
        super().__init__()
        self.joint, self.experts, self.prior, self.dim = joint, nn.ModuleDict(embeddings), prior, dim

    def forward(self, batch: Batch) -> Distribution:
        if all(m in batch.x for m in self.experts):
            return self.joint(batch)
        filled = self.prior.fill({m: Point(self.experts[m](x)) for m, x in batch.x.items()}, batch)
        return self.prior.base().expand((len(batch),)) if filled is None else Marginal(filled, self.dim)


def observed(q: Any, p: Any, batch: Batch, m: str) -> Distribution:
    """q where modality m is present, the prior p where it is not; both of one family."""
    p = p.expand((len(batch),))
    if q is None:
        return p
    return choose(batch.present[m], q, p) if m in batch.present else q
