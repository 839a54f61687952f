"""`Dataset`: aligned samples of several modalities, as indices into tables that store each value
once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import (
    Batch,
    Modality,
    as_mask,
    as_places,
    check_mappings,
    check_masks,
    on,
    with_holes,
)
from polymodal.data.kinds import kind_of
from polymodal.data.labels import Class, with_classes
from polymodal.data.rows import (
    ahead,
    as_floats,
    as_rows,
    ask_for,
    means_of,
    pick,
    picked,
    scan_holes,
)


@dataclass(frozen=True)
class Read:
    """Samples (B,) as they are stored: values x[m] and what stages kept."""

    samples: Tensor
    x: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]


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
        covariates: covariates[m] of shape (N,), places of categories; see `Batch`.
        classes: the labels of the classes, as they were given; none: those that occur in `label`.
        holes: the modalities of which samples have holes; None: looked for.
        streams_to: the device of batches, of data that are too large for it or for memory: tables
            and what is kept stay where they are, and batches are read ahead (see `streamed`); None:
            all lies on one device.

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
    streams_to: torch.device | None = None
    covariates: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_mappings(tables=self.tables, index=self.index, present=self.present)
        if not all(isinstance(m, Modality) for m in self.modalities):
            raise ValueError(f"modalities must be Modality objects, got {self.modalities!r:.80}.")
        object.__setattr__(self, "index", {m: as_rows(v, m) for m, v in self.index.items()})
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
        covariates = {m: as_places(v, len(self), m) for m, v in self.covariates.items()}
        object.__setattr__(self, "covariates", covariates)
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
        found = set()
        for m, table in self.tables.items():
            observed, holes = scan_holes(table, self.rows_of(m))
            if holes:
                found.add(m)
            if not observed.all():
                present[m] = observed & present[m] if m in present else observed
        object.__setattr__(self, "holes", frozenset(found))

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
        return samples if index is None else pick(index, samples)

    def _labels(self, samples: Tensor) -> Tensor | None:
        return None if self.label is None else picked({"": self.label}, samples)[""]

    def is_present(self, m: str) -> Tensor:
        """Which samples have modality m, (N,) bool."""
        if m in self.present:
            return self.present[m]
        return torch.ones(len(self), dtype=torch.bool, device=self.device)

    def batch(self, samples: Tensor) -> Batch:
        """The samples (B,) as a Batch."""
        return self.as_batch(self.read(samples))

    def read(self, samples: Tensor) -> Read:
        """The samples (B,) as they are stored, where they are stored."""
        if self.streamed:
            samples = samples.to("cpu")  # as index and tables are
            for m, table in self.tables.items():
                ask_for(table, self.rows_of(m, samples))
        x = {m: pick(table, self.rows_of(m, samples)) for m, table in self.tables.items()}
        return Read(samples, x, picked(self.kept, samples))

    def as_batch(self, read: Read) -> Batch:
        """What was read as a Batch, on the data's device."""
        samples = read.samples.to(self.device)
        return Batch(
            {m: as_floats(x) for m, x in on(self.device, read.x).items()},
            picked(self.present, samples),
            self._labels(samples),
            on(self.device, read.kept),
            self.holes,
            covariates=picked(self.covariates, samples),
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples in order, `size` at a time."""
        yield from self.read_ahead(torch.arange(len(self)).split(size))

    def read_ahead(self, parts: Iterable[Tensor]) -> Generator[Batch, None, None]:
        """The samples of each of `parts` as a Batch; streamed data are read by a thread, before
        they are asked for.
        """
        if not self.streamed:
            yield from (self.batch(samples.to(self.device)) for samples in parts)
            return
        with closing(ahead(self.read, parts)) as reads:
            for read in reads:
                yield self.as_batch(read)

    def take(self, samples: Tensor) -> Dataset:
        """The samples (B,) as a data set; the tables are shared, not copied."""
        return replace(
            self,
            index=self._taken(samples),
            present=picked(self.present, samples),
            label=self._labels(samples),
            kept=picked(self.kept, samples),
            covariates=picked(self.covariates, samples),
        )

    def _taken(self, samples: Tensor) -> dict[str, Tensor]:
        """The rows of every table where samples stand; of streamed data, on the CPU."""
        samples = samples.to("cpu") if self.streamed else samples
        return {m: self.rows_of(m, samples) for m in self.tables}

    def first(self, limit: int | None) -> Dataset:
        """The first `limit` samples; None: all."""
        if limit is None or limit >= len(self):
            return self
        return self.take(torch.arange(limit, device=self.device))

    @property
    def device(self) -> torch.device:
        """The device of batches, masks and labels."""
        return self.streams_to or next(iter(self.tables.values())).device

    @property
    def streamed(self) -> bool:
        """Whether tables stay where they are, and only batches come to the device."""
        return self.streams_to is not None

    def to(self, device: torch.device | str) -> Dataset:
        """The data set with everything on `device`; of streamed data, masks and labels."""
        values = {"tables": self.tables, "index": self.index, "kept": self.kept}
        changes: dict[str, Any] = {
            "present": on(device, self.present),
            "label": None if self.label is None else self.label.to(device),
            "covariates": on(device, self.covariates),
        }
        if self.streamed:
            changes["streams_to"] = torch.device(device)
        else:
            changes |= {name: on(device, value) for name, value in values.items()}
        return replace(self, **changes)

    def stream(self) -> Dataset:
        """The data set as a streamed one, whose values are on the CPU."""
        device = self.device
        streamed = replace(self.to("cpu"), streams_to=torch.device("cpu"))
        return streamed.to(device)

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
        return means_of(self.tables[m], self.rows_of(m)[self.is_present(m)])

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


def _check_none_empty(present: Sequence[Tensor]) -> None:
    """Raises ValueError if a sample has no modality; present[m] is (N,) bool."""
    empty = (~torch.stack(list(present)).any(0)).nonzero().squeeze(1).tolist()
    if empty:
        raise ValueError(
            f"{len(empty)} samples have no modality at all (first: {empty[:5]}); drop them."
        )


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
