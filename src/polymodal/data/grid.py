"""Which cells and modalities the samples of a data set have, and their values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset
from polymodal.data.rows import gather
from polymodal.data.splits import Splits

AT_ONCE = 500  # samples whose values are in memory as floats


@dataclass(frozen=True)
class Pattern:
    """A set of columns and modalities that are missing together, and in how many samples."""

    missing: list[str]
    samples: int


@dataclass(frozen=True)
class Grid:
    """Which cells and modalities samples have.

    Args:
        present: (N, C) bool, of all parts, one after another.
        names: of the C columns: those of tables, and modalities of other kinds.
        modalities: the modality of each column.
    """

    present: np.ndarray
    names: Sequence[str]
    modalities: Sequence[str]

    @classmethod
    def of(cls, splits: Splits) -> Grid:
        """The grid of a data set."""
        columns, names, owners = [], [], []
        for m in splits.modalities:
            parts = [_present(data, m) for data in splits.parts.values()]
            columns.append(torch.cat(parts).numpy())
            names += [column.name for column in m.columns] or [m.name]
            owners += [m.name] * columns[-1].shape[1]
        return cls(np.concatenate(columns, 1), names, owners)

    def patterns(self) -> list[Pattern]:
        """What is missing together, the most frequent pattern first."""
        rows, counts = np.unique(self.present, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return [
            Pattern([n for n, p in zip(self.names, rows[k], strict=True) if not p], int(counts[k]))
            for k in order
        ]


def _present(data: Dataset, m: Modality) -> Tensor:
    """Which cells of a modality are there, (N, d) bool; d is 1 for what is no table."""
    present = data.is_present(m.name)[:, None]
    if not m.columns:
        return present
    return present & ~values_of(data, m).isnan()


def values_of(data: Dataset, m: Modality) -> Tensor:
    """The values of a modality (N, *shape); NaN where a sample lacks it."""
    x = gather(data.tables[m.name], data.rows_of(m.name))
    return x.masked_fill(~data.is_present(m.name).reshape(-1, *[1] * (x.dim() - 1)), float("nan"))


def all_values(splits: Splits, m: Modality) -> Tensor:
    return torch.cat([values_of(data, m) for data in splits.parts.values()])


def extent(splits: Splits, m: Modality) -> tuple[float, float] | None:
    """The smallest and the largest value of a modality; None if there is none."""
    low, high = math.inf, -math.inf
    for data in splits.parts.values():
        for rows in torch.arange(len(data)).split(AT_ONCE):
            x = values_of(data.take(rows), m)
            low = min(low, x.nan_to_num(nan=math.inf).min().item())
            high = max(high, x.nan_to_num(nan=-math.inf).max().item())
    return (low, high) if low <= high else None
