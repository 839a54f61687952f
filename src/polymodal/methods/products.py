"""Methods whose posterior pools unimodal experts: products, mixtures, mixtures of products, and
what lies between.

`pooled` combines pooling, posterior family, prior and objective freely; the others are the
published ones. All of them train on incomplete data: an absent expert is left out of the pooling,
an absent modality out of the likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from polymodal.batch import Batch, Modality
from polymodal.distributions.sums import sum_of
from polymodal.methods.builder import Parts, rise
from polymodal.methods.options import check_share
from polymodal.model import Method, MultimodalVAE, Stage
from polymodal.objectives import Loss, Part, counted, elbo, elbos, iwae
from polymodal.rng import noise

Networks = Mapping[str, str] | None


def random_subset(batch: Batch, names: Sequence[str], least: int = 2) -> dict[str, Tensor]:
    """For each sample a uniformly random proper subset of its modalities of `least` and more, as
    presence masks.

    A sample that has none such keeps nothing; with least = 1 the one modality it has.
    """
    like, count = next(iter(batch.x.values())).float().flatten(1), len(names)
    here = torch.stack([batch.mask([m]) for m in names], dim=-1)
    ways = [
        [
            math.comb(n, r) if least <= r < n or r == n == least == 1 else 0
            for r in range(1, count + 1)
        ]
        for n in range(count + 1)
    ]
    cumulative = like.new_tensor(ways).cumsum(-1)[here.sum(-1)]
    uniform = (1 - noise(like, [len(batch), 1], torch.rand)) * cumulative[:, -1:]
    size = torch.where(cumulative[:, -1] > 0, 1 + (cumulative < uniform).sum(-1), 0)
    rank = (
        torch.where(here, noise(like, [len(batch), count], torch.rand), 2).argsort(-1).argsort(-1)
    )
    return {m: rank[:, i] < size for i, m in enumerate(names)}


def _mvae_parts(model: MultimodalVAE, batch: Batch, extra: int) -> list[Part]:
    """The whole, every modality alone, and `extra` random subsets in between."""
    posterior, q = model.posterior, model.posterior.unimodal(batch)
    names = list(q)
    parts = [Part(posterior.pool(q, batch.present), names, batch.present)]
    if len(names) > 1:
        parts += [Part(own, [m], batch.present) for m, own in posterior.own(q).items()]
    for _ in range(extra if len(names) > 2 else 0):
        keep = random_subset(batch, names)
        parts.append(Part(posterior.pool(q, keep), names, keep))
    return parts


def _as_seen(batch: Batch, part: Part) -> Batch:
    return Batch({m: batch.x[m] for m in part.names}, part.present)


def mvae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    prior_expert: bool = True,
    extra: int = 1,
    beta: float = 1.0,
    warmup: float = 0.0,
    objective: str = "elbo",
    k: int = 1,
) -> Method:
    """MVAE (Wu and Goodman 2018): a product of experts; ELBOs of the whole, of each modality, and
    of `extra` subsets.

    Their sum is not a bound on log p(x). Every sample has random subsets of its own.

    Args:
        prior_expert: whether p(z) is one more expert, as in the paper.
        beta, warmup, objective, k: see `pooled`.
    """
    model = Parts(modalities, latent, networks).pooled("product", prior_expert=prior_expert)

    def loss(batch: Batch, progress: float) -> Loss:
        parts, weight = _mvae_parts(model, batch, extra), beta * rise(progress, warmup)
        if objective == "elbo":
            return elbos(model, batch, parts, kl=weight)
        each = [
            iwae(model, _as_seen(batch, p), p.q, k, beta=weight, estimator=objective) for p in parts
        ]
        return Loss(
            sum_of(counted(part, one.value) for part, one in zip(parts, each, strict=True)),
            each[0].terms,
        )

    return Method(model, [Stage("all", loss, [model])])


def present_count(batch: Batch, names: Sequence[str]) -> Tensor:
    """How many of `names` each sample has, (B,), at least 1."""
    here = [batch.mask([m]) for m in names]
    return torch.stack(here).sum(0).clamp_min(1)


def mvtcae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    alpha: float = 5 / 6,
    beta: float = 2.5,
) -> Method:
    """MVTCAE (Hwang et al. 2021): a product of experts, L(q; (n - alpha) / n, beta (1 - alpha),
    beta alpha / n).

    Args:
        alpha: between 0, a plain ELBO, and 1, the conditional bottlenecks alone; n counts a
            sample's modalities.
        beta: weight of the divergences.
    """
    check_share(alpha=alpha)
    model = Parts(modalities, latent, networks).pooled("product")

    def loss(batch: Batch, progress: float) -> Loss:
        q = model.posterior.unimodal(batch)
        n = present_count(batch, list(q))
        joint, own = model.posterior.pool(q, batch.present), model.posterior.own(q)
        a, c = (n - alpha) / n, beta * alpha / n
        return elbo(
            model, batch, joint, likelihood=a, kl=beta * (1 - alpha), consensus=c, experts=own
        )

    return Method(model, [Stage("all", loss, [model])])


def crmvae(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    beta: float = 1.0,
) -> Method:
    """CRMVAE (Suzuki and Matsuo 2023): a product of experts, coordinated with each of them, over M
    + 1.

    (E_q log p(X|z) + sum_m E_{q_m} log p(x_m|z) - beta [KL(q||p) + sum_m KL(q||q_m)]) / (M + 1).
    """
    model = Parts(modalities, latent, networks).pooled("product")

    def loss(batch: Batch, progress: float) -> Loss:
        q = model.posterior.unimodal(batch)
        joint, own = model.posterior.pool(q, batch.present), model.posterior.own(q)
        parts = [
            Part(joint, list(q), batch.present),
            *(Part(e, [m], batch.present) for m, e in own.items()),
        ]
        value, terms = elbos(model, batch, parts, kl=[beta] + [0.0] * len(own))
        pull = elbo(model, batch, joint, likelihood=0, kl=0, consensus=beta, experts=own)
        return Loss((value + pull.value) / (present_count(batch, list(q)) + 1), terms | pull.terms)

    return Method(model, [Stage("all", loss, [model])])
