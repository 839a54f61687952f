"""Checks of what a user says: types, names, and which one was meant. Nothing here knows anything of
polymodal.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, is_dataclass
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin, get_type_hints


def suggest(word: Any, names: Iterable[str], path: str = "") -> str:
    """The question "Did you mean ...?" with the nearest of `names`, after a space; nothing if none
    is near.
    """
    near = get_close_matches(str(word), [str(n) for n in names], 1, 0.5)
    return f" Did you mean {path}{near[0]}?" if near else ""


def meant(word: Any, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest that is known, or all of them."""
    known = list(known)
    near = get_close_matches(str(word), known, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."


def _says(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(map(_says, get_args(hint)))
    words = {
        str: "a word",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        type(None): "null",
    }
    return words.get(hint) or ("a mapping" if get_origin(hint) is dict else "a list")


def plain(value: Any) -> Any:
    """Arrays and their numbers, at any depth, as lists and numbers of Python."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


def convert(value: Any, hint: Any, path: str) -> Any:
    """`value` as `hint` says, where that loses nothing; arrays are lists and numbers. Raises
    ValueError.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    origin, args = get_origin(hint), get_args(hint)
    wrong = ValueError(f"{path} must be {_says(hint)}, got {value!r}.")
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        for one in args:
            try:
                return convert(value, one, path)
            except ValueError:
                continue
        raise wrong
    if is_dataclass(hint):
        return fill(hint, value, path)
    if origin is dict:
        if value is not None and not isinstance(value, Mapping):
            raise wrong
        return {str(k): convert(v, args[1], f"{path}.{k}") for k, v in (value or {}).items()}
    if origin in (list, Sequence) or (
        origin is not None and inspect.isclass(origin) and issubclass(origin, Sequence)
    ):
        if not isinstance(value, list | tuple):
            raise wrong
        return [convert(v, args[0], f"{path}[{i}]") for i, v in enumerate(value)]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if inspect.isclass(hint) and (
        not isinstance(value, hint) or (hint is not bool and isinstance(value, bool))
    ):
        raise wrong
    return value


def fill(cls: Any, given: Any, path: str) -> Any:
    """A settings class from a mapping; what it does not name goes to its `options`, if it has them."""
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        raise ValueError(
            f"{path or 'The settings'} must be a mapping such as {{key: value}}, got {given!r}."
        )
    hints, prefix = get_type_hints(cls), f"{path}." if path else ""
    known = {k: v for k, v in given.items() if k in hints and k != "options"}
    rest = {k: v for k, v in given.items() if k not in known}
    if rest and "options" not in hints:
        key = next(iter(rest))
        raise ValueError(f"There is no setting {prefix}{key}.{suggest(key, hints, prefix)}")
    values = {k: convert(v, hints[k], prefix + k) for k, v in known.items()}
    try:
        return cls(**values, **({"options": rest} if rest else {}))
    except ValueError as error:
        at_door = str(error).startswith(("training.", "There is no"))
        raise ValueError(str(error) if at_door else prefix + str(error)) from None


def find(name: str, table: Iterable[str], what: str) -> str:
    """The key of `table` that `name` means ("jnf-dcca" is "jnf_dcca"). Raises ValueError with the
    nearest.
    """
    names = list(table)
    bare = lambda word: str(word).replace("-", "_").lower()
    for key in names:
        if bare(key) == bare(name):
            return key
    near = suggest(name, names) or f" There are: {', '.join(sorted(names))}."
    raise ValueError(f"There is no {what} {name!r}.{near}")


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """What a function says of its arguments' types; nothing where that cannot be read, and then
    nothing is checked.
    """
    try:
        return get_type_hints(function)
    except (NameError, TypeError):
        return {}


def checked_options(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    path: str,
    skip: Sequence[str],
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """`given` checked against the keyword arguments of `function` (and `more` names), with its
    defaults filled in.
    """
    parameters = inspect.signature(function).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = [
        n
        for n, p in parameters.items()
        if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) and n not in skip
    ]
    names = [*named, *more]
    hints = _hints(function)
    for key in given:
        if key not in names and not free:
            raise ValueError(f"There is no setting {path}.{key}.{suggest(key, names, path + '.')}")
    found = {
        n: parameters[n].default
        for n in named
        if parameters[n].default is not inspect.Parameter.empty
    }
    found = {n: list(v) if isinstance(v, tuple) else v for n, v in found.items()}
    kept = {
        n: v
        for n, v in found.items()
        if v is None or isinstance(v, bool | int | float | str | list)
    }
    return kept | {k: convert(v, hints.get(k, Any), f"{path}.{k}") for k, v in given.items()}


def call(
    function: Callable[..., Any],
    given: Mapping[str, Any],
    path: str,
    *arguments: Any,
    also: Sequence[str] = (),
) -> Any:
    """function(*arguments, **given), the names and types in `given` checked against its keywords.

    `also` are names that somebody else reads, for the sentence alone.

    Raises ValueError for an unknown name, with the nearest, or a value of another type.

    >>> call(dict.fromkeys, {}, "keys", "ab")
    {'a': None, 'b': None}
    """
    hints = _hints(function.__init__ if inspect.isclass(function) else function)  # type: ignore[misc]
    parameters = list(inspect.signature(function).parameters.items())
    taken = [n for n, _ in parameters[: len(arguments)]]
    names = [n for n, p in parameters[len(arguments) :] if p.kind is not p.VAR_KEYWORD]
    free = len(names) < len(parameters) - len(arguments)
    for key in given:
        if key in taken or (key not in names and not free):
            every = [*names, *also]
            raise ValueError(
                f"There is no setting {path}.{key}.{suggest(key, every)} There are:"
                f" {', '.join(every)}."
            )
    return function(
        *arguments, **{k: convert(v, hints.get(k, Any), f"{path}.{k}") for k, v in given.items()}
    )


def check_positive(whose: str, **settings: float) -> None:
    """Raises ValueError, naming the setting, where one is not positive."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{whose}'s {name} must be positive, got {value}.")


def first_difference(ours: Any, theirs: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first key at which two nested mappings differ, with both values; None if they are equal."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in [*ours, *(k for k in theirs if k not in ours)]:
            found = first_difference(
                ours.get(key, MISSING),
                theirs.get(key, MISSING),
                f"{path}.{key}" if path else str(key),
            )
            if found:
                return found
        return None
    show = lambda v: "nothing" if v is MISSING else v
    return None if ours == theirs else (path, show(ours), show(theirs))
