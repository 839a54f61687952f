"""`Splits`: the parts of a data set, for training, choosing and testing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polymodal.batch import Modality
from polymodal.checks import shown
from polymodal.data.dataset import Dataset
from polymodal.data.labels import moved, united

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Splits:
    """The three parts of a data set.

    Args:
        train, val, test: the parts, of the same modalities. Their labels become places among the
            classes of all three.
        name: the data set's name.
        truth: the distribution that the data were drawn from, or what was planted in them, if it is
            known.
    """

    train: Dataset
    val: Dataset
    test: Dataset
    name: str = "data"
    truth: object | None = None

    def __post_init__(self) -> None:
        parts = self.parts.values()
        if not all(isinstance(d, Dataset) and d.names == self.train.names for d in parts):
            raise ValueError(
                "The three parts of Splits must be Datasets of the same modalities, got"
                f" {', '.join(shown(getattr(d, 'names', d)) for d in parts)}."
            )
        classes = united(data.classes for data in self.parts.values() if data.label is not None)
        for part, data in self.parts.items():
            if data.label is not None and tuple(data.classes) != classes:
                label = moved(data.label, data.classes, classes)
                object.__setattr__(self, part, replace(data, label=label, classes=classes))

    @property
    def modalities(self) -> Sequence[Modality]:
        return self.train.modalities

    @property
    def parts(self) -> dict[str, Dataset]:
        """The parts by name, in the order train, val, test."""
        return {part: getattr(self, part) for part in PARTS}

    def map(self, change: Callable[[str, Dataset], Dataset]) -> Splits:
        """The parts changed by `change(part, data)`, in the order train, val, test."""
        parts: dict[str, Any] = {part: change(part, data) for part, data in self.parts.items()}
        return replace(self, **parts)


def parts_of(data: Splits | Dataset) -> tuple[Splits | None, Dataset]:
    """The splits, or None for a data set that has no parts; and the part to measure on: the test
    part, or the data set itself.
    """
    if not isinstance(data, Splits | Dataset):
        raise ValueError(f"The data must be Splits or a Dataset, got {shown(data)}.")
    return (data, data.test) if isinstance(data, Splits) else (None, data)
