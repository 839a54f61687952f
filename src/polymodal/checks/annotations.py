"""Annotations of settings, and pydantic's adapters to them that lose nothing."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    InstanceOf,
    Strict,
    TypeAdapter,
)

from polymodal.checks.names import below, shown

LEAST, MOST = 1e-15, 1e15  # sizes of numbers, whose squares a float32 holds with all digits


def at_most(most: int) -> AfterValidator:
    """A bound that a sentence names only where it is exceeded."""

    def check(value: int) -> int:
        if abs(value) > most:
            raise ValueError(f"must be at most {most:,}, got {shown(value)}.")
        return value

    return AfterValidator(check)


def _sized(value: float) -> float:
    if value and not LEAST <= abs(value) <= MOST:
        raise ValueError(f"must lie between {LEAST:g} and {MOST:g} in size, got {value:g}.")
    return value


def _text(value: str) -> str:
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"must be text of whole characters, got {shown(value)}.")
    return value


def _named(value: str) -> str:
    if not value or any(len(os.fsencode(part)) > 255 for part in value.split("/")):
        raise ValueError(f"must name a file or a folder, got {shown(value)}.")
    return value


# Types of settings, for annotations. All numbers are finite and of a size that can be computed
# with, see `LOSSLESS`.
Count = Annotated[int, Ge(1), at_most(10**9)]  # 1, 2, ...
CountOrZero = Annotated[int, Ge(0), at_most(10**9)]  # 0, 1, 2, ...
Size = Annotated[int, Ge(1), at_most(10**6)]  # of a layer, a latent
SizeOrZero = Annotated[int, Ge(0), at_most(10**6)]
Depth = Annotated[int, Ge(1), at_most(1000)]  # of layers, one after the other
DepthOrZero = Annotated[int, Ge(0), at_most(1000)]
Seed = Annotated[int, Ge(0), at_most(2**32 - 1)]
NonNegative = Annotated[float, Ge(0)]  # [0, inf)
Positive = Annotated[float, Gt(0)]  # (0, inf)
Memory = Literal["auto"] | Positive  # in GB
Share = Annotated[float, Ge(0), Le(1)]  # [0, 1]
BelowOne = Annotated[float, Ge(0), Lt(1)]  # [0, 1)
Measured = NewType("Measured", float)  # a result: any finite number
FileName = Annotated[str, AfterValidator(_named)]
FilePath = FileName | os.PathLike[str]

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
    """What validates values by an annotation, made once."""
    if is_group(Place(hint, None, "").bare):  # these have their own configuration
        return TypeAdapter(lossless(hint))
    return TypeAdapter(lossless(hint), config=ConfigDict(arbitrary_types_allowed=True))


def is_plain(hint: Any) -> bool:
    """Whether an annotation is of numbers, words, paths, null, or lists of them."""
    if get_origin(hint) in (Literal, os.PathLike):
        return True
    inner = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
    if not inner:
        return hint in (*LOSSLESS, NOTHING, Ellipsis)
    return get_origin(hint) in (Annotated, list, tuple, Sequence, *UNIONS) and all(
        map(is_plain, inner)
    )


def is_group(hint: Any) -> bool:
    """Whether an annotation is a class of pydantic's."""
    return inspect.isclass(hint) and issubclass(hint, BaseModel)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _empty_if_none(value: Any) -> Any:
    return {} if value is None else value


LOSSLESS: dict[Any, Any] = {
    int: Annotated[int, Strict(), BeforeValidator(_whole), at_most(2**63 - 1)],
    float: Annotated[float, Strict(), AllowInfNan(False), AfterValidator(_sized)],
    Measured: Annotated[float, Strict(), AllowInfNan(False)],
    bool: Annotated[bool, Strict()],
    str: Annotated[str, Strict(), AfterValidator(_text)],
}
_KEY = Annotated[str, BeforeValidator(str), AfterValidator(_text)]  # 3 is a name as well


def lossless(hint: Any, empty: bool = True) -> Any:
    """The annotation for pydantic that refuses every conversion in which something is lost.

    Args:
        empty: whether null is an empty mapping; it is not where there are other alternatives.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is None:
        return LOSSLESS.get(hint) or _of_class(hint)
    if origin is os.PathLike:
        return Annotated[hint, InstanceOf()]
    if origin in (Literal, Callable):
        return hint
    if origin is Annotated:
        return Annotated[lossless(args[0]), *args[1:]]
    if origin in UNIONS:
        return Union[tuple(lossless(a, False) for a in args)]  # noqa: UP007
    inner = tuple(map(lossless, args))
    if origin in (dict, Mapping):
        inner = (_KEY if args[0] is str else inner[0], inner[1])
        return Annotated[origin[inner], BeforeValidator(_empty_if_none)] if empty else origin[inner]
    return origin[inner]


def _of_class(hint: Any) -> Any:
    """The annotation for pydantic of a class that is none of `LOSSLESS`."""
    if is_group(hint):
        return Annotated[hint, BeforeValidator(_empty_if_none)]
    return Annotated[hint, InstanceOf()] if is_dataclass(hint) else hint
