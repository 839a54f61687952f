"""Annotations of settings, and pydantic's adapters to them that lose nothing."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Strict, TypeAdapter

from polymodal.checks.names import below

# Types of settings, for annotations. All numbers are finite.
Count = Annotated[int, Ge(1)]  # 1, 2, ...
CountOrZero = Annotated[int, Ge(0)]  # 0, 1, 2, ...
NonNegative = Annotated[float, Ge(0), AllowInfNan(False)]  # [0, inf)
Positive = Annotated[float, Gt(0), AllowInfNan(False)]  # (0, inf)
Share = Annotated[float, Ge(0), Le(1), AllowInfNan(False)]  # [0, 1]
BelowOne = Annotated[float, Ge(0), Lt(1), AllowInfNan(False)]  # [0, 1)

UNIONS = (Union, types.UnionType)
NOTHING = type(None)


@dataclass(frozen=True)
class Place:
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
            return Place(others[0], self.value, self.path).bare
        return hint

    @property
    def is_union(self) -> bool:
        """Whether there are several alternatives in addition to null."""
        return get_origin(self.bare) in UNIONS

    def below(self, name: Any) -> str:
        """The path of a value inside this one."""
        return f"{self.path}[{name}]" if isinstance(name, int) else below(self.path, name)

    def inside(self, name: Any) -> Place:
        """The place of a value inside this one: a field, a key or an index."""
        try:
            value = self.value[name]
        except (KeyError, IndexError, TypeError):
            value = None
        return Place(_hint_inside(self.bare, name), value, self.below(name))


def _hint_inside(hint: Any, name: Any) -> Any:
    """The annotation of a field, a key or an index of a value."""
    origin, args = get_origin(hint), get_args(hint)
    if is_group(hint):
        return hint.model_fields[name].rebuild_annotation()
    if origin in (dict, Mapping):
        return args[1]
    is_fixed = origin is tuple and args[-1] is not Ellipsis
    return args[name] if is_fixed else args[0]


@cache
def adapter(hint: Any) -> TypeAdapter[Any]:
    bare = Place(hint, None, "").bare
    if is_group(bare) or is_dataclass(bare):  # these have their own configuration
        return TypeAdapter(lossless(hint))
    return TypeAdapter(lossless(hint), config=ConfigDict(arbitrary_types_allowed=True))


def is_group(hint: Any) -> bool:
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
        group = Annotated[hint, BeforeValidator(_empty_if_none)] if is_group(hint) else hint
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
