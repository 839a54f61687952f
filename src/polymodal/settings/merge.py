"""Layers of settings, plain mappings, merged into one: a later layer wins, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError


def merge(*layers: Mapping[str, Any], interpolate: bool = False) -> dict[str, Any]:
    """The layers as one mapping, the last on top.

    Args:
        interpolate: whether references such as ${training.epochs} are replaced by their values.

    Raises ValueError for layers that do not fit together, or a reference to nothing.

    >>> merge({"training": {"epochs": 3, "lr": 0.1}}, {"training": {"epochs": 5}})
    {'training': {'epochs': 5, 'lr': 0.1}}
    """
    try:
        return _container(OmegaConf.merge(*layers), interpolate)
    except (OmegaConfBaseException, YAMLError) as error:
        raise _unreadable(error) from None


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """The layer that overrides such as "training.epochs=5" make.

    Raises ValueError for an override that is not written key=value, or whose value is no YAML.

    >>> parse_overrides(["training.epochs=5"])
    {'training': {'epochs': 5}}
    """
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            raise ValueError(
                f"A setting is written key=value, such as training.epochs=5; got {override!r}."
            )
    try:
        return _container(OmegaConf.from_dotlist(list(overrides)))
    except (OmegaConfBaseException, YAMLError) as error:
        raise _unreadable(error) from None


def _container(config: Any, interpolate: bool = False) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=interpolate)  # type: ignore[return-value]


def _unreadable(error: Exception) -> ValueError:
    text = " ".join(str(error).split()).removesuffix(".")
    return ValueError(f"The settings cannot be read: {text}.")
