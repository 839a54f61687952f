"""Plain values, and how two of them differ."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from polymodal.checks.names import below

ABSENT = object()
NESTED = 50  # levels of lists and mappings


def plain(value: Any, levels: int = NESTED) -> Any:
    """Groups, arrays, numbers and paths, at any depth, as mappings, lists, numbers and words.

    Raises ValueError for values that are nested more than `levels` deep, such as a list in itself.
    """
    if not levels:
        raise ValueError(f"Settings are nested at most {NESTED} deep; these are nested deeper.")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return {k: plain(v, levels - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, levels - 1) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


def first_difference(ours: Any, theirs: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first key (of lists: place) at which two nested values differ, with both values; None if
    they are equal.

    A key that only one of them has is "nothing" in the other; it makes no difference if its value
    is empty or False, so that a setting which came later with such a default changes no earlier
    run.
    """
    lists = isinstance(ours, list | tuple) and isinstance(theirs, list | tuple)
    if lists and len(ours) == len(theirs):
        ours, theirs = ({str(i): v for i, v in enumerate(each)} for each in (ours, theirs))
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        same = ours == theirs or (ABSENT in (ours, theirs) and _empty(ours) and _empty(theirs))
        return None if same else (path, _or_nothing(ours), _or_nothing(theirs))
    for key in dict.fromkeys([*ours, *theirs]):
        pair = ours.get(key, ABSENT), theirs.get(key, ABSENT)
        difference = first_difference(*pair, below(path, key))
        if difference:
            return difference
    return None


def _empty(value: Any) -> bool:
    return value in (ABSENT, None, (), [], {}, "") or value is False


def _or_nothing(value: Any) -> Any:
    return "nothing" if value is ABSENT else value
