"""Learned likelihoods p(g_m | z) of embeddings, whose product with the aggregate posterior a(z) is
the posterior given several modalities: a(z) prod_m p(g_m | z).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.methods.fitted_prior import fit_mixture
from polymodal.methods.joint import keep_joint, kept_joint
from polymodal.model import Loss, MultimodalVAE, Stage, Step
from polymodal.posteriors import JointWithLikelihoods

RIDGE = 0.02  # added to the variances of the aggregate's components
Model = MultimodalVAE[JointWithLikelihoods]


def likelihood_stage(components: int) -> Stage:
    """Trains p(g_m | z) on the frozen embeddings and draws of the frozen joint posterior, then fits
    the aggregate posterior, a mixture of `components` normals.
    """
    return Stage(
        "likelihoods",
        Step(likelihood_loss),
        ["posterior.likelihoods"],
        Step(keep_joint, embed=True),
        Step(fit_aggregate, components=components),
    )


def likelihood_loss(model: Model, batch: Batch, progress: float) -> Loss:
    """-sum_m log p(g_m | z) at z ~ q(z | X), on a batch that `keep_joint` made."""
    z, likelihoods = kept_joint(batch).rsample(), model.posterior.likelihoods
    logs: dict[str, Tensor] = {}
    for m, g in batch.x.items():
        likelihood: Any = likelihoods[m]
        logs[m] = batch.where(m, likelihood.log_prob(z, g))
    total = torch.stack([*logs.values()]).sum(0)
    return Loss(-total, {f"log_g_{m}": log for m, log in logs.items()})


@torch.no_grad()
def fit_aggregate(
    model: Model, train: Iterable[Batch], val: Iterable[Batch], components: int
) -> dict[str, float]:
    """Fits a(z) to one draw of q(z | X) for each training sample; held-out log-densities, nats."""
    aggregate: Any = model.posterior.aggregate
    fit_mixture(aggregate, _draws(train), components, RIDGE)
    z = _draws(val)
    return {
        "log_aggregate": float(aggregate().log_prob(z).mean()),
        "log_prior": float(model.prior().log_prob(z).mean()),
    }


def _draws(batches: Iterable[Batch]) -> Tensor:
    return torch.cat([kept_joint(batch).sample() for batch in batches])
