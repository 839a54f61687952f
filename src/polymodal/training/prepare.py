"""What the steps of a stage need: random streams, optimiser, learning rate, which parameters, which
data.
"""

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
from polymodal.rng import seed_all


@torch.no_grad()
def prepared(
    stage: Stage, model: MultimodalVAE, data: Dataset, size: int, *keys: Any
) -> Dataset:
    """What `stage.prepare` makes of the data, `size` samples at a time.

    A modality that comes back as it was stays in its table, one that changed is stored for each
    sample, one that is gone is dropped, a new name is added. The random stream is a function of
    `keys`.
    """
    if stage.prepare is None:
        return data
    found: dict[str, list[Tensor | None]] = {}
    kept: dict[str, list[Tensor]] = {}
    for i, batch in enumerate(data.batches(size)):
        seed_all(data.device, *keys, i)
        out = stage.prepare(model, batch)
        for m, x in out.x.items():
            found.setdefault(m, []).append(None if m in batch.x and _same(x, batch.x[m]) else x)
        for k, v in out.kept.items():
            kept.setdefault(k, []).append(v)
    tables: dict[str, Tensor] = {}
    index: dict[str, Tensor] = {}
    for m, parts in found.items():
        if all(part is None for part in parts):
            tables[m] = data.tables[m]
            index |= {m: data.index[m]} if m in data.index else {}
        else:
            rows = torch.arange(len(data), device=data.device).split(size)
            at = lambda r, m=m: data.index[m][r] if m in data.index else r
            tables[m] = torch.cat(
                [
                    gather(data.tables[m], at(r)) if x is None else x
                    for r, x in zip(rows, parts, strict=True)
                ]
            )
    shapes = {m: tuple(table.shape[1:]) for m, table in tables.items()}
    modalities = [replace(m, shape=shapes[m.name]) for m in data.modalities if m.name in tables]
    modalities += [Modality(m, shapes[m]) for m in tables if m not in data.names]
    present = {m: v for m, v in data.present.items() if m in tables}
    joined = {k: torch.cat(v) for k, v in kept.items()}
    return replace(
        data, modalities=modalities, tables=tables, index=index, present=present, kept=joined
    )


def _same(x: Tensor, y: Tensor) -> bool:
    """The same tensor, or the same values: a `Batch` with absent entries copies what it is given."""
    return x is y or (x.shape == y.shape and x.dtype == y.dtype and torch.equal(x, y))


class Batches:
    """All samples in order, `size` at a time, as often as one likes."""

    def __init__(self, data: Dataset, size: int) -> None:
        self.data, self.size = data, size

    def __iter__(self) -> Iterator[Batch]:
        return self.data.batches(self.size)


@contextmanager
def training_only(model: nn.Module, modules: Sequence[nn.Module]) -> Iterator[list[nn.Parameter]]:
    """Inside, gradients reach the parameters of `modules` alone: those given here, less what was
    frozen before.
    """
    flags = {p: p.requires_grad for p in model.parameters()}
    wanted = {id(p) for module in modules for p in module.parameters()}
    try:
        for p, flag in flags.items():
            p.requires_grad_(flag and id(p) in wanted)
        yield [p for p, flag in flags.items() if flag and id(p) in wanted]
    finally:
        for p, flag in flags.items():
            p.requires_grad_(flag)


@torch.no_grad()
def copy_into(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Writes `values` into the tensors of `state` of the same names."""
    for name, value in values.items():
        state[name].copy_(value)
