"""`Dataset`: aligned samples of several modalities, as indices into tables that store each value
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import index
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import (
    Batch,
    Modality,
    as_mask,
    check_mappings,
    check_masks,
    has_holes,
    is_observed,
    on,
    with_holes,
)
from polymodal.checks import shown
from polymodal.data.kinds import kind_of
from polymodal.data.labels import Class, moved, united, with_classes

PARTS = ("train", "val", "test")


def gather(table: Tensor, rows: Tensor) -> Tensor:
    """`table[rows]` as floating point: uint8 images become [0, 1]; image tables stay channels-last
    in memory.
    """
    if table.dim() == 4 and table.is_contiguous(memory_format=torch.channels_last):
        x = table.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
    else:
        x = table.index_select(0, rows)
    return x.to(torch.get_default_dtype()).div_(255) if x.dtype == torch.uint8 else x


@dataclass(frozen=True)
class Dataset:
    """N samples; modality m of sample i is `tables[m][index[m][i]]` (`tables[m][i]` without an
    index).

    Args:
        modalities: what each modality is, in order.
        tables: tables[m] of shape (N_m, *shape_m), tensors or arrays of real numbers, which become
            torch's default floating point. Bytes that are shares (see `Kind.are_shares`) stay bytes
            and are read as x / 255.
        index: index[m] of shape (N,), rows of tables[m]; no key: sample i is row i.
        present: present[m] of shape (N,), 0 or 1; no key: all present.
        label: (N,) whole numbers or words, which become classes 0, 1, ... in their order; or None.
        kept: what a stage keeps, each (N, ...).
        classes: the labels of the classes, as they were given; none: those that occur in `label`.
        holes: the modalities whose tables have holes; None: looked for.

    Raises:
        ValueError: if names, shapes or lengths do not fit together, or there is no sample. `check`
            checks the values, since that reads all of them.

    >>> data = Dataset([Modality("a", (2,))], {"a": torch.arange(6.).reshape(3, 2)})
    >>> len(data), data.batch(torch.tensor([2, 0])).x["a"]
    (3, tensor([[4., 5.],
            [0., 1.]]))
    """

    modalities: Sequence[Modality]
    tables: Mapping[str, Tensor]
    index: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)
    label: Tensor | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Sequence[Class] = ()
    holes: frozenset[str] | None = None

    def __post_init__(self) -> None:
        check_mappings(tables=self.tables, index=self.index, present=self.present)
        if not all(isinstance(m, Modality) for m in self.modalities):
            raise ValueError(f"modalities must be Modality objects, got {self.modalities!r:.80}.")
        object.__setattr__(self, "index", {m: _rows(v, m) for m, v in self.index.items()})
        self._check_tables()
        self._check_rows()

    def _check_tables(self) -> None:
        """Converts the tables. Raises ValueError if they do not fit the modalities."""
        names = self.names
        if not names or set(names) != set(self.tables) or len(set(names)) < len(names):
            raise ValueError(
                "A data set needs one table for each of its modalities: got modalities"
                f" {names} and tables {sorted(self.tables)}."
            )
        tables = {m.name: kind_of(m).as_table(self.tables[m.name], m) for m in self.modalities}
        object.__setattr__(self, "tables", tables)
        for m in self.modalities:
            shape = tuple(tables[m.name].shape[1:])
            if shape != m.shape or not tables[m.name].dim():
                raise ValueError(
                    f"Modality {m.name!r} has shape {m.shape}, but its table holds values of shape"
                    f" {shape}."
                )
        sizes = {m: self._size(m) for m in names}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"Every modality must have the same number of samples, got {sizes}.")
        if not len(self):
            raise ValueError("The data set is empty; it needs at least one sample.")

    def _check_rows(self) -> None:
        """Converts masks and labels. Raises ValueError if they do not fit the samples."""
        check_masks(self.index, self.tables, "index[{!r}]")
        for m, rows in self.index.items():
            last = len(self.tables[m]) - 1
            if not 0 <= int(rows.min()) <= int(rows.max()) <= last:
                raise ValueError(
                    f"index[{m!r}] must hold rows of its table, whole numbers from 0 to {last}."
                )
        check_masks(self.present, self.tables)
        shapes = {m.name: None if m.name in self.index else m.shape for m in self.modalities}
        present = {
            m: as_mask(mask, len(self), f"present[{m!r}]", shapes[m])
            for m, mask in self.present.items()
        }
        self._find_holes(present)
        object.__setattr__(self, "present", present)
        if self.label is None:
            return
        label, classes = with_classes(self.label, self.classes)
        if len(label) != len(self):
            raise ValueError(f"{len(self)} samples need as many labels, got {len(label)}.")
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "classes", classes)

    def _find_holes(self, present: dict[str, Tensor]) -> None:
        """Makes holes of masks of entries, and samples without any entry absent in `present`."""
        for m, mask in present.items():
            if mask.dim() > 1:
                table, present[m] = with_holes(self.tables[m], mask)
                object.__setattr__(self, "tables", {**self.tables, m: table})
                object.__setattr__(self, "holes", None)
        if self.holes is not None:
            return
        holes = frozenset(m for m, table in self.tables.items() if has_holes(table))
        object.__setattr__(self, "holes", holes)
        for m in holes:
            observed = is_observed(self.tables[m])[self.rows_of(m)]
            if not observed.all():
                present[m] = observed & present[m] if m in present else observed

    def __len__(self) -> int:
        return self._size(self.names[0])

    def _size(self, m: str) -> int:
        return len(self.index[m]) if m in self.index else len(self.tables[m])

    @property
    def names(self) -> list[str]:
        return [m.name for m in self.modalities]

    def rows_of(self, m: str, samples: Tensor | None = None) -> Tensor:
        """The rows of table m where `samples` (B,) stand, (B,); of all samples if None."""
        if samples is None:
            samples = torch.arange(len(self), device=self.device)
        index = self.index.get(m)
        return samples if index is None else index.index_select(0, samples)

    def _labels(self, samples: Tensor) -> Tensor | None:
        return None if self.label is None else self.label.index_select(0, samples)

    def is_present(self, m: str) -> Tensor:
        """Which samples have modality m, (N,) bool."""
        if m in self.present:
            return self.present[m]
        return torch.ones(len(self), dtype=torch.bool, device=self.device)

    def batch(self, samples: Tensor) -> Batch:
        """The samples (B,) as a Batch."""
        return Batch(
            {m: gather(table, self.rows_of(m, samples)) for m, table in self.tables.items()},
            _picked(self.present, samples),
            self._labels(samples),
            _picked(self.kept, samples),
            self.holes,
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples in order, `size` at a time."""
        for rows in torch.arange(len(self), device=self.device).split(size):
            yield self.batch(rows)

    def take(self, samples: Tensor) -> Dataset:
        """The samples (B,) as a data set; the tables are shared, not copied."""
        return replace(
            self,
            index={m: self.rows_of(m, samples) for m in self.tables},
            present=_picked(self.present, samples),
            label=self._labels(samples),
            kept=_picked(self.kept, samples),
        )

    def first(self, limit: int | None) -> Dataset:
        """The first `limit` samples; None: all."""
        if limit is None or limit >= len(self):
            return self
        return self.take(torch.arange(limit, device=self.device))

    @property
    def device(self) -> torch.device:
        return next(iter(self.tables.values())).device

    def to(self, device: torch.device | str) -> Dataset:
        """The data set with everything on `device`."""
        return replace(
            self,
            tables=on(device, self.tables),
            index=on(device, self.index),
            present=on(device, self.present),
            label=None if self.label is None else self.label.to(device),
            kept=on(device, self.kept),
        )

    def moments(self, m: str) -> tuple[Tensor, Tensor]:
        """Mean and variance (*shape) of the observed values of modality m, float64. A mean of 0
        becomes that of half a value of 1.
        """
        count = max(1, int(self.is_present(m).sum()))
        mean, variance = self.exact_moments(m)
        return mean.clamp_min(0.5 / count), variance

    def exact_moments(self, m: str) -> tuple[Tensor, Tensor]:
        """Mean and variance (*shape) of the observed values of modality m, float64."""
        mean, square = self._means(m)
        return mean, (square - mean.square()).clamp_min(0)

    def mean(self, m: str) -> Tensor:
        """The mean (*shape) of the observed values of modality m, float64."""
        return self._means(m)[0]

    def _means(self, m: str) -> Tensor:
        """Means of the values and of their squares, (2, *shape)."""
        rows = self.rows_of(m)[self.is_present(m)]
        sums = torch.zeros(3, *self.tables[m].shape[1:], dtype=torch.float64, device=self.device)
        for some in rows.split(4096):
            x = gather(self.tables[m], some).double()
            sums += torch.stack([x.nansum(0), x.square().nansum(0), (~x.isnan()).sum(0)])
        return sums[:2] / sums[2].clamp_min(1)

    def check(self, part: str = "") -> Dataset:
        """The data set itself, if one can train on its values.

        Args:
            part: its name, for the sentences.

        Raises:
            ValueError: for values that are NaN, infinite or not admitted by the likelihood where
                the modality is present (naming modality, count and samples), for a modality that is
                present nowhere, and for a sample without any modality.
        """
        present = {m: self.is_present(m) for m in self.names}
        for m in self.modalities:
            if not present[m.name].any():
                samples = (
                    f"{len(self)} samples of the {part} part" if part else f"{len(self)} samples"
                )
                raise ValueError(
                    f"Modality {m.name!r} is missing from all {samples}; leave it out."
                )
            rows, words = self.rows_of(m.name), f"Modality {m.name!r}"
            kind_of(m).check(self.tables[m.name], m, words, rows, present[m.name])
        _check_none_empty(list(present.values()))
        return self


def _rows(rows: Any, m: str) -> Tensor:
    """Rows of a table (N,), int64, from whole numbers. Raises ValueError for all else."""
    if isinstance(rows, Tensor) and rows.dtype == torch.int64 and rows.dim() == 1:
        return rows
    values = rows.tolist() if hasattr(rows, "tolist") else rows
    try:
        return torch.tensor([index(row) for row in values], dtype=torch.int64)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise ValueError(
            f"index[{m!r}] must hold rows of its table, whole numbers, got {shown(rows)}."
        ) from None


def _picked(values: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    return {k: v.index_select(0, rows) for k, v in values.items()}


def _check_none_empty(present: Sequence[Tensor]) -> None:
    """Raises ValueError if a sample has no modality; present[m] is (N,) bool."""
    empty = (~torch.stack(list(present)).any(0)).nonzero().squeeze(1).tolist()
    if empty:
        raise ValueError(
            f"{len(empty)} samples have no modality at all (first: {empty[:5]}); drop them."
        )


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


def consecutive(
    modalities: Sequence[Modality],
    tables: Mapping[str, Tensor],
    label: Tensor | None,
    sizes: Sequence[int],
) -> list[Dataset]:
    """Consecutive parts of tables as data sets: views of the same memory."""
    cut = {m: t.split(list(sizes)) for m, t in tables.items()}
    labels = [None] * len(sizes) if label is None else label.split(list(sizes))
    return [
        Dataset(modalities, {m: t[k] for m, t in cut.items()}, label=labels[k])
        for k in range(len(sizes))
    ]
