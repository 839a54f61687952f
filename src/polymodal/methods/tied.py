"""Methods whose experts are tied to each other instead of pooled: MEME and coordinated VAEs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from itertools import combinations, permutations
from typing import Any, Literal

import torch
from torch import Tensor, nn

from polymodal.batch import Batch
from polymodal.checks import NonNegative, Size
from polymodal.distributions import DiagNormal, divergence, sum_of
from polymodal.methods.builder import Builder
from polymodal.methods.common import Pooled, present_count, whole_model
from polymodal.methods.method import method
from polymodal.model import Loss, Method, MultimodalVAE, Step
from polymodal.objectives import ElboTerm, elbos
from polymodal.posteriors import PooledExperts
from polymodal.posteriors.pooling import singletons
from polymodal.priors import MixedPrior, PseudoInputs

Distance = Literal["mean", "wasserstein", "kl"]


def _weighted_log(model: MultimodalVAE, batch: Batch, m: str, z: Tensor) -> Tensor:
    return model.weights[m] * model.log_p(m, batch, z)


def _directed(
    model: MultimodalVAE,
    batch: Batch,
    experts: Mapping[str, Any],
    pair: tuple[str, str],
    k: int,
    gamma: float,
    analytic_kl: bool,
) -> Tensor:
    """MEME's bound on log p(s|t) in the direction s -> t, (B,), nats, where both are present."""
    s, t = pair
    q, prior = experts[s], experts[t]
    draws = q.rsample(torch.Size([k + 1]))  # the last is the z of the bound
    log_all = _weighted_log(model, batch, t, draws)
    log_z, log_s = log_all[-1], torch.logsumexp(log_all, 0) - math.log(k + 1)
    z = draws[-1]
    weight = (log_z - log_s).exp().detach()
    gap = divergence(q, prior, z) if analytic_kl else q.log_prob(z) - prior.log_prob(z)
    return weight * (_weighted_log(model, batch, s, z) - log_z - gap) + gamma * log_s


def _unpaired(model: MultimodalVAE, batch: Batch, q: Any, m: str, prior: nn.Module) -> Tensor:
    """The ELBO of modality m with the prior of its pseudo-inputs, (B,), nats."""
    z = q.rsample()
    log = model.log_p(m, batch, z)
    return model.weights[m] * log - divergence(q, prior(), z)


def _pair_terms(batch: Batch, bound: Any) -> dict[str, Tensor]:
    """The bound of every ordered pair, 0 for samples that lack one of the two."""
    return {
        f"{s}_{t}": torch.where(batch.mask([s]) & batch.mask([t]), bound(pair=(s, t)), 0)
        for s, t in permutations(batch.x, 2)
    }


def _only_terms(model: Pooled, batch: Batch, q: Mapping[str, Any], count: Tensor) -> list[Tensor]:
    """The ELBO of a sample's only modality, 0 for samples that have several."""
    if not batch.present and len(batch.x) > 1:  # complete data: every sample has several
        return []
    prior: Any = model.posterior.prior
    return [
        torch.where(
            batch.mask([m]) & (count == 1), _unpaired(model, batch, q[m], m, prior.parts[m]), 0
        )
        for m in batch.x
    ]


def meme_loss(
    model: Pooled, batch: Batch, progress: float, k: int, gamma: float, analytic_kl: bool
) -> Loss:
    """The mean of MEME's bounds over ordered pairs; the ELBO of a sample's only modality."""
    q = model.posterior.unimodal(batch)
    count = present_count(batch, list(q))
    bound = partial(_directed, model, batch, q, k=k, gamma=gamma, analytic_kl=analytic_kl)
    terms = _pair_terms(batch, bound)
    unpaired = _only_terms(model, batch, q, count)
    pairs = [v / (count * (count - 1)).clamp_min(1) for v in terms.values()]
    return Loss(-sum_of([*unpaired, *pairs]), terms or {"unpaired": sum_of(unpaired)})


@method(shared_latent=False)
def meme(
    builder: Builder,
    *,
    k: Size = 10,
    gamma: NonNegative = 1.0,
    analytic_kl: bool = False,
    pseudo_inputs: Size = 50,
) -> Method:
    """MEME (Joy et al. 2022): every expert is the prior of the others; extended to any number of
    modalities.

    For each ordered pair (s, t), their mean: w [log p(s|z) - log q(t|z) - log q(z|s) / q(z|t)] +
    gamma log q(t|s), with w = q(t|z) / q(t|s) without gradient. A sample's only modality s is
    bounded with p(z) = mean_i q(z|u_i) instead.

    Args:
        k: further draws in the estimate of q(t|s).
        gamma: 1 as derived, 10 in the authors' code.
        analytic_kl: KL(q(z|s)||q(z|t)) for the last logarithm, as the authors' code; w depends on
            z, so that the result is no bound.
        pseudo_inputs: how many inputs u_i.
    """
    experts = builder.experts()
    parts = {m.name: PseudoInputs(experts[m.name], m, pseudo_inputs) for m in builder.modalities}
    prior = MixedPrior(parts)
    decoders, q = builder.decoders(), PooledExperts(experts, singletons, prior)
    model = MultimodalVAE(prior, decoders, q, builder.modalities)
    return Method(model, whole_model(Step(meme_loss, k=k, gamma=gamma, analytic_kl=analytic_kl)))


def expert_distance(kind: Distance, q: DiagNormal, p: DiagNormal) -> Tensor:
    """The distance between two experts, (B,)."""
    if kind == "kl":
        return divergence(q, p, q.loc) + divergence(p, q, p.loc)
    squares = (q.loc - p.loc).square()
    if kind == "wasserstein":
        squares = squares + (q.scale - p.scale).square()
    return squares.sum(-1)


def coordinated_loss(
    model: Pooled, batch: Batch, progress: float, coupling: float, distance: Distance, beta: float
) -> Loss:
    """Each modality's ELBO, and the distances between the experts of a sample."""
    q = model.posterior.unimodal(batch)
    terms = [ElboTerm(e, [m], batch.present) for m, e in q.items()]
    value, logs = elbos(model, batch, terms, kl=beta)
    gaps = [
        torch.where(batch.mask([m, n]), expert_distance(distance, q[m], q[n]), 0)
        for m, n in combinations(q, 2)
    ]
    gap = sum_of(gaps) if gaps else torch.zeros_like(value)
    return Loss(value + coupling * gap, logs | {"expert_distance": gap})


@method(shared_latent=False)
def coordinated(
    builder: Builder,
    *,
    coupling: NonNegative = 1.0,
    distance: Distance = "mean",
    beta: NonNegative = 1.0,
) -> Method:
    """Tied VAEs (Yin et al. 2017; Wang et al. 2016): one VAE per modality, the latents of a sample
    pulled together.

    sum_m ELBO_m - coupling sum_{m<n} d(q_m, q_n). Several given modalities: each is drawn from
    equally often.

    Args:
        coupling: weight of the distances.
        distance: "mean", |mu_m - mu_n|^2; "wasserstein", with |s_m - s_n|^2 added; "kl", in both
            directions.
    """
    loss = Step(coordinated_loss, coupling=coupling, distance=distance, beta=beta)
    return Method(builder.pooled(singletons), whole_model(loss))
