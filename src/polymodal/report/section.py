"""A part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polymodal.report.pictures import Group


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Args:
        words: how many leading columns of its table hold words.
        folded: whether it is shown when it is opened only.
    """

    title: str
    texts: Sequence[str] = ()
    warnings: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    words: int = 1
    note: str = ""
    groups: Sequence[Group] = ()
    details: Sequence[tuple[str, str]] = ()
    folded: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether it has neither a table nor pictures nor, in their place, a text."""
        if self.head or any(group.pictures for group in self.groups):
            return False
        return bool(self.groups) or not self.texts
