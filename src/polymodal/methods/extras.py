"""What every method can have besides: impartial gradients, rescaled likelihoods, a prior fitted after training."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, get_type_hints

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from polymodal.batch import Batch, Modality
from polymodal.denoisers import Patterns
from polymodal.gradients import rule_of
from polymodal.methods.options import check, check_switches
from polymodal.methods.score import LATENT, score_prior, score_stages
from polymodal.model import Method, MultimodalVAE, Stage, parts_of
from polymodal.objectives import Loss
from polymodal.priors import FittedPrior, FlowPrior, NormalMixture

EXTRAS = ("impartial", "rescale", "fitted_prior", "components")
FULL = 64  # dimensions up to which a fitted mixture's components have full covariances


def extended(function: Callable[..., Method]) -> Callable[..., Method]:
    """`function` with the options EXTRAS besides its own.

    impartial: a key of `polymodal.gradients.RULES`: how the modalities' gradients meet at z; None: they add up.
    rescale: "dimension": each modality's likelihood is weighed by the largest modality's size over its own; None: by
        the modalities' weights.
    fitted_prior: "mixture" (of `components` normals), "flow" or "diffusion": fitted to the aggregate posterior in a
        last stage, "prior", and from then on the model's prior, for joint samples and likelihoods; None: none.

    The library's own options are checked by `polymodal.methods.options` first.
    """

    @wraps(function)
    def method(
        modalities: Sequence[Modality], *, impartial: str | None = None, rescale: str | None = None,
        fitted_prior: str | None = None, components: int = 10, **options: Any,
    ) -> Method:  # fmt: skip
        if function.__module__.startswith("polymodal."):  # names have other meanings in methods of one's own
            check(components=components, **options)
            check_switches(function, options)
        made = function(rescaled(modalities, rescale), **options)
        if impartial is not None:
            made.model.impartial = rule_of(impartial)
        return made if fitted_prior is None else with_fitted_prior(made, fitted_prior, components)

    ours, extra = inspect.signature(function), inspect.signature(method, follow_wrapped=False)
    added = [p for n, p in extra.parameters.items() if n in EXTRAS]
    method.__signature__ = ours.replace(parameters=[*ours.parameters.values(), *added])  # type: ignore[attr-defined]
    hints = get_type_hints(function)
    method.__annotations__ = hints | {
        "impartial": str | None,
        "rescale": str | None,
        "fitted_prior": str | None,
        "components": int,
    }
    return method


def rescaled(modalities: Sequence[Modality], how: str | None) -> list[Modality]:
    """The modalities with weights that make up for their sizes, instead of any other. ValueError for an unknown way.

    >>> [m.weight for m in rescaled([Modality("a", (2,)), Modality("b", (6,), weight=0.5)], "dimension")]
    [3.0, 1.0]
    """
    if how is None:
        return list(modalities)
    if how != "dimension":
        raise ValueError(f"rescale is 'dimension' or null, not {how!r}; weights by hand are modalities.<name>.weight.")
    most = max(math.prod(m.shape) for m in modalities)
    return [replace(m, weight=most / math.prod(m.shape)) for m in modalities]


def with_fitted_prior(method: Method, kind: str, components: int = 10) -> Method:
    """`method` with one more stage, which fits a prior to draws of its posterior given all that each sample has.

    Raises ValueError for an unknown kind.
    """
    model = method.model
    if any(stage.name == "prior" for stage in method.stages):
        raise ValueError("This method learns a prior on its latents already: leave fitted_prior out.")
    size = model.prior().event_shape.numel()
    stages = [replace(stage, trains=parts_of(stage, model)) for stage in method.stages]  # without the prior to come
    if kind == "diffusion":
        model.prior = FittedPrior(model.prior, score_prior({LATENT: size}, masks=False))
        encode = lambda batch: {LATENT: _drawn(model, batch).kept["z"]}
        return Method(model, [*stages, *score_stages(model.prior, encode, Patterns(masks=False))])
    makers = {"mixture": lambda: NormalMixture(size, components), "flow": lambda: FlowPrior(size)}
    if kind not in makers:
        raise ValueError(f"A fitted prior is one of {', '.join(makers)} and diffusion, not {kind!r}.")
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
    found = GaussianMixture(components, covariance_type=kind, reg_covar=1e-4, random_state=seed).fit(
        z.double().cpu().numpy()
    )
    of = lambda name: torch.as_tensor(getattr(found, name), dtype=torch.float64)
    covariance = of("covariances_") if kind == "full" else torch.diag_embed(of("covariances_"))
    prior.set_(*(v.to(z) for v in (of("weights_"), of("means_"), torch.linalg.cholesky(covariance))))
