"""`Dataset`: aligned samples of several modalities, as index tables over values that are stored once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from polymodal.batch import Batch, Modality


def gather(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]` as floating point: uint8 images become [0, 1]; image tables stay channels-last in memory."""
    if table.dim() == 4 and table.is_contiguous(memory_format=torch.channels_last):
        x = table.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    else:
        x = table.index_select(0, rows)
    return x.to(torch.get_default_dtype()) / 255 if x.dtype == torch.uint8 else x


@dataclass(frozen=True)
class Dataset:
    """N samples; modality m of sample i is `tables[m][index[m][i]]` (`tables[m][i]` without an index).

    Args:
        modalities: what each modality is, in order.
        tables: tables[m] of shape (N_m, *shape_m), float or uint8 (then read as x / 255).
        index: index[m] of shape (N,), rows of tables[m]; no key: sample i is row i.
        present: present[m] of shape (N,) bool; no key: all present.
        label: (N,) integers or None.
        kept: what a stage keeps, each (N, ...).
    """

    modalities: Sequence[Modality]
    tables: Mapping[str, Tensor]
    index: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    label: Tensor | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        m = self.modalities[0].name
        return len(self.index[m]) if m in self.index else len(self.tables[m])

    @property
    def names(self) -> list[str]:
        return [m.name for m in self.modalities]

    def batch(self, rows: Tensor) -> Batch:
        """The samples `rows` (B,) as a Batch."""
        at = lambda m: self.index[m].index_select(0, rows) if m in self.index else rows
        return Batch(
            {m: gather(table, at(m)) for m, table in self.tables.items()},
            {m: v.index_select(0, rows) for m, v in self.present.items()},
            None if self.label is None else self.label.index_select(0, rows),
            {k: v.index_select(0, rows) for k, v in self.kept.items()},
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples in order, `size` at a time."""
        for rows in torch.arange(len(self), device=self.device).split(size):
            yield self.batch(rows)

    def take(self, rows: Tensor) -> Dataset:
        """The samples `rows` as a data set; the tables are shared, not copied."""
        index = {m: self.index[m][rows] if m in self.index else rows for m in self.tables}
        label = None if self.label is None else self.label[rows]
        pick = lambda d: {k: v[rows] for k, v in d.items()}
        return replace(self, index=index, present=pick(self.present), label=label, kept=pick(self.kept))

    @property
    def device(self) -> torch.device:
        return next(iter(self.tables.values())).device

    def to(self, device: torch.device | str) -> Dataset:
        """The data set with everything on `device`."""
        move = lambda d: {k: v.to(device) for k, v in d.items()}
        label = None if self.label is None else self.label.to(device)
        return replace(
            self, tables=move(self.tables), index=move(self.index), present=move(self.present), label=label,
            kept=move(self.kept),
        )


@dataclass(frozen=True)
class Splits:
    """A data set's three parts."""

    train: Dataset
    val: Dataset
    test: Dataset
    name: str = "data"

    @property
    def modalities(self) -> Sequence[Modality]:
        return self.train.modalities
