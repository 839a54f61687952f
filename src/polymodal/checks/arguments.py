"""Functions and their keyword arguments, checked by their annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel

from polymodal.checks.annotations import is_plain
from polymodal.checks.groups import Group, typed
from polymodal.checks.names import below, check_names
from polymodal.checks.values import plain

F = TypeVar("F", bound=Callable[..., Any])


def checked_options(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    path: str,
    skip: Sequence[str],
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """`given`, checked against the keyword arguments of `function`, with its defaults filled in;
    groups of settings are nested mappings, completed by their defaults.

    Args:
        path: under which the options are set, such as "method"; "": nothing.
        skip: arguments that are no options.
        more: further names that are allowed.

    Raises ValueError for an unknown name, with the nearest, or a value of another type.
    """
    parameters = {n: p for n, p in inspect.signature(function).parameters.items() if n not in skip}
    named = {n: p.default for n, p in parameters.items() if p.kind in _NAMED}
    if not _takes_any(parameters):
        check_names(given, [*named, *more], path)
    defaults = {name: value for name, value in named.items() if _is_storable(value)}
    return plain(defaults | typed_arguments(function, given, path))


def call(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    path: str,
    *arguments: Any,
    also: Sequence[str] = (),
) -> Any:
    """function(*arguments, **given), the names and types in `given` checked against its keywords.

    Args:
        also: names that another function reads; they are only listed in the sentence.

    Raises ValueError for an unknown name, with the nearest, or a value of another type.

    >>> call(dict.fromkeys, {}, "keys", "ab")
    {'a': None, 'b': None}
    """
    parameters = inspect.signature(function).parameters
    taken, names = [*parameters][: len(arguments)], [*parameters][len(arguments) :]
    unknown = [key for key in given if key in taken or not _takes_any(parameters)]
    check_names(unknown, [*names, *also], path)
    return function(*arguments, **typed_arguments(function, given, path))


def checked(function: F) -> F:
    """`function`, whose numbers, words, paths and lists of them are checked by their annotations
    whenever it is called; arguments of other types are left as they are.

    >>> @checked
    ... def half(n: int) -> float:
    ...     return n / 2
    >>> half("3")
    Traceback (most recent call last):
    ValueError: n must be a whole number, got '3'.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call_checked(*arguments: Any, **keywords: Any) -> Any:
        bound = signature.bind(*arguments, **keywords)
        hints = _hints(function)
        for name, value in bound.arguments.items():
            if is_plain(hints.get(name)):
                bound.arguments[name] = typed(hints[name], value, name)
        return function(*bound.args, **bound.kwargs)

    return call_checked  # type: ignore[return-value]


def check_positive(whose: str, **settings: float) -> None:
    """Raises ValueError, naming the setting, where one is not positive."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{whose}'s {name} must be positive, got {value}.")


_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def typed_arguments(
    function: Callable[..., Any], given: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """The values for keywords of `function`, by its annotations; a mapping changes a group that is
    the default.
    """
    hints, parameters = _hints(function), inspect.signature(function).parameters
    values = {}
    for name, value in given.items():
        if name in parameters:
            value = _completed(value, parameters[name].default)
        values[name] = typed(hints.get(name, Any), value, below(path, name))
    return values


def _completed(value: Any, default: Any) -> Any:
    is_change = isinstance(default, Group) and isinstance(value, Mapping)
    return default.merged(value) if is_change else value


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function's arguments; none where they cannot be read, and then nothing
    is checked.
    """
    if inspect.isclass(function) and issubclass(function, BaseModel):
        return {name: f.rebuild_annotation() for name, f in function.model_fields.items()}
    source = function.__init__ if inspect.isclass(function) else function  # type: ignore[misc]
    try:
        return get_type_hints(source, include_extras=True)
    except (NameError, TypeError):
        return {}


def _is_storable(default: Any) -> bool:
    """Whether a default can be written into a recipe."""
    return default is None or isinstance(default, bool | int | float | str | list | tuple | Group)
