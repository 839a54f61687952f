"""Plain values, and how two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polymodal.checks.names import below

ABSENT = object()


def plain(value: Any) -> Any:
    """Arrays and their numbers, at any depth, as lists and numbers of Python."""
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.tolist() if hasattr(value, "tolist") else value


def check_positive(whose: str, **settings: float) -> None:
    """Raises ValueError, naming the setting, where one is not positive."""
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{whose}'s {name} must be positive, got {value}.")


def first_difference(ours: Any, theirs: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first key at which two nested mappings differ, with both values; None if they are equal.

    A key that only one of them has is "nothing" in the other.
    """
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return None if ours == theirs else (path, _or_nothing(ours), _or_nothing(theirs))
    for key in dict.fromkeys([*ours, *theirs]):
        pair = ours.get(key, ABSENT), theirs.get(key, ABSENT)
        difference = first_difference(*pair, below(path, key))
        if difference:
            return difference
    return None


def _or_nothing(value: Any) -> Any:
    return "nothing" if value is ABSENT else value
