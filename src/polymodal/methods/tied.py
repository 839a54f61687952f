"""Methods whose experts are tied to each other instead of pooled: MEME's mutual supervision, and
coordinated VAEs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations, permutations
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality
from polymodal.distributions.divergence import divergence
from polymodal.distributions.normal import DiagNormal
from polymodal.distributions.sums import sum_of
from polymodal.methods.builder import Parts
from polymodal.methods.products import present_count
from polymodal.model import Method, MultimodalVAE, Stage
from polymodal.objectives import Loss, Part, elbos
from polymodal.posteriors.pooled import PooledExperts
from polymodal.posteriors.pooling import singletons
from polymodal.priors import MixedPrior, PseudoInputs

Networks = Mapping[str, str] | None


def _directed(
    model: MultimodalVAE,
    batch: Batch,
    experts: Mapping[str, Any],
    s: str,
    t: str,
    k: int,
    gamma: float,
    closed: bool,
) -> Tensor:
    """MEME's bound on log p(s|t) in the direction s -> t, (B,), nats, for samples that have both."""
    q, prior = experts[s], experts[t]
    log = lambda m, z: model.weights[m] * model.decoders[m](z).log_prob(batch.x[m])
    draws = q.rsample(torch.Size([k + 1]))  # the last is the z of the bound
    given_all = log(t, draws)
    given_z, given_s = given_all[-1], torch.logsumexp(given_all, 0) - math.log(k + 1)
    z = draws[-1]
    weight = (given_z - given_s).exp().detach()
    gap = divergence(q, prior, z) if closed else q.log_prob(z) - prior.log_prob(z)
    return weight * (log(s, z) - given_z - gap) + gamma * given_s


def _alone(model: MultimodalVAE, batch: Batch, q: Any, m: str, prior: nn.Module) -> Tensor:
    """The ELBO of modality m with its pseudo-inputs' prior, (B,), nats."""
    z = q.rsample()
    log = model.decoders[m](z).log_prob(batch.x[m])
    return model.weights[m] * log - divergence(q, prior(), z)


def meme(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    k: int = 10,
    gamma: float = 1.0,
    closed: bool = False,
    pseudo: int = 50,
) -> Method:
    """MEME (Joy et al. 2022): every expert is the others' prior; beyond the paper, for any number
    of modalities.

    For each ordered pair (s, t), their mean: w [log p(s|z) - log q(t|z) - log q(z|s) / q(z|t)] +
    gamma log q(t|s), with w = q(t|z) / q(t|s) without gradient. A sample's only modality s is
    bounded with p(z) = mean_i q(z|u_i) instead.

    Args:
        k: further draws in the estimate of q(t|s); gamma: 1 as derived, 10 in the authors' code;
            pseudo: inputs u_i.
        closed: KL(q(z|s)||q(z|t)) for the last logarithm, as the authors' code; w depends on z, so
            that is no bound.
    """
    parts = Parts(modalities, latent, networks)
    experts = parts.experts()
    prior = MixedPrior({m.name: PseudoInputs(experts[m.name], m, pseudo) for m in parts.modalities})
    model = MultimodalVAE(
        prior, parts.decoders(), PooledExperts(experts, singletons, prior), parts.modalities
    )
    directed = partial(_directed, model, k=k, gamma=gamma, closed=closed)

    def loss(batch: Batch, progress: float) -> Loss:
        q, here = model.posterior.unimodal(batch), {m: batch.mask([m]) for m in batch.x}
        count = present_count(batch, list(q))
        both = lambda s, t: torch.where(here[s] & here[t], directed(batch, q, s, t), 0)
        terms = {f"{s}_{t}": both(s, t) for s, t in permutations(batch.x, 2)}
        lone = (
            batch.x if batch.present or len(batch.x) == 1 else ()
        )  # on complete data nobody is alone
        alone = [
            torch.where(here[m] & (count == 1), _alone(model, batch, q[m], m, prior.parts[m]), 0)
            for m in lone
        ]
        pairs = [v / (count * (count - 1)).clamp_min(1) for v in terms.values()]
        return Loss(-sum_of([*alone, *pairs]), terms or {"alone": sum_of(alone)})

    return Method(model, [Stage("all", loss, [model])])


def _apart(kind: str, q: DiagNormal, p: DiagNormal) -> Tensor:
    """How far two experts are, (B,)."""
    if kind == "kl":
        return divergence(q, p, q.loc) + divergence(p, q, p.loc)
    squares = (q.loc - p.loc).square()
    return (squares if kind == "mean" else squares + (q.scale - p.scale).square()).sum(-1)


def coordinated(
    modalities: Sequence[Modality],
    *,
    latent: int = 20,
    networks: Networks = None,
    tie: float = 1.0,
    distance: str = "mean",
    beta: float = 1.0,
) -> Method:
    """Tied VAEs (Yin et al. 2017; Wang et al. 2016): one VAE per modality, the latents of a sample
    pulled together.

    sum_m ELBO_m - tie sum_{m<n} d(q_m, q_n); several given modalities are drawn from in equal
    parts.

    Args:
        distance: "mean", |mu_m - mu_n|^2; "wasserstein", with |s_m - s_n|^2 besides; "kl", in both
            directions.
    """
    if distance not in ("mean", "wasserstein", "kl"):
        raise ValueError(f"The distance is mean, wasserstein or kl, not {distance!r}.")
    model = Parts(modalities, latent, networks).pooled("mixture")

    def loss(batch: Batch, progress: float) -> Loss:
        q = model.posterior.unimodal(batch)
        value, terms = elbos(
            model, batch, [Part(e, [m], batch.present) for m, e in q.items()], kl=beta
        )
        gaps = [
            torch.where(batch.mask([m, n]), _apart(distance, q[m], q[n]), 0)
            for m, n in combinations(q, 2)
        ]
        apart = sum_of(gaps) if gaps else torch.zeros_like(value)
        return Loss(value + tie * apart, terms | {"apart": apart})

    return Method(model, [Stage("all", loss, [model])])
