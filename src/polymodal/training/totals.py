"""Sums of losses over an epoch, and the check that they are finite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from polymodal.batch import on
from polymodal.model import Loss

SHOWN = 5  # rows of the data that an error names


class Terms(NamedTuple):
    """A loss and its terms, by name, of each sample: values (T, B)."""

    names: list[str]
    values: Tensor

    def sums(self) -> dict[str, Tensor]:
        """The sums over the samples."""
        return dict(zip(self.names, self.values.sum(1), strict=True))


def table_of(loss: Loss) -> Terms:
    """The values of a loss, in double precision where the device has it."""
    value = loss.value.detach()
    terms = [t.detach().to(value.dtype).expand_as(value) for t in loss.terms.values()]
    values = torch.stack([value, *terms])
    has_double = values.device.type != "mps"
    return Terms(["loss", *loss.terms], values.double() if has_double else values)


class Totals:
    """Sums and counts by name, from which means are computed."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, sums: Mapping[str, Tensor], count: int) -> None:
        """Adds sums over `count` samples."""
        for name, total in sums.items():
            self._add(name, total, count)

    def merge(self, other: Totals) -> None:
        """Adds the sums and counts of `other`."""
        for name, total in other.sums.items():
            self._add(name, total, other.counts[name])

    def _add(self, name: str, total: Tensor, count: int) -> None:
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] = self.counts.get(name, 0) + count

    def snapshot(self) -> dict[str, Any]:
        """The state, for `restore`; nothing is copied."""
        return {"sums": self.sums, "counts": self.counts}

    def restore(self, snapshot: Mapping[str, Any], device: torch.device) -> None:
        """Resumes from a `snapshot`."""
        self.counts = dict(snapshot["counts"])
        self.sums = on(device, snapshot["sums"])

    def means(self) -> dict[str, float]:
        """The means by name."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}


class Recent(NamedTuple):
    """The losses of a step that were not looked at yet, with the rows of the data."""

    step: int
    epoch: int
    rows: Tensor
    table: Terms

    def sum(self) -> Tensor:
        """The sum of all values, on the CPU."""
        return self.table.values.sum().double().cpu()


class FiniteCheck:
    """Raises ValueError where a loss is not finite.

    Looking at a loss on a GPU waits for it; there, losses are looked at in groups.

    Args:
        stage: the name of the stage.
        lr: its learning rate, for the advice.
    """

    def __init__(self, stage: str, lr: float) -> None:
        self.stage, self.lr = stage, lr
        self.recent: list[Recent] = []

    def add(self, recent: Recent) -> None:
        """Keeps losses for the next `look`."""
        self.recent.append(recent)

    def look(self) -> None:
        """Looks at all losses since the last look."""
        recent, self.recent = self.recent, []
        if not recent:
            return
        if torch.stack([r.sum() for r in recent]).isfinite().all():
            return
        for r in recent:
            self.check(f"at step {r.step + 1} (epoch {r.epoch + 1})", r.rows, r.table)

    def check(self, when: str, rows: Tensor, table: Terms) -> None:
        """Raises ValueError if a value of the table is not finite.

        Args:
            when: such as "at step 3".
            rows: of the data, (B,); empty if the values are not of samples.
        """
        bad = ~table.values.isfinite()
        if not bad.any():
            return
        terms, where, mend = ", ".join(_terms(table.names, bad)), "", ""
        if len(rows):
            where = f" in {_listed(rows.cpu()[bad.any(0).cpu()].tolist(), len(rows))}"
            mend = ", or mend those rows"
        raise ValueError(
            f"Stage {self.stage!r} stopped {when}: {terms} became infinite or NaN{where}; try a"
            f" smaller training.lr (now {self.lr:g}) or training.clip=1{mend}."
        )


def _terms(names: Sequence[str], bad: Tensor) -> list[str]:
    """The names of the rows of `bad` (T, B) that contain True; the loss itself only if no term is
    among them.
    """
    bad_names = [name for name, b in zip(names, bad.any(1).tolist(), strict=True) if b]
    return [name for name in bad_names if name != "loss"] or bad_names


def _listed(rows: Sequence[Any], batch: int) -> str:
    """The first of the rows, in words."""
    shown = ", ".join(map(str, rows[:SHOWN]))
    more = f" and {len(rows) - SHOWN} more of the batch's {batch}" if len(rows) > SHOWN else ""
    return f"the rows {shown} of the data{more}"
