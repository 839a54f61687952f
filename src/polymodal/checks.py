"""Checks of a user's settings: types, ranges, names, and the nearest name where one is misspelt.

`typed` validates a value against any annotation by pydantic, converts only where nothing is lost,
and says in one sentence what was expected and what came. This module knows nothing of polymodal.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Strict,
    TypeAdapter,
    ValidationError,
)

# Types of settings, for annotations. All numbers are finite.
Count = Annotated[int, Ge(1)]  # 1, 2, ...
CountOrZero = Annotated[int, Ge(0)]  # 0, 1, 2, ...
NonNegative = Annotated[float, Ge(0), AllowInfNan(False)]  # [0, inf)
Positive = Annotated[float, Gt(0), AllowInfNan(False)]  # (0, inf)
Share = Annotated[float, Ge(0), Le(1), AllowInfNan(False)]  # [0, 1]
BelowOne = Annotated[float, Ge(0), Lt(1), AllowInfNan(False)]  # [0, 1)

UNIONS = (Union, types.UnionType)
NOTHING = type(None)
MAPPING = "a mapping such as {key: value}"
UNKNOWN = "There is no setting "
NOUNS: dict[Any, str] = {
    str: "a word",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NOTHING: "null",
    dict: MAPPING,
    Mapping: MAPPING,
    list: "a list",
    tuple: "a list",
    Sequence: "a list",
    Callable: "a function",
}


# Names.


def suggest(word: Any, names: Iterable[str], path: str = "") -> str:
    """The question "Did you mean ...?" with the nearest of `names`, after a space; nothing if none
    is near.
    """
    near = get_close_matches(str(word), [str(n) for n in names], 1, 0.5)
    return f" Did you mean {path}{near[0]}?" if near else ""


def meant(word: Any, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest of `names`, or all of them."""
    names = list(names)
    near = get_close_matches(str(word), names, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."


def find(name: str, table: Iterable[str], what: str) -> str:
    """The key of `table` that `name` means ("jnf-dcca" is "jnf_dcca"). Raises ValueError with the
    nearest.
    """
    names = list(table)
    for key in names:
        if _bare(key) == _bare(name):
            return key
    near = suggest(name, names) or f" There are: {', '.join(sorted(names))}."
    raise ValueError(f"There is no {what} {name!r}.{near}")


def check_names(given: Iterable[str], names: Sequence[str], path: str) -> None:
    """Raises ValueError for a setting under `path` that is none of `names`, with the nearest."""
    for key in given:
        if key not in names:
            near = suggest(key, names, _below(path, ""))
            raise ValueError(f"{UNKNOWN}{_below(path, key)}.{near}")


def _below(path: str, name: str) -> str:
    """The path of the setting `name` of a group at `path`."""
    return f"{path}.{name}" if path else str(name)


def _bare(word: str) -> str:
    return str(word).replace("-", "_").lower()


# Types.


def plain(value: Any) -> Any:
    """Arrays and their numbers, at any depth, as lists and numbers of Python."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


def typed(hint: Any, value: Any, path: str = "") -> Any:
    """`value` as the annotation `hint` says, converted only where nothing is lost: 3.0 to 3, 3 to
    3.0, a list to a tuple, an array to a list, a mapping to a `Group`.

    Args:
        path: the name of the setting, with dots, for the sentence.

    Raises ValueError in one sentence: what was expected, what came, the nearest name.

    >>> typed(Share, 3, "method.alpha")
    Traceback (most recent call last):
    ValueError: method.alpha must be a number from 0 to 1, got 3.
    """
    value = plain(value)
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        raise ValueError(_sentence(_Place(hint, value, path), error)) from None


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    bare = _Place(hint, None, "").bare
    if _is_group(bare) or is_dataclass(bare):  # these have their own configuration
        return TypeAdapter(lossless(hint))
    return TypeAdapter(lossless(hint), config=ConfigDict(arbitrary_types_allowed=True))


def _is_group(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, BaseModel)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _empty_if_none(value: Any) -> Any:
    return {} if value is None else value


LOSSLESS: dict[Any, Any] = {
    int: Annotated[int, Strict(), BeforeValidator(_whole)],
    float: Annotated[float, Strict()],
    bool: Annotated[bool, Strict()],
    str: Annotated[str, Strict()],
}
_KEY = Annotated[str, BeforeValidator(str)]  # YAML reads the key 3 as a number


def lossless(hint: Any) -> Any:
    """The annotation for pydantic that refuses every conversion in which something is lost."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is None:
        group = Annotated[hint, BeforeValidator(_empty_if_none)] if _is_group(hint) else hint
        return LOSSLESS.get(hint, group)
    if origin in (Literal, Callable):
        return hint
    if origin is Annotated:
        return Annotated[lossless(args[0]), *args[1:]]
    inner = tuple(map(lossless, args))
    if origin in UNIONS:
        return Union[inner]  # noqa: UP007
    if origin in (dict, Mapping):
        inner = (_KEY if args[0] is str else inner[0], inner[1])
        return Annotated[origin[inner], BeforeValidator(_empty_if_none)]
    return origin[inner]


if TYPE_CHECKING:  # pydantic does not export the class
    from pydantic._internal._model_construction import ModelMetaclass as _Metaclass
else:
    _Metaclass = type(BaseModel)


class _Sentences(_Metaclass):
    """Makes `Group(...)` raise one sentence where pydantic raises a report of several lines."""

    def __call__(self, **values: Any) -> Any:
        try:
            return super().__call__(**plain(values))
        except ValidationError as error:
            raise ValueError(_sentence(_Place(self, plain(values), ""), error)) from None


class Group(BaseModel, metaclass=_Sentences):
    """Base of small groups of settings: frozen, without unknown names, and without conversions in
    which something is lost.

    A validator of a field raises ValueError("must be ..."), one of the whole group
    ValueError("<field> must be ...") or what `call` and `typed` with the path "" raise; the path is
    put before the field. Another text that begins with a capital letter stays as it is.

    >>> class Flow(Group):
    ...     kind: Literal["maf", "coupling"] = "maf"
    ...     tail_variance: Positive | None = None
    >>> Flow(tail_variance=2)
    Flow(kind='maf', tail_variance=2.0)
    >>> typed(Flow, {"tail_varianse": 2}, "flow")
    Traceback (most recent call last):
    ValueError: There is no setting flow.tail_varianse. Did you mean flow.tail_variance?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        for field in cls.model_fields.values():
            field.annotation = lossless(field.annotation)
        cls.model_rebuild(force=True)

    def with_changes(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The values that were set, overwritten by `changes`, as a mapping that is still to be
        checked.
        """
        return {**self.model_dump(exclude_unset=True), **changes}


# Sentences.


@dataclass(frozen=True)
class _Place:
    """A value, the annotation that it does not fit, and its path."""

    hint: Any
    value: Any
    path: str

    @property
    def bare(self) -> Any:
        """The annotation without bounds, and without null where that is the only alternative."""
        hint = self.hint
        while get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        others = [a for a in get_args(hint) if a is not NOTHING]
        if get_origin(hint) in UNIONS and len(others) == 1:
            return _Place(others[0], self.value, self.path).bare
        return hint

    @property
    def is_union(self) -> bool:
        """Whether there are several alternatives in addition to null."""
        return get_origin(self.bare) in UNIONS

    def below(self, name: Any) -> str:
        """The path of a value inside this one."""
        return f"{self.path}[{name}]" if isinstance(name, int) else _below(self.path, name)

    def inside(self, name: Any) -> _Place:
        """The place of a value inside this one: a field, a key or an index."""
        try:
            value = self.value[name]
        except (KeyError, IndexError, TypeError):
            value = None
        return _Place(_hint_inside(self.bare, name), value, self.below(name))


def _hint_inside(hint: Any, name: Any) -> Any:
    """The annotation of a field, a key or an index of a value."""
    origin, args = get_origin(hint), get_args(hint)
    if _is_group(hint):
        return hint.model_fields[name].rebuild_annotation()
    if origin in (dict, Mapping):
        return args[1]
    is_fixed = origin is tuple and args[-1] is not Ellipsis
    return args[name] if is_fixed else args[0]


def _sentence(place: _Place, error: ValidationError) -> str:
    """The first fault that pydantic found, in one sentence."""
    first = error.errors(include_url=False)[0]
    kind, steps = first["type"], list(first["loc"])
    name = steps.pop() if kind in ("extra_forbidden", "missing") else None
    for step in steps:
        if place.is_union:
            break
        place = place.inside(step)
    if place.is_union:
        return _of_union(place)
    if name is not None:
        return _of_name(place, name, kind)
    if kind in ("value_error", "assertion_error"):
        return _of_validator(place, str(first["ctx"]["error"]))
    return _mismatch(place)


def _of_name(place: _Place, name: Any, kind: str) -> str:
    """The sentence of a name that a group does not have, or that is missing in it."""
    if kind == "missing":
        return f"{place.below(name)} is missing; it must be {_words(place.inside(name).hint)}."
    near = suggest(name, place.bare.model_fields, place.below(""))
    return f"{UNKNOWN}{place.below(name)}.{near}"


def _mismatch(place: _Place) -> str:
    sentence = f"{place.path or 'The settings'} must be {_words(place.hint)}, got {place.value!r}."
    if get_origin(place.bare) is not Literal:
        return sentence
    return sentence + suggest(place.value, get_args(place.bare))


def _of_validator(place: _Place, text: str) -> str:
    """A validator's own text with the path."""
    if not place.path:
        return text
    if text.startswith(UNKNOWN):
        return f"{UNKNOWN}{place.below('')}{text.removeprefix(UNKNOWN)}"
    if text[:1].isupper():
        return text
    return f"{place.below('')}{text}" if _is_group(place.bare) else f"{place.path} {text}"


def _of_union(place: _Place) -> str:
    """The sentence of the alternative that the value's shape points to, else of all of them."""
    alike = [hint for hint in get_args(place.bare) if _same_shape(hint, place.value)]
    if len(alike) == 1:
        try:
            _adapter(alike[0]).validate_python(place.value)
        except ValidationError as error:
            return _sentence(_Place(alike[0], place.value, place.path), error)
    return _mismatch(place)


def _same_shape(hint: Any, value: Any) -> bool:
    bare = _Place(hint, value, "").bare
    if isinstance(value, Mapping):
        return _is_group(bare) or get_origin(bare) in (dict, Mapping)
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
    if _is_group(hint):
        return MAPPING
    noun = NOUNS.get(hint) or NOUNS.get(get_origin(hint))
    return _bounded(noun, bounds) if noun else f"a {getattr(hint, '__name__', hint)}"


_PHRASES: dict[type, str] = {
    Ge: "of at least {0.ge:g}",
    Gt: "above {0.gt:g}",
    Le: "of at most {0.le:g}",
    Lt: "below {0.lt:g}",
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


# Functions and their keywords.


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
    defaults = {name: _stored(value) for name, value in named.items() if _is_storable(value)}
    values = _typed_arguments(function, given, path)
    return defaults | {name: _stored(value) for name, value in values.items()}


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
    taken, left = [*parameters][: len(arguments)], [*parameters.values()][len(arguments) :]
    names = [*(p.name for p in left if p.kind is not p.VAR_KEYWORD), *also]
    for key in given:
        if key in taken or not (key in names or _takes_any(parameters)):
            listed = ", ".join(names)
            raise ValueError(
                f"{UNKNOWN}{_below(path, key)}.{suggest(key, names)} There are: {listed}."
            )
    return function(*arguments, **_typed_arguments(function, given, path))


_NAMED = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _typed_arguments(
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
        values[name] = typed(hints.get(name, Any), value, _below(path, name))
    return values


def _completed(value: Any, default: Any) -> Any:
    is_change = isinstance(default, Group) and isinstance(value, Mapping)
    return default.with_changes(value) if is_change else value


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


def _stored(value: Any) -> Any:
    """A value as a recipe writes it: groups are mappings, tuples are lists."""
    return plain(value.model_dump() if isinstance(value, BaseModel) else value)


# Values.


def check_positive(whose: str, **settings: float) -> None:
    """Raises ValueError, naming the setting, where one is not positive."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{whose}'s {name} must be positive, got {value}.")


ABSENT = object()


def first_difference(ours: Any, theirs: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first key at which two nested mappings differ, with both values; None if they are equal.

    A key that only one of them has is "nothing" in the other.
    """
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return None if ours == theirs else (path, _or_nothing(ours), _or_nothing(theirs))
    for key in dict.fromkeys([*ours, *theirs]):
        below = _below(path, key)
        difference = first_difference(ours.get(key, ABSENT), theirs.get(key, ABSENT), below)
        if difference:
            return difference
    return None


def _or_nothing(value: Any) -> Any:
    return "nothing" if value is ABSENT else value
