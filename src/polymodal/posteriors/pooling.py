"""Pooling: one posterior of several experts q(z | x_m), for the experts that are present.

A pooling is a family of subsets and a rule that combines the experts of a subset into one
distribution; the posterior is the mixture over the family. POOLINGS names them. Every rule
ignores absent experts (`present` False) and returns a single expert unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.distributions.mixture import Mixture
from polymodal.distributions.normal import DiagNormal, product

LIMIT = 10  # modalities whose subsets are all enumerated

Family = Callable[[Sequence[str]], list[tuple[str, ...]]]
Present = Sequence[Tensor] | None
Rule = Callable[[Sequence[Any], Present], Distribution]


def whole(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The full set only: a product of experts.

    >>> whole(["a", "b"])
    [('a', 'b')]
    """
    return [tuple(names)]


def whole_of_few(names: Sequence[str]) -> list[tuple[str, ...]]:
    """The full set, for a rule with a component for each pair, each charged the density of all.

    Raises ValueError for more than `LIMIT` names.
    """
    if len(names) > LIMIT:
        raise ValueError(
            f"Exact Hoelder pooling takes at most {LIMIT} modalities, got {len(names)}: its cost"
            " grows as their number to the power 4. Take moments=true (pooling=hoelder_moments), or"
            " a method of another pooling, such as mvtcae or mmvae."
        )
    return whole(names)


def singletons(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every subset of one modality: a mixture of experts.

    >>> singletons(["a", "b"])
    [('a',), ('b',)]
    """
    return [(m,) for m in names]


def powerset(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Every non-empty subset, in order of size: a mixture of products of experts.

    Raises ValueError for more than `LIMIT` names: their number is 2^M - 1.

    >>> powerset(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    if len(names) > LIMIT:
        raise ValueError(
            f"{len(names)} modalities have 2^{len(names)} - 1 = {2 ** len(names) - 1:,} subsets;"
            f" methods, poolings and measurements of all subsets take at most {LIMIT} modalities"
            f" ({2**LIMIT - 1:,} subsets). Take a method of another pooling, such as mvtcae or"
            " mmvae, or name the subsets."
        )
    return list(chain.from_iterable(combinations(names, r) for r in range(1, len(names) + 1)))


def _stacked(experts: Sequence[DiagNormal], present: Present) -> tuple[Tensor, Tensor, Tensor]:
    """Locations and scales (n, B, D), and which experts are present, as numbers (n, B, 1)."""
    loc = torch.stack([q.loc for q in experts])
    scale = torch.stack([q.scale for q in experts])
    if present is None:
        return loc, scale, loc.new_ones(*loc.shape[:2], 1)
    return loc, scale, torch.stack(list(present)).unsqueeze(-1).to(loc)


def barycentre(experts: Sequence[DiagNormal], present: Present = None) -> DiagNormal:
    """The 2-Wasserstein barycentre of diagonal normals: the means of the locations and of the
    scales (MWB-VAE).

    >>> q = barycentre([DiagNormal(torch.full((1, 1), x), torch.ones(1, 1)) for x in (0.0, 1.0)])
    >>> q.loc.item(), q.scale.item()
    (0.5, 1.0)
    """
    loc, scale, mask = _stacked(experts, present)
    count = mask.sum(0)
    return DiagNormal((loc * mask).sum(0) / count, (scale * mask).sum(0) / count)


def geometric(experts: Sequence[DiagNormal], present: Present = None) -> DiagNormal:
    """The normalised geometric mean, prod_m q_m^(1/n): the dynamic prior of mmJSD (Sutter et al.
    2020).
    """
    loc, scale, mask = _stacked(experts, present)
    precision = mask * scale.pow(-2) / mask.sum(0)
    total = precision.sum(0)
    return DiagNormal((precision * loc).sum(0) / total, total.rsqrt())


def correlated(
    experts: Sequence[DiagNormal], present: Present = None, rho: float = 0.4
) -> DiagNormal:
    """Consensus of dependent experts (CoDE-VAE, Mancisidor et al. 2025): errors with correlation
    `rho`.

    With covariance S_ij = rho s_i s_j between the experts' errors (s_i^2 for i = j), the best
    linear estimate has weights S^-1 1 / (1' S^-1 1) and variance 1 / (1' S^-1 1). rho = 0 is the
    product of the experts.

    Raises ValueError unless 0 <= rho < 1.
    """
    if not 0 <= rho < 1:
        raise ValueError(
            f"The correlation rho of experts must be between 0 and 1 (1 excluded), got {rho}."
        )
    loc, scale, mask = _stacked(experts, present)
    v = mask / scale
    # R^-1 v = (v - shared) / (1 - rho) for the correlation matrix R
    shared = rho / (1 + (mask.sum(0) - 1) * rho) * v.sum(0)
    weights = v * (v - mask * shared) / (1 - rho)
    total = weights.sum(0)
    return DiagNormal((weights * loc).sum(0) / total, total.rsqrt())


def hoelder(
    experts: Sequence[DiagNormal], present: Present = None, moments: bool = False
) -> Distribution:
    """Hoelder pooling with exponent 1/2, (sum_m sqrt(q_m))^2 normalised: between mixture and
    product of experts.

    Exactly the mixture sum_j c q_j + sum_{i<j} 2 c S_ij N(mu_ij, s_ij^2), with mu_ij = (mu_i s_j^2
    + mu_j s_i^2) / (s_i^2 + s_j^2), s_ij^2 = 2 s_i^2 s_j^2 / (s_i^2 + s_j^2) and S_ij the integral
    of sqrt(q_i q_j) (Hoelder++, arXiv:2606.13381).

    Args:
        moments: the normal of the same mean and variances instead (HELVAE, arXiv:2601.06572).
    """
    loc, scale, mask = _stacked(experts, present)
    components, weights = list(experts), list(mask.squeeze(-1))
    for i, j in combinations(range(len(experts)), 2):
        total = scale[i].square() + scale[j].square()
        mean = (loc[i] * scale[j].square() + loc[j] * scale[i].square()) / total
        components.append(DiagNormal(mean, (2 / total).sqrt() * scale[i] * scale[j]))
        distance = (loc[i] - loc[j]).square() / (4 * total)
        log_overlap = 0.5 * (2 * scale[i] * scale[j] / total).log() - distance
        both = mask[i].squeeze(-1), mask[j].squeeze(-1)
        weights.append((2 * log_overlap.sum(-1).exp()) * both[0] * both[1])
    q = Mixture(components, torch.stack(weights, dim=-1))
    return _moments(q, components) if moments else q


def _moments(q: Mixture, components: Sequence[DiagNormal]) -> DiagNormal:
    """The normal with the mean and the variances of a mixture of normals."""
    share = q.weights.T.unsqueeze(-1)
    means = torch.stack([c.mean for c in components])
    variances = torch.stack([c.variance for c in components])
    mean = (share * means).sum(0)
    return DiagNormal(mean, ((share * (variances + (means - mean).square())).sum(0)).sqrt())


@dataclass(frozen=True)
class Pooling:
    """A family of subsets, and the rule that combines the experts of a subset.

    Args:
        family: the subsets that are mixed.
        rule: (experts, presence masks or None) -> one distribution.
        normal: whether the rule needs normal experts (that of a mixture of single experts does
            not).
    """

    family: Family
    rule: Rule
    normal: bool = True


POOLINGS: dict[str, Pooling] = {
    "product": Pooling(whole, product),  # product of experts: MVAE, MVTCAE
    "mixture": Pooling(singletons, product, normal=False),  # mixture of experts: MMVAE, mmJSD
    "mixture_of_products": Pooling(powerset, product),  # of all subsets: MoPoE
    "barycentre": Pooling(whole, barycentre),  # Wasserstein barycentre
    "mixture_of_barycentres": Pooling(powerset, barycentre),  # of all subsets: MWB-VAE
    "geometric": Pooling(whole, geometric),  # normalised geometric mean
    "correlated": Pooling(whole, correlated),  # consensus of experts whose errors are correlated
    "mixture_of_correlated": Pooling(powerset, correlated),  # of all subsets: CoDE-VAE
    "hoelder": Pooling(whole_of_few, hoelder),  # with exponent 1/2, exactly: Hoelder++
    "hoelder_moments": Pooling(whole, partial(hoelder, moments=True)),  # its moments: HELVAE
}
