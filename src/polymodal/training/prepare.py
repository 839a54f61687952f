"""Data that a stage prepares once, and the parameters that it trains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality, on
from polymodal.data.dataset import Dataset
from polymodal.data.readers.mapped import Room
from polymodal.data.rows import gather, is_channels_last
from polymodal.model import MultimodalVAE, Stage
from polymodal.networks.components import ROWS, PrincipalComponents
from polymodal.rng import seed_all


@torch.no_grad()
def prepared(
    stage: Stage,
    model: MultimodalVAE,
    data: Dataset,
    size: int,
    *keys: Any,
    room: Room | None = None,
) -> Dataset:
    """The data after `stage.prepare`, which is called on `size` samples at a time.

    A modality that is returned unchanged stays in its table; one that changed is stored for each
    sample; one that is missing from the result is dropped; a new name is added. The random stream
    is a function of `keys`.

    Args:
        room: where the values are kept; None: in memory.
    """
    if stage.prepare is None:
        return data
    parts = _Parts(data, room or Room())
    for i, batch in enumerate(data.batches(size)):
        seed_all(data.device, *keys, i)
        parts.add(batch, stage.prepare(model, batch))
    return parts.joined()


def start_decoders(model: MultimodalVAE, data: Dataset) -> None:
    """Starts the decoders of counts at the moments of the training data: with thousands, a decoder
    that starts at 1 has infinite losses.
    """
    for m, decoder in model.decoders.items():
        if getattr(decoder, "reads_moments", False) and m in data.names:
            decoder.start_at(*data.moments(m))


def start_encoders(model: MultimodalVAE, data: Dataset) -> None:
    """Finds the principal components that encoders read, by the training data."""
    for m in data.names:
        found = [p for p in model.modules() if isinstance(p, PrincipalComponents)]
        found = [p for p in found if p.modality == m]
        rows = data.rows_of(m)[data.is_present(m)][:ROWS]
        for part in found:
            if part is found[0]:
                part.start_at(gather(data.tables[m], rows))
            else:
                part.load_state_dict(found[0].state_dict())


class _Parts:
    """The results of `prepare`, batch by batch; the values of an unchanged modality are not kept.

    Args:
        data: the data before.
        room: where values are kept.
    """

    def __init__(self, data: Dataset, room: Room) -> None:
        self.data, self.room, self.done = data, room, 0
        self.is_large = False  # whether some are in files
        self.tables: dict[str, Tensor | None] = {}  # None: unchanged
        self.kept: dict[str, Tensor] = {}

    def add(self, before: Batch, after: Batch) -> None:
        """Keeps the results for the next samples."""
        for m, x in after.x.items():
            unchanged = m in before.x and _same(x, before.x[m])
            if m not in self.tables and unchanged:
                self.tables[m] = None
            if self.tables.get(m) is None and not unchanged:
                self.tables[m] = self._begun(m, x)
            self._put(self.tables[m], x)
        for name, value in after.kept.items():
            if name not in self.kept:
                self.kept[name] = self._empty(value)
            self._put(self.kept[name], value)
        self.done += len(before)

    def _begun(self, m: str, x: Tensor) -> Tensor:
        """Room for the values of a modality that changes, with those before, which did not."""
        table = self._empty(x)
        for start in range(0, self.done, len(x)):
            samples = torch.arange(start, min(start + len(x), self.done), device=self.data.device)
            rows = self.data.rows_of(m, samples)
            table[start : start + len(rows)] = gather(self.data.tables[m], rows)
        return table

    def _empty(self, x: Tensor) -> Tensor:
        """Room for values such as x of all samples; images stay channels-last in memory."""
        last = is_channels_last(x)
        shape = (len(self.data), *(x.permute(0, 2, 3, 1) if last else x).shape[1:])
        self.is_large |= not self.room.holds(math.prod(shape) * x.element_size())
        device = torch.device("cpu") if self.data.streamed else x.device
        table = self.room.empty(shape, x.dtype, device)
        return table.permute(0, 3, 1, 2) if last else table

    def _put(self, table: Tensor | None, x: Tensor) -> None:
        if table is not None:
            table[self.done : self.done + len(x)] = x

    def joined(self) -> Dataset:
        if self.is_large:
            self.data, self.kept = self.data.stream(), on("cpu", self.kept)
        tables = {m: self._table(m) for m in self.tables}
        shapes = {m: tuple(table.shape[1:]) for m, table in tables.items()}
        return replace(
            self.data,
            modalities=self._modalities(shapes),
            tables=tables,
            index={m: v for m, v in self.data.index.items() if self._is_unchanged(m)},
            present={m: v for m, v in self.data.present.items() if m in tables},
            kept=self.kept,
            covariates={m: v for m, v in self.data.covariates.items() if self._is_unchanged(m)},
        )

    def _is_unchanged(self, m: str) -> bool:
        return m in self.tables and self.tables[m] is None

    def _table(self, m: str) -> Tensor:
        """The table as it was; of a modality that changed: one row for each sample."""
        table = self.tables[m]
        if table is None:
            return self.data.tables[m]
        return table.to("cpu") if self.data.streamed else table

    def _modalities(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Modality]:
        """Those that were there before, in order, then the new ones."""
        before = [m for m in self.data.modalities if m.name in shapes]
        new = [m for m in shapes if m not in self.data.names]
        kept = [m if self._is_unchanged(m.name) else _of_shape(m, shapes[m.name]) for m in before]
        return kept + [Modality(m, shapes[m]) for m in new]


def _of_shape(m: Modality, shape: tuple[int, ...]) -> Modality:
    """The modality with values of this shape instead, about which nothing else is known."""
    return Modality(m.name, shape, weight=m.weight)


def _same(x: Tensor, y: Tensor) -> bool:
    """Whether the values are equal, holes included; a `Batch` with absent entries copies its
    tensors.
    """
    if x is y:
        return True
    return x.shape == y.shape and x.dtype == y.dtype and torch.allclose(x, y, 0, 0, equal_nan=True)


class Batches:
    """All samples in order, `size` at a time; can be iterated over again and again."""

    def __init__(self, data: Dataset, size: int) -> None:
        self.data, self.size = data, size

    def __iter__(self) -> Iterator[Batch]:
        return self.data.batches(self.size)


@contextmanager
def training_only(model: nn.Module, modules: Sequence[nn.Module]) -> Iterator[list[nn.Parameter]]:
    """Inside, only the parameters of `modules` get gradients. Yields these parameters, without
    those that were frozen before.
    """
    before = {p: p.requires_grad for p in model.parameters()}
    wanted = {id(p) for module in modules for p in module.parameters()}
    trained = [p for p, flag in before.items() if flag and id(p) in wanted]
    try:
        model.requires_grad_(False)
        for p in trained:
            p.requires_grad_(True)
        yield trained
    finally:
        for p, flag in before.items():
            p.requires_grad_(flag)


@torch.no_grad()
def copy_into(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Writes `values` into the tensors of `state` with the same names."""
    for name, value in values.items():
        state[name].copy_(value)
