"""Data that a stage prepares once, and the parameters that it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality
from polymodal.data.dataset import Dataset, gather
from polymodal.model import MultimodalVAE, Stage
from polymodal.networks.components import ROWS, PrincipalComponents
from polymodal.rng import seed_all


@torch.no_grad()
def prepared(stage: Stage, model: MultimodalVAE, data: Dataset, size: int, *keys: Any) -> Dataset:
    """The data after `stage.prepare`, which is called on `size` samples at a time.

    A modality that is returned unchanged stays in its table; one that changed is stored for each
    sample; one that is missing from the result is dropped; a new name is added. The random stream
    is a function of `keys`.
    """
    if stage.prepare is None:
        return data
    parts = _Parts(data, size)
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
        size: of the batches.
    """

    def __init__(self, data: Dataset, size: int) -> None:
        self.data, self.size = data, size
        self.values: dict[str, list[Tensor | None]] = {}  # None: unchanged
        self.kept: dict[str, list[Tensor]] = {}

    def add(self, before: Batch, after: Batch) -> None:
        for m, x in after.x.items():
            unchanged = m in before.x and _same(x, before.x[m])
            self.values.setdefault(m, []).append(None if unchanged else x)
        for name, value in after.kept.items():
            self.kept.setdefault(name, []).append(value)

    def joined(self) -> Dataset:
        tables = {m: self._table(m) for m in self.values}
        shapes = {m: tuple(table.shape[1:]) for m, table in tables.items()}
        return replace(
            self.data,
            modalities=self._modalities(shapes),
            tables=tables,
            index={m: v for m, v in self.data.index.items() if self._is_unchanged(m)},
            present={m: v for m, v in self.data.present.items() if m in tables},
            kept={name: torch.cat(values) for name, values in self.kept.items()},
        )

    def _is_unchanged(self, m: str) -> bool:
        return m in self.values and all(part is None for part in self.values[m])

    def _table(self, m: str) -> Tensor:
        """The table as it was; of a modality that changed: one row for each sample."""
        if self._is_unchanged(m):
            return self.data.tables[m]
        samples = torch.arange(len(self.data), device=self.data.device).split(self.size)
        parts = zip(samples, self.values[m], strict=True)
        return torch.cat([self._before(m, s) if x is None else x for s, x in parts])

    def _before(self, m: str, samples: Tensor) -> Tensor:
        return gather(self.data.tables[m], self.data.rows_of(m, samples))

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
