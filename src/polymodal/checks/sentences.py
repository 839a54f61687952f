"""One sentence for the first fault that pydantic finds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import ValidationError

from polymodal.checks.annotations import NOTHING, UNIONS, Measured, Place, adapter, is_group
from polymodal.checks.names import UNKNOWN, shown, suggest, unknown

MAPPING = "a mapping such as {key: value}"
NOUNS: dict[Any, str] = {
    str: "a word",
    int: "a whole number",
    float: "a number",
    Measured: "a number",
    bool: "true or false",
    NOTHING: "null",
    dict: MAPPING,
    Mapping: MAPPING,
    list: "a list",
    tuple: "a list",
    Sequence: "a list",
    Callable: "a function",
    os.PathLike: "a path",
}


def sentence(place: Place, error: ValidationError) -> str:
    """The first fault that pydantic found, in one sentence."""
    faults = error.errors(include_url=False)
    first = next((fault for fault in faults if fault["type"] == "value_error"), faults[0])
    kind, steps = first["type"], [s for s in first["loc"] if s != "[key]"]  # of a key, not a value
    name = steps.pop() if kind in ("extra_forbidden", "missing") else None
    for step in steps:
        if place.is_union:
            break
        place = place.inside(step)
    if place.is_union:
        return _of_union(place, first)
    if name is not None:
        return _of_name(place, name, kind)
    if kind in ("value_error", "assertion_error"):
        return _of_validator(place, str(first["ctx"]["error"]))
    return _mismatch(place)


def _of_name(place: Place, name: Any, kind: str) -> str:
    """The sentence of a name that a group does not have, or that is missing in it."""
    if kind == "missing":
        return f"{place.below(name)} is missing; it must be {_words(place.inside(name).hint)}."
    named = f"setting {place.below(name)}"
    return str(unknown(named, name, place.bare.model_fields, place.below("")))


def _mismatch(place: Place) -> str:
    text = f"{place.path or 'The settings'} must be {_words(place.hint)}, got {shown(place.value)}."
    if get_origin(place.bare) is not Literal:
        return text
    return text + suggest(place.value, get_args(place.bare))


def _of_validator(place: Place, text: str) -> str:
    """A validator's own text with the path."""
    if not place.path:
        return f"The value {text}" if text.startswith("must ") else text
    if text.startswith(UNKNOWN):
        return f"{UNKNOWN}{place.below('')}{text.removeprefix(UNKNOWN)}"
    if text[:1].isupper():
        return text
    return f"{place.below('')}{text}" if is_group(place.bare) else f"{place.path} {text}"


def _of_union(place: Place, first: Any) -> str:
    """The sentence of the alternative that the value's shape points to, else of the first fault or
    of all of them.
    """
    alike = [hint for hint in get_args(place.bare) if _same_shape(hint, place.value)]
    if len(alike) == 1:
        try:
            adapter(alike[0]).validate_python(place.value)
        except ValidationError as error:
            return sentence(Place(alike[0], place.value, place.path), error)
    if first["type"] == "value_error":
        return _of_validator(place, str(first["ctx"]["error"]))
    return _mismatch(place)


def _same_shape(hint: Any, value: Any) -> bool:
    bare = Place(hint, value, "").bare
    if isinstance(value, Mapping):
        return is_group(bare) or get_origin(bare) in (dict, Mapping)
    return isinstance(value, list) and get_origin(bare) in (list, tuple, Sequence)


def _words(hint: Any) -> str:
    """An annotation in words: Positive | None is "a positive number or null"."""
    if get_origin(hint) in UNIONS:
        return " or ".join(_words(a) for a in get_args(hint))
    bounds = []
    while get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        bounds += more
    if get_origin(hint) in UNIONS:
        return _words(hint)
    if get_origin(hint) is Literal:
        choices = ", ".join(map(str, get_args(hint)))
        return f"one of {choices}" if len(get_args(hint)) > 1 else choices
    if is_group(hint):
        return MAPPING
    noun = NOUNS.get(hint) or NOUNS.get(get_origin(hint))
    return _bounded(noun, bounds) if noun else f"a {getattr(hint, '__name__', hint)}"


_PHRASES: dict[type, str] = {
    Ge: "of at least {0.ge:g}",
    Gt: "above {0.gt:g}",
    Le: "of at most {0.le:g}",
    Lt: "below {0.lt:g}",
    MinLen: "of at least {0.min_length} entry",
}


def _bounded(noun: str, bounds: Sequence[Any]) -> str:
    """A noun with its range: "a number from 0 to 1", "a whole number of at least 1"."""
    limits = {type(bound): bound for bound in bounds if type(bound) in _PHRASES}
    if limits.keys() == {Ge, Le}:
        return f"{noun} from {limits[Ge].ge:g} to {limits[Le].le:g}"
    if limits == {Gt: Gt(0)}:
        return noun.replace("a ", "a positive ", 1)
    phrases = [_PHRASES[kind].format(bound) for kind, bound in limits.items()]
    return f"{noun} {' and '.join(phrases)}".rstrip()
