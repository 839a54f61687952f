"""Stratified draws: a mixture's components have their exact shares."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.distributions.mixture import Joint, Mixture


def stratified(q: Distribution, n: int) -> Tensor:
    """n draws of q, (n, B, D), in which a mixture's components have their exact shares, up to one
    draw.

    Systematic sampling: draw k of a random order takes the component at the quantile (k + u) / n, u
    ~ U(0, 1), so that each single draw has the law of q and averages are unbiased with less
    variance.

    >>> from polymodal.distributions.normal import DiagNormal
    >>> low, high = (DiagNormal(torch.full((1, 1), m), torch.ones(1, 1)) for m in (-50.0, 50.0))
    >>> (stratified(Mixture([low, high]), 10) > 0).sum()
    tensor(5)
    """
    if isinstance(q, Joint):
        return torch.cat([stratified(p, n) for p in q.parts], dim=-1)
    if not isinstance(q, Mixture):
        return q.sample(torch.Size((n,)))
    draws = torch.stack([c.sample(torch.Size((n,))) for c in q.components], dim=-2)
    share = q.weights.to(draws.device, torch.float64).expand(*q.batch_shape, -1).cumsum(-1)
    order = torch.randperm(n, device=draws.device).unsqueeze(-1)
    place = (order + torch.rand(n, *q.batch_shape, device=draws.device, dtype=torch.float64)) / n
    pick = (place.unsqueeze(-1) * share[..., -1:] >= share[..., :-1]).sum(-1)
    return torch.take_along_dim(draws, pick[..., None, None], dim=-2).squeeze(-2)
