"""Options available to every method: impartial gradients, rescaled likelihoods, a prior that is
fitted after training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from inspect import Parameter
from typing import Any, Literal

from polymodal.batch import Modality
from polymodal.checks import Size
from polymodal.methods.fitted_prior import Kind, with_fitted_prior
from polymodal.methods.gradients import combined, rule_of
from polymodal.model import Method

DESCRIPTION = """Options of every method:
    latent: dimensions of the latent.
    networks: {modality: a name of `polymodal.networks.NETWORKS`}; the others' are chosen by the
        kind of data and its shape.
    features: of methods with a joint encoder, {modality: the size of its features there}; the
        others' are `latent`.
    impartial: a key of `polymodal.methods.gradients.RULES`, by which the modalities' gradients are
        combined at z; null: they are added.
    rescale: "dimension": the weight of each modality is the largest modality's size over its own;
        "root": the square root of that; null: the modalities' weights.
    fitted_prior: "mixture" (of `components` normals), "flow" or "diffusion": fitted to the
        aggregate posterior in a last stage, "prior", and then the model's prior, for joint samples
        and likelihoods; null: none.
    components: how many normals a fitted mixture has."""
POWERS = {"dimension": 1.0, "root": 0.5}  # of ratios of sizes, by `rescale`
Rescale = Literal["dimension", "root"]
EXTRAS = (
    Parameter("impartial", Parameter.KEYWORD_ONLY, default=None, annotation=str | None),
    Parameter(
        "rescale",
        Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Literal["dimension", "root"] | None,
    ),
    Parameter("fitted_prior", Parameter.KEYWORD_ONLY, default=None, annotation=Kind | None),
    Parameter("components", Parameter.KEYWORD_ONLY, default=10, annotation=Size),
)


def extended(
    build: Callable[[Sequence[Modality], Mapping[str, Any]], Method],
    modalities: Sequence[Modality],
    options: Mapping[str, Any],
    *,
    impartial: str | None,
    rescale: str | None,
    fitted_prior: Kind | None,
    components: int,
) -> Method:
    """`build(modalities, options)` with the options of EXTRAS. Raises ValueError for names that do
    not exist.
    """
    rule = None if impartial is None else rule_of(impartial)
    made = build(rescaled(modalities, rescale), options)
    if rule is not None:
        made.model.gradient_copies = partial(combined, rule=rule)
    stages = [_with(stage, impartial=impartial) for stage in made.stages]
    made = replace(made, stages=stages)
    return made if fitted_prior is None else with_fitted_prior(made, fitted_prior, components)


def _with(stage: Any, **option: Any) -> Any:
    return replace(stage, built_from={**stage.built_from, **option})


def rescaled(modalities: Sequence[Modality], how: str | None) -> list[Modality]:
    """The modalities with weights that compensate their sizes, in place of their own weights.

    Args:
        how: "dimension", "root", or None: the modalities as they are.

    >>> pair = [Modality("a", (2,)), Modality("b", (6,), weight=0.5)]
    >>> [m.weight for m in rescaled(pair, "dimension")]
    [3.0, 1.0]
    """
    if how is None:
        return list(modalities)
    most = max(math.prod(m.shape) for m in modalities)
    power = POWERS[how]
    return [replace(m, weight=(most / math.prod(m.shape)) ** power) for m in modalities]
