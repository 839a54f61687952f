"""What is measured."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from polymodal.model import MultimodalVAE


@runtime_checkable
class Run(Protocol):
    """The part of `polymodal.Run` that a measurement uses."""

    model: MultimodalVAE
    settings: dict[str, Any]
    metrics: dict[str, Any]
    directory: Path | None

    @property
    def seed(self) -> int: ...
    @property
    def method_name(self) -> str: ...
    def writing(self) -> AbstractContextManager[Any]: ...
    def save_metrics(self, metrics: Mapping[str, Any]) -> None: ...
