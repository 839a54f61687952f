"""What every method can have besides: impartial gradients, rescaled likelihoods, a prior fitted
after training.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, get_type_hints

from polymodal.batch import Modality
from polymodal.methods.fitted_prior import with_fitted_prior
from polymodal.methods.gradients import combined, rule_of
from polymodal.methods.options import check, check_switches
from polymodal.model import Method

EXTRAS = ("impartial", "rescale", "fitted_prior", "components")


def extended(function: Callable[..., Method]) -> Callable[..., Method]:
    """`function` with the options EXTRAS besides its own.

    impartial: a key of `polymodal.methods.gradients.RULES`: how the modalities' gradients meet at
        z; None: they add up.
    rescale: "dimension": each modality's likelihood is weighed by the largest modality's size over
        its own; None: by the modalities' weights.
    fitted_prior: "mixture" (of `components` normals), "flow" or "diffusion": fitted to the
        aggregate posterior in a last stage, "prior", and from then on the model's prior, for joint
        samples and likelihoods; None: none.

    The library's own options are checked by `polymodal.methods.options` first.
    """

    @wraps(function)
    def method(
        modalities: Sequence[Modality],
        *,
        impartial: str | None = None,
        rescale: str | None = None,
        fitted_prior: str | None = None,
        components: int = 10,
        **options: Any,
    ) -> Method:
        if function.__module__.startswith(
            "polymodal."
        ):  # names have other meanings in methods of one's own
            check(components=components, **options)
            check_switches(function, options)
        made = function(rescaled(modalities, rescale), **options)
        if impartial is not None:
            made.model.gradient_copies = partial(combined, rule=rule_of(impartial))
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
    """The modalities with weights that make up for their sizes, instead of any other. ValueError
    for an unknown way.

    >>> [m.weight for m in rescaled([Modality("a", (2,)), Modality("b", (6,), weight=0.5)], "dimension")]
    [3.0, 1.0]
    """
    if how is None:
        return list(modalities)
    if how != "dimension":
        raise ValueError(
            f"rescale is 'dimension' or null, not {how!r}; weights by hand are"
            " modalities.<name>.weight."
        )
    most = max(math.prod(m.shape) for m in modalities)
    return [replace(m, weight=most / math.prod(m.shape)) for m in modalities]
