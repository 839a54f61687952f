"""`@method`: makes a function of a builder into a method that is called with modalities, checks its
options, and enters it into METHODS.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, get_type_hints

from polymodal.batch import Modality
from polymodal.checks import Size, SizeOrZero, check_names, typed_arguments
from polymodal.methods.builder import Builder
from polymodal.methods.extras import DESCRIPTION, EXTRAS, extended
from polymodal.model import Method

METHODS: dict[str, Callable[..., Method]] = {}

Networks = Mapping[str, str]
Function = Callable[..., Method]


def method(
    function: Function | None = None,
    *,
    latent: int = 20,
    hidden: int | None = None,
    min_modalities: int = 1,
    shared_latent: bool = True,
) -> Any:
    """Enters `function(builder, **options) -> Method` into METHODS, as a function of modalities.

    The options are the function's keyword arguments, checked against their annotations, and those
    that every method has, of which its docstring says the meaning: latent, networks, and
    `polymodal.methods.extras`.

    Args:
        latent: default size of the latent.
        hidden: default width of the hidden layers that are not part of `networks`, see `Builder`;
            None: the method has none.
        min_modalities: how many modalities it needs.
        shared_latent: whether several modalities are decoded from one draw, so that their gradients
            meet there.

    >>> @method
    ... def mine(builder: Builder, *, beta: float = 1.0) -> Method:
    ...     raise NotImplementedError
    >>> METHODS.pop("mine") is mine, list(inspect.signature(mine).parameters)[:4]
    (True, ['modalities', 'latent', 'networks', 'beta'])
    """
    if function is None:
        return partial(
            method,
            latent=latent,
            hidden=hidden,
            min_modalities=min_modalities,
            shared_latent=shared_latent,
        )
    common = _common(latent, hidden)
    own = _own(function)
    hints = {p.name: p.annotation for p in (*common, *own, *EXTRAS)}
    defaults = {p.name: p.default for p in (*common, *own, *EXTRAS)}

    @wraps(function)
    def build(modalities: Sequence[Modality], **options: Any) -> Method:
        check_names(options, [*hints], "")
        chosen = defaults | typed_arguments(build, options, "")
        if 0 < len(modalities) < min_modalities:
            raise ValueError(
                f"{function.__name__} needs at least {min_modalities} modalities, got"
                f" {len(modalities)}."
            )
        if not shared_latent and chosen["impartial"] is not None:
            raise ValueError(
                f"impartial has no effect on {function.__name__}: no latent draw is decoded into"
                " several modalities; leave it out."
            )
        extras = {p.name: chosen.pop(p.name) for p in EXTRAS}
        return extended(partial(_built, function, common), modalities, chosen, **extras)

    first = inspect.Parameter("modalities", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.Signature([first, *common, *own, *EXTRAS])
    build.__doc__ = f"{inspect.getdoc(function) or ''}\n\n{DESCRIPTION}".strip()
    build.__signature__ = signature  # type: ignore[attr-defined]
    build.__annotations__ = hints | {"modalities": Sequence[Modality], "return": Method}
    METHODS[function.__name__] = build
    return build


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _common(latent: int, hidden: int | None) -> list[inspect.Parameter]:
    """The options that make a `Builder`."""
    options = [_keyword("latent", Size, latent), _keyword("networks", Networks | None, None)]
    if hidden is not None:
        options.append(_keyword("hidden", SizeOrZero, hidden))
        options.append(_keyword("features", Mapping[str, Size] | None, None))
    return options


def _own(function: Function) -> list[inspect.Parameter]:
    """The function's own options, their annotations evaluated."""
    hints = get_type_hints(function, include_extras=True)
    options = list(inspect.signature(function).parameters.values())[1:]
    return [p.replace(annotation=hints.get(p.name, Any)) for p in options]


def _built(
    function: Function,
    common: Sequence[inspect.Parameter],
    modalities: Sequence[Modality],
    options: Mapping[str, Any],
) -> Method:
    """The method, every stage of which says what its parts were built from."""
    names = [p.name for p in common]
    builder = Builder(modalities, **{n: options[n] for n in names})
    made = function(builder, **{n: v for n, v in options.items() if n not in names})
    everything = {"method": function.__name__, "options": options, "modalities": tuple(modalities)}
    stages = [
        stage if stage.built_from is not None else replace(stage, built_from=everything)
        for stage in made.stages
    ]
    return replace(made, stages=stages)
