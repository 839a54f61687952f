"""Learned likelihoods p(g_m | z) of embeddings, whose product with the aggregate posterior a(z) is
the posterior given several modalities: a(z) prod_m p(g_m | z)^t.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.analysis.projection import Projection
from polymodal.batch import Batch
from polymodal.methods.builder import Builder
from polymodal.methods.calibration import fit_product
from polymodal.methods.embeddings import CCA_RIDGE, fit_directions
from polymodal.methods.fitted_prior import fit_mixture
from polymodal.methods.joint import keep_joint, kept_joint
from polymodal.methods.settings import SamplerSettings
from polymodal.model import Loss, MultimodalVAE, Stage, Step
from polymodal.posteriors import JointWithLikelihoods, SampledLikelihoods
from polymodal.priors import NormalMixture

RIDGE = 0.02  # of the mean variance, added to the variances of the aggregate's components
Model = MultimodalVAE[JointWithLikelihoods]


def likelihood_stage(components: int) -> Stage:
    """Trains p(g_m | z) on the frozen embeddings and draws of the frozen joint posterior, then fits
    the aggregate posterior, a mixture of `components` normals, and the product's exponent.
    """
    return Stage(
        "likelihoods",
        Step(likelihood_loss),
        ["posterior.likelihoods"],
        Step(keep_joint, embed=True),
        Step(finish_product, components=components),
    )


def make_shared(builder: Builder, size: int) -> dict[str, nn.Module]:
    """For each modality a linear map of its surrogate's features to `size` shared directions.

    Raises ValueError for fewer than two modalities.
    """
    if len(builder.names) < 2:
        raise ValueError(
            f"product=likelihoods needs two modalities or more, got {builder.names}; take"
            " product=experts."
        )
    features = 2 * builder.latent
    return {
        m: nn.Sequential(nn.Linear(features, size), Projection(size)).requires_grad_(False)
        for m in builder.names
    }


def with_likelihoods(
    builder: Builder,
    sampler: SamplerSettings,
    components: int,
    size: int,
    joint: nn.Module,
    experts: Mapping[str, nn.Module],
    shares: bool = False,
) -> JointWithLikelihoods:
    """The posterior of a joint encoder and experts whose likelihoods describe `size` numbers.

    Args:
        components: of the aggregate posterior, a mixture of normals.
        shares: whether these numbers are the directions that the experts' features share, in place
            of embeddings.
    """
    combine = SampledLikelihoods(NormalMixture(builder.latent, components), sampler.make())
    shared = make_shared(builder, size) if shares else None
    return JointWithLikelihoods(joint, experts, combine, size, shared)


def direction_stage() -> Stage:
    """Finds the directions that the features of the frozen surrogates share: CCA in closed form."""
    return Stage("directions", Step(no_loss), [], finish=Step(fit_shared))


def no_loss(model: Model, batch: Batch, progress: float) -> Loss:
    """Of a stage that trains nothing."""
    raise ValueError("This stage has a closed form and no loss.")


@torch.no_grad()
def fit_shared(model: Model, train: Iterable[Batch], val: Iterable[Batch]) -> dict[str, Any]:
    """Sets `posterior.shared`; all directions above the validation spectrum's noise are used."""
    experts: Any = model.posterior.experts
    shared: Any = model.posterior.shared
    raw = {m: experts[m].net for m in experts}
    linear, projections = ({m: g[i] for m, g in shared.items()} for i in (0, 1))
    return fit_directions(raw, linear, projections, model, (train, val), CCA_RIDGE)


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
def finish_product(
    model: Model, train: Iterable[Batch], val: Iterable[Batch], components: int
) -> dict[str, float]:
    """`fit_aggregate` on training samples, then `fit_product` on validation samples."""
    return fit_aggregate(model, train, val, components) | fit_product(model, val)


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
