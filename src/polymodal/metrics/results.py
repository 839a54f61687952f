"""The results of an evaluation, written into the run's metrics.json as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from polymodal.data.dataset import Dataset
from polymodal.data.hashing import digests_of, hash_of
from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.run import Run
from polymodal.metrics.sharing import forget_others
from polymodal.metrics.table import COLUMNS, Table

Row = dict[str, Any]
PAUSE = 5.0  # seconds between two writings
OUTDATED = ("asked", "unfinished")  # entries of metrics.json that a new evaluation takes away


class Results:
    """The rows of one evaluation. As a context it writes them on leaving, also after an error.

    While it is unfinished, metrics.json says so, and the same evaluation takes what is there.

    Args:
        run: into whose metrics.json they are written; its other rows stay.
        common: the entries that all rows have; `evaluation` says how and of what they were
            measured.
        metrics: their names, in the order of the rows.
        save: whether they are written.
    """

    def __init__(
        self, run: Run, common: Mapping[str, Any], metrics: Sequence[str], save: bool
    ) -> None:
        self.run, self.common, self.metrics, self.save = run, common, metrics, save
        self.rows: list[Row] = []
        self.written = time.monotonic()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, error: Any, *_: Any) -> None:
        self._write(is_finished=error is None)

    def finished(self) -> list[Row]:
        """The rows that the same evaluation left when it was interrupted."""
        key = self.common["evaluation"]
        if not self.save or self.run.metrics.get("unfinished") != key:
            return []
        rows = [row for row in self.run.metrics["table"] if row["evaluation"] == key]
        return Table.from_records(rows).frame.to_dict("records") if rows else []

    def add(self, row: Row) -> None:
        """Takes a row, and writes all of them if the last time was long ago."""
        self.rows.append({c: {**row, **self.common}[c] for c in COLUMNS})
        if time.monotonic() - self.written > PAUSE:
            self._write(is_finished=False)

    def table(self) -> Table:
        """The rows, in the order of the metrics."""
        ordered = sorted(self.rows, key=lambda row: self.metrics.index(row["metric"]))
        return Table.from_records(ordered)

    def _write(self, is_finished: bool) -> None:
        if not self.save:
            return
        rows = self.table().records()
        measured = {_quantity(row) for row in rows}
        others = [r for r in self.run.metrics.get("table", ()) if _quantity(r) not in measured]
        kept = {k: v for k, v in self.run.metrics.items() if k not in OUTDATED}
        unfinished = {} if is_finished else {"unfinished": self.common["evaluation"]}
        self.run.save_metrics(kept | {"table": others + rows} | unfinished)
        if is_finished and self.run.directory is not None:
            forget_others(self.run.directory)
        self.written = time.monotonic()


def _quantity(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["data"], row["metric"], row["target"], row["given"]


def fingerprint(
    run: Run, part: Dataset, train: Dataset | None, classifiers: Classifiers | None
) -> str:
    """16 hexadecimal digits of all that the numbers depend on: weights, samples, classifiers."""
    labels = {"measured": part.label, "train": None if train is None else train.label}
    values = digests_of(part) if part.streamed else part.tables
    parts: list[Mapping[str, Any]] = [values, part.index, part.present, labels]
    nets = [run.model, *(c.net for c in (classifiers or {}).values() if c.net is not None)]
    parts += [net.state_dict() for net in nets]
    tensors = {f"{i} {name}": x for i, each in enumerate(parts) for name, x in each.items()}
    return hash_of({name: x for name, x in tensors.items() if x is not None})[:16]
