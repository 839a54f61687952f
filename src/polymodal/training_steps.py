"""What the steps of a stage need: random streams, optimiser, learning rate, which parameters, which data."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from polymodal.batch import Batch, Modality
from polymodal.data.dataset import Dataset, gather
from polymodal.model import Stage
from polymodal.settings import StageSettings


def stream(*keys: Any) -> int:
    """A seed that is a function of `keys` (numbers and words)."""
    return int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:8], "big")


def seed_all(device: torch.device, *keys: Any) -> None:
    """Sets torch's random streams on the CPU and on `device` to a function of `keys`."""
    seed = stream(*keys)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would queue a call for every absent GPU: slow
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Leaves torch's random streams as they were."""
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        yield


def make_optimizer(parameters: Sequence[nn.Parameter], settings: StageSettings) -> torch.optim.Optimizer:
    """The optimiser that the settings name; fused (a few times faster on small networks) where that exists."""
    given: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, **given)
    # A fused step unscales by itself, which is too late for clipping.
    given["fused"] = settings.precision != "16-mixed" and parameters[0].device.type in ("cpu", "cuda")
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **given)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, amsgrad=settings.optimizer == "amsgrad", **given)


class Rate:
    """The learning rate of a step: linear warm-up, times cosine or the plateau's scale."""

    def __init__(self, settings: StageSettings, steps: int) -> None:
        self.settings, self.steps = settings, steps
        self.scale, self.best, self.bad = 1.0, math.inf, 0

    def __call__(self, step: int) -> float:
        s = self.settings
        rate = s.lr * self.scale * min(1.0, (step + 1) / s.warmup if s.warmup else 1.0)
        if s.schedule == "cosine" and step >= s.warmup:
            rate *= 0.5 * (1 + math.cos(math.pi * (step - s.warmup) / max(1, self.steps - s.warmup)))
        return rate

    def evaluated(self, value: float) -> None:
        """Tells the plateau of a validation loss."""
        if self.settings.schedule != "plateau":
            return
        self.best, self.bad = (value, 0) if value < self.best else (self.best, self.bad + 1)
        if self.bad > self.settings.plateau:
            self.scale, self.bad = self.scale * self.settings.factor, 0


@torch.no_grad()
def prepared(stage: Stage, data: Dataset, size: int, *keys: Any) -> Dataset:
    """What `stage.prepare` makes of the data, `size` samples at a time.

    A modality that comes back as it was stays in its table, one that changed is stored for each sample, one that is
    gone is dropped, a new name is added. The random stream is a function of `keys`.
    """
    if stage.prepare is None:
        return data
    found: dict[str, list[Tensor | None]] = {}
    kept: dict[str, list[Tensor]] = {}
    for i, batch in enumerate(data.batches(size)):
        seed_all(data.device, *keys, i)
        out = stage.prepare(batch)
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
                [gather(data.tables[m], at(r)) if x is None else x for r, x in zip(rows, parts, strict=True)]
            )
    shapes = {m: tuple(table.shape[1:]) for m, table in tables.items()}
    modalities = [replace(m, shape=shapes[m.name]) for m in data.modalities if m.name in tables]
    modalities += [Modality(m, shapes[m]) for m in tables if m not in data.names]
    present = {m: v for m, v in data.present.items() if m in tables}
    joined = {k: torch.cat(v) for k, v in kept.items()}
    return replace(data, modalities=modalities, tables=tables, index=index, present=present, kept=joined)


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
    """Inside, gradients reach the parameters of `modules` alone: those given here, less what was frozen before."""
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
