"""Layers of settings, plain mappings, merged into one: a later layer wins, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from polymodal.checks import shown
from polymodal.checks.yaml_text import read

DEEPEST = 12  # words of the key of an override


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers as one mapping, the last on top.

    >>> merge({"training": {"epochs": 3, "lr": 0.1}}, {"training": {"epochs": 5}})
    {'training': {'epochs': 5, 'lr': 0.1}}
    """
    return reduce(_laid_over, layers, {})


def _laid_over(below: Any, above: Any) -> Any:
    """`above`, completed by the keys of `below` where both are mappings."""
    if not isinstance(above, Mapping):
        return above
    lower = below if isinstance(below, Mapping) else {}
    return {**lower, **{key: _laid_over(lower.get(key), value) for key, value in above.items()}}


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """The layer that overrides such as "training.epochs=5" make; values are YAML.

    Raises ValueError for an override that is not written key=value, or whose value is no YAML.

    >>> parse_overrides(["training.epochs=5", "data.missing={pattern: mcar, rate: .5}"])
    {'training': {'epochs': 5}, 'data': {'missing': {'pattern': 'mcar', 'rate': 0.5}}}
    """
    return merge(*map(_parsed, overrides))


def _parsed(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    words = [word.strip() for word in key.split(".")]
    if not (equals and all(words) and len(words) <= DEEPEST):
        raise ValueError(
            f"A setting is written key=value, such as training.epochs=5; got {shown(override)}."
        )
    value = read(text, f"The value of {shown(key)}")
    for word in reversed(words):
        value = {word: value}
    return value
