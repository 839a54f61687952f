"""q(z | x_S) for whatever non-empty subset S a batch holds: Batch -> Distribution."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import Joint, Mixture, Product, Proposal, product

Family = Callable[[Sequence[str]], list[tuple[str, ...]]]
Combine = Callable[[Sequence[Any], Sequence[Tensor] | None], Distribution]


def whole(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The one subset of all: a product of experts.

    >>> whole(["a", "b"])
    [('a', 'b')]
    """
    return [tuple(names)]


def singletons(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every subset of one: a mixture of experts.

    >>> singletons(["a", "b"])
    [('a',), ('b',)]
    """
    return [(m,) for m in names]


def powerset(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, small ones first: a mixture of products of experts.

    >>> powerset(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    return list(chain.from_iterable(combinations(names, r) for r in range(1, len(names) + 1)))


def masks(batch: Batch, names: Sequence[str]) -> list[Tensor] | None:
    """One presence mask (B,) for each of `names`; None when all of them are present throughout."""
    if not any(m in batch.present for m in names):
        return None
    return [batch.mask([m]) for m in names]


class SampledProduct:
    """Combines experts to their `Product` over the prior, drawn by `sampler`, which can be exchanged at any time."""

    def __init__(self, prior: nn.Module, sampler: Callable) -> None:
        self.prior, self.sampler = prior, sampler

    def __call__(self, experts: Sequence[Distribution], present: Sequence[Tensor] | None) -> Distribution:
        return Product(experts, self.prior(), self.sampler, present)


class MixtureOfProducts(nn.Module):
    """q(z | x_S) = mean over A in family(S) of prod_{m in A} q(z | x_m): product, mixture, or both.

    Args:
        experts: experts[m](x_m) -> DiagNormal.
        family: `whole`, `singletons` or `powerset`.
        prior: a module, or None: the prior as one more expert in every product (MVAE).
    """

    def __init__(self, experts: Mapping[str, nn.Module], family: Family, prior: nn.Module | None = None) -> None:
        super().__init__()
        self.experts, self.family, self.prior = nn.ModuleDict(experts), family, prior

    def forward(self, batch: Batch) -> Distribution:
        q = {m: self.experts[m](x) for m, x in batch.x.items()}
        subsets = self.family(list(q))
        parts = [self._product(batch, {m: q[m] for m in s}) for s in subsets]
        if len(parts) == 1:
            return parts[0]
        return Mixture(parts, torch.stack([batch.mask(s) for s in subsets], dim=-1).float())

    def strata(self, batch: Batch) -> list[Distribution]:
        """The components, each charged the density of the whole."""
        q = self(batch)
        return [Proposal(c, q) for c in q.components] if isinstance(q, Mixture) else [q]

    def _product(self, batch: Batch, q: Mapping[str, Any]) -> Distribution:
        experts, present = list(q.values()), masks(batch, list(q))
        if self.prior is not None:
            experts.append(self.prior().expand(experts[0].batch_shape))
            present = None if present is None else [*present, torch.ones_like(present[0])]
        return experts[0] if len(experts) == 1 else product(experts, present)


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
        q, present = self.unimodal(batch), masks(batch, list(batch.x))
        return next(iter(q.values())) if len(q) == 1 and present is None else self.combine(list(q.values()), present)

    def unimodal(self, batch: Batch) -> dict[str, Distribution]:
        """Every modality's own posterior q(z | x_m), for what the batch holds."""
        return {m: self.experts[m](x) for m, x in batch.x.items()}


class SharedPrivate(nn.Module):
    """A shared latent from a mixture of experts and one private latent per modality (MMVAE+)."""

    def __init__(
        self,
        shared: MixtureOfProducts,
        private: Mapping[str, nn.Module],
        auxiliary: Mapping[str, nn.Module],
        prior: nn.Module,
    ) -> None:
        super().__init__()
        self.shared, self.private = shared, nn.ModuleDict(private)
        self.auxiliary, self.prior = nn.ModuleDict(auxiliary), prior

    def forward(self, batch: Batch) -> Distribution:
        own = lambda m: self.private[m](batch.x[m]) if m in batch.x else self.auxiliary[m]()
        return Joint(self.shared(batch), *map(own, self.private))

    def strata(self, batch: Batch) -> list[Distribution]:
        """One stratum per modality m: its shared expert and private latent, the other private latents' auxiliaries."""
        mixture, (_, *prior) = self.shared(batch), self.prior().parts
        components = mixture.components if isinstance(mixture, Mixture) else [mixture]
        own = lambda n, m, p: self.private[n](batch.x[n]) if n == m else Proposal(self.auxiliary[n](), p)
        return [
            Joint(Proposal(u, mixture), *(own(n, m, p) for n, p in zip(self.private, prior, strict=True)))
            for m, u in zip(batch.x, components, strict=True)
        ]


class Concatenated(nn.Module):
    """q(z | x) = prod_m q(z_m | x_m) on concatenated latents; what is not seen is drawn given what is, by `fill`."""

    def __init__(
        self, experts: Mapping[str, nn.Module], fill: Callable[[dict[str, Distribution]], Distribution]
    ) -> None:
        super().__init__()
        self.experts, self.fill = nn.ModuleDict(experts), fill

    def forward(self, batch: Batch) -> Distribution:
        q = {m: self.experts[m](x) for m, x in batch.x.items()}
        if all(m in q for m in self.experts) and not batch.present:
            return Joint(*(q[m] for m in self.experts))
        return self.fill(q)
