"""A prior fitted after training to the aggregate posterior."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from polymodal.batch import Batch
from polymodal.diffusion.masking import TrainingMasks
from polymodal.methods.score import LATENT, score_prior, score_stages
from polymodal.model import Method, MultimodalVAE, Stage, parts_of
from polymodal.objectives import Loss
from polymodal.priors import FittedPrior, FlowPrior, NormalMixture

FULL = 64  # dimensions up to which a fitted mixture's components have full covariances


def with_fitted_prior(method: Method, kind: str, components: int = 10) -> Method:
    """`method` with one more stage, which fits a prior to draws of its posterior given all that
    each sample has.

    Raises ValueError for an unknown kind.
    """
    model = method.model
    if any(stage.name == "prior" for stage in method.stages):
        raise ValueError(
            "This method learns a prior on its latents already: leave fitted_prior out."
        )
    size = model.prior().event_shape.numel()
    stages = [
        replace(stage, trains=parts_of(stage, model)) for stage in method.stages
    ]  # without the prior to come
    if kind == "diffusion":
        model.prior = FittedPrior(model.prior, score_prior({LATENT: size}, masks=False))
        encode = lambda batch: {LATENT: _drawn(model, batch).kept["z"]}
        return Method(
            model, [*stages, *score_stages(model.prior, encode, TrainingMasks(masks=False))]
        )
    makers = {"mixture": lambda: NormalMixture(size, components), "flow": lambda: FlowPrior(size)}
    if kind not in makers:
        raise ValueError(
            f"A fitted prior is one of {', '.join(makers)} and diffusion, not {kind!r}."
        )
    prior = FittedPrior(model.prior, makers[kind]())
    model.prior = prior

    def loss(batch: Batch, progress: float) -> Loss:
        value = -prior.fitted().log_prob(batch.kept["z"])
        return Loss(value, {"log_prior": -value})

    @torch.no_grad()
    def finish(train: Iterable[Batch], val: Iterable[Batch]) -> dict[str, float]:
        if kind == "mixture":
            _fit(prior.fitted, torch.cat([b.kept["z"] for b in train]), components)
        prior.ready.fill_(True)
        held = torch.cat([b.kept["z"] for b in val])
        gains = prior.fitted().log_prob(held).mean(), prior.base().log_prob(held).mean()
        return {"log_prior": float(gains[0]), "log_prior_before": float(gains[1])}

    trains = [prior.fitted] if kind == "flow" else []
    stage = Stage("prior", loss, trains, lambda batch: _drawn(model, batch), finish)
    return Method(model, [*stages, stage])


def _drawn(model: MultimodalVAE, batch: Batch) -> Batch:
    """One draw of z for each sample, kept."""
    return Batch(batch.x, batch.present, batch.label, {"z": model.posterior(batch).sample()})


def _fit(prior: Any, z: Tensor, components: int) -> None:
    """Expectation maximisation; diagonal covariances above FULL dimensions."""
    kind = "full" if z.shape[1] <= FULL else "diag"
    seed = int(torch.randint(2**31, ()))
    found = GaussianMixture(
        components, covariance_type=kind, reg_covar=1e-4, random_state=seed
    ).fit(z.double().cpu().numpy())
    of = lambda name: torch.as_tensor(getattr(found, name), dtype=torch.float64)
    covariance = of("covariances_") if kind == "full" else torch.diag_embed(of("covariances_"))
    prior.set_(
        *(v.to(z) for v in (of("weights_"), of("means_"), torch.linalg.cholesky(covariance)))
    )
