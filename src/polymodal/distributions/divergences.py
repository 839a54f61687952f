"""KL divergences, in closed form where there is one; `detach`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from polymodal.distributions.mixture import Joint, Mixture, Proposal
from polymodal.distributions.normal import DiagLaplace, DiagNormal
from polymodal.distributions.sums import sum_of


@singledispatch
def detach(q: Distribution) -> Distribution:
    """The same distribution with parameters that carry no gradient (for DReG).

    Raises ValueError for a distribution that it is not registered for.
    """
    raise ValueError(
        f"detach is not defined for {type(q).__name__}; register it with"
        " polymodal.distributions.divergences.detach."
    )


detach.register(DiagNormal)(lambda q: DiagNormal(q.loc.detach(), q.scale.detach()))
detach.register(DiagLaplace)(lambda q: DiagLaplace(q.loc.detach(), q.scale.detach()))
detach.register(Mixture)(lambda q: Mixture([detach(c) for c in q.components], q.weights.detach()))
detach.register(Joint)(lambda q: Joint(*map(detach, q.parts)))
detach.register(Proposal)(lambda q: Proposal(q.draw, detach(q.density), q.nuisance))


def divergence(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    """KL(q || p), (B,), nats: exact where it has a closed form; by convexity an upper bound for a
    mixture q of such components; otherwise log q(z) - log p(z), which is unbiased.

    Args:
        q: of batch_shape (B,).
        p: of batch_shape () or (B,).
        z: a sample of q, (B, D), used only where there is no closed form.
    """
    if isinstance(q, Joint) and isinstance(p, Joint):
        return sum_of(
            divergence(a, b, s)
            for a, b, s in zip(q.parts, p.parts, z.split(q.sizes, -1), strict=True)
        )
    value = _closed(q, p)
    return q.log_prob(z) - p.log_prob(z) if value is None else value


def _closed(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q || p) in closed form, (B,), for a mixture q the mean of its components'; None if there
    is none.
    """
    if isinstance(q, Mixture):
        each = _all_closed([(c, p) for c in q.components])
        if each is None:
            return None
        weights = q.weights.to(each)
        return torch.where(weights > 0, weights * each, 0).sum(-1)
    if isinstance(q, Joint) and isinstance(p, Joint):
        each = _all_closed([*zip(q.parts, p.parts, strict=True)])
        return None if each is None else each.sum(-1)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


def _all_closed(pairs: Sequence[tuple[Distribution, Distribution]]) -> Tensor | None:
    """The closed forms of pairs, (B, pairs); None unless all of them have one."""
    values = [value for pair in pairs if (value := _closed(*pair)) is not None]
    return torch.stack(values, -1) if len(values) == len(pairs) else None
