"""`Recommendation`: a method and a training, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recommendation:
    """What `polymodal init` writes down.

    Args:
        method: a key of METHODS.
        reason: for it, in one clause.
        options: of the method.
        training: settings of the section `training`.
        because: the reason for them, in one clause.
        networks: of modalities, where they are not those of their kinds.
        weights: of modalities in training, where they are not 1.
    """

    method: str
    reason: str
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    because: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
