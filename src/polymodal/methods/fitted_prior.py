"""A prior fitted after training to the aggregate posterior."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from polymodal.batch import Batch
from polymodal.diffusion.masking import TrainingMasks
from polymodal.methods.diffusion_stages import LATENT_BLOCK, diffusion_prior, diffusion_stages
from polymodal.model import Loss, Method, MultimodalVAE, Stage, Step
from polymodal.priors import FittedPrior, FlowPrior, NormalMixture

MAX_FULL_COVARIANCE_DIM = (
    64  # dimensions up to which a fitted mixture's components have full covariances
)
Kind = Literal["mixture", "flow", "diffusion"]
JOINT = TrainingMasks(conditional=False)  # of a diffusion of one block
RENAMED = {"prior.base": "prior"}


def with_fitted_prior(method: Method, kind: Kind, components: int = 10) -> Method:
    """`method` with one more stage, "prior", which fits a prior to draws of its posterior given all
    modalities of each sample.

    Raises ValueError for a method that learns a prior already.
    """
    if any(stage.name == "prior" for stage in method.stages):
        raise ValueError(
            "This method learns a prior on its latents already: leave fitted_prior out."
        )
    model = method.model
    stages = [_without_prior(stage, model) for stage in method.stages]
    if kind == "diffusion":
        model.prior, fitting = _diffusion(model.prior)
    else:
        model.prior, fitting = _mixture_or_flow(model.prior, kind, components)
    built_from = {**(stages[-1].built_from or {}), "fitted_prior": kind, "components": components}
    stages += [replace(stage, built_from=built_from) for stage in fitting]
    return Method(model, stages, {**method.renamed, **RENAMED})


def _diffusion(base: nn.Module) -> tuple[FittedPrior, list[Stage]]:
    """A diffusion on the whole latent, and the stages that fit it."""
    size = base().event_shape.numel()
    prior = FittedPrior(base, diffusion_prior({LATENT_BLOCK: size}, training_masks=JOINT))
    return prior, diffusion_stages(prior.fitted, Step(one_latent))


def _mixture_or_flow(
    base: nn.Module, kind: str, components: int
) -> tuple[FittedPrior, list[Stage]]:
    """A mixture or a flow, and the stage that fits it."""
    size = base().event_shape.numel()
    if kind == "mixture":
        prior = FittedPrior(base, NormalMixture(size, components))
        trains, finish = [], Step(finish_mixture, components=components)
    else:
        prior = FittedPrior(base, FlowPrior(size))
        trains, finish = ["prior.fitted"], Step(finish_flow)
    return prior, [Stage("prior", Step(prior_loss), trains, Step(keep_draw), finish)]


def _without_prior(stage: Stage, model: nn.Module) -> Stage:
    """The stage with the parts of a model whose prior is `prior.base`, without what is fitted
    later.
    """
    names: list[str] = []
    only_parts = not [*model.parameters(recurse=False)]
    for name in stage.trains:
        names += [n for n, _ in model.named_children()] if name == "" and only_parts else [name]
    return replace(stage, trains=["prior.base" if n == "prior" else n for n in names])


def one_latent(model: MultimodalVAE, batch: Batch) -> dict[str, Tensor]:
    """One draw of z for each sample, as the only block."""
    return {LATENT_BLOCK: model.posterior(batch).sample()}


def keep_draw(model: MultimodalVAE, batch: Batch) -> Batch:
    """One draw of z for each sample, kept."""
    z = model.posterior(batch).sample()
    return replace(batch, kept={"z": z})


def prior_loss(model: Any, batch: Batch, progress: float) -> Loss:
    """Minus the log-density of the kept draws under the fitted prior."""
    value = -model.prior.fitted().log_prob(batch.kept["z"])
    return Loss(value, {"log_prior": -value})


@torch.no_grad()
def finish_mixture(
    model: Any, train: Iterable[Batch], val: Iterable[Batch], components: int
) -> dict[str, float]:
    """Fits a mixture of `components` to the kept draws; then `finish_flow`."""
    fit_mixture(model.prior.fitted, torch.cat([b.kept["z"] for b in train]), components)
    return finish_flow(model, train, val)


@torch.no_grad()
def finish_flow(model: Any, train: Iterable[Batch], val: Iterable[Batch]) -> dict[str, float]:
    """Puts the fitted prior in the place of its base, and compares their log-densities."""
    prior = model.prior
    prior.ready.fill_(True)
    held_out = torch.cat([b.kept["z"] for b in val])
    after, before = prior.fitted().log_prob(held_out), prior.base().log_prob(held_out)
    return {"log_prior": float(after.mean()), "log_prior_before": float(before.mean())}


def fit_mixture(prior: NormalMixture, z: Tensor, components: int, ridge: float = 1e-4) -> None:
    """Expectation maximisation on z (N, D), `ridge` of its mean variance added to the components'
    variances; diagonal covariances above MAX_FULL_COVARIANCE_DIM dimensions.
    """
    from sklearn.mixture import GaussianMixture  # 1 s, and most methods do without it

    kind = "full" if z.shape[1] <= MAX_FULL_COVARIANCE_DIM else "diag"
    seed, added = int(torch.randint(2**31, ())), ridge * float(z.var(0).mean())
    mixture = GaussianMixture(components, covariance_type=kind, reg_covar=added, random_state=seed)
    mixture.fit(z.double().cpu().numpy())
    weights, means = (torch.as_tensor(v) for v in (mixture.weights_, mixture.means_))
    covariance = torch.as_tensor(mixture.covariances_)
    covariance = covariance if kind == "full" else torch.diag_embed(covariance)
    prior.set_(weights.to(z), means.to(z), torch.linalg.cholesky(covariance).to(z))
