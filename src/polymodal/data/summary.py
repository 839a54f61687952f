"""What was understood of a data set: modalities, types, ranges, holes, and what looks suspicious."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import CODED, Column, Modality
from polymodal.checks import shown
from polymodal.data.dataset import Dataset, Splits, gather
from polymodal.data.described import Described
from polymodal.data.sources.table import Rows
from polymodal.data.tables.coding import decoded
from polymodal.data.tables.delimited import digits

PATTERNS = 12  # that are listed
FAR = 10.0  # interquartile ranges from the median
SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0)
RECURS = 3  # times that a number which stands for nothing occurs
SAME = 0.99999  # correlation of columns that say the same
COMPARED = 300  # columns that are compared with one another


@dataclass(frozen=True)
class ColumnSummary:
    """A column of a table.

    Args:
        reason: why it has its type.
        empty: cells that are empty, in all parts.
        range: its smallest and largest value, or its categories, in words.
        scaling: how networks read it, in words.
    """

    name: str
    modality: str
    type: str
    reason: str
    empty: int
    range: str
    scaling: str


@dataclass(frozen=True)
class ModalitySummary:
    """A modality: how many samples have it, and the range of its numbers in words."""

    name: str
    kind: str
    shape: tuple[int, ...]
    present: int
    range: str
    scaling: str


@dataclass(frozen=True)
class Pattern:
    """A set of columns and modalities that are missing together, and in how many samples."""

    missing: list[str]
    samples: int


@dataclass(frozen=True)
class Summary:
    """What was understood of a data set, in plain values.

    Args:
        samples: of every part.
        left_out: columns that are not used, and why.
        patterns: the most frequent first.
        empty_share: of all cells and modalities.
        suspicious: sentences.
        notes: sentences on what was not read as it stands.
    """

    name: str
    samples: Mapping[str, int]
    modalities: Sequence[ModalitySummary]
    columns: Sequence[ColumnSummary]
    left_out: Mapping[str, str]
    patterns: Sequence[Pattern]
    number_of_patterns: int
    empty_share: float
    suspicious: Sequence[str] = field(default_factory=list)
    notes: Sequence[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """The summary as JSON writes it."""
        return asdict(self)


def summary(splits: Splits, described: Described | None = None) -> Summary:
    """The summary of a data set.

    Args:
        described: what was read of a description; None: the data are of another kind.
    """
    grid = Grid.of(splits)
    samples = described.samples if described else {}
    rows = {m: each for m, each in samples.items() if isinstance(each, Rows)}
    reasons = {(m, t.guess.name): t.guess.reason for m, r in rows.items() for t in r.taken}
    columns = [
        _column_summary(m, column, k, splits, reasons.get((m.name, column.name), ""))
        for m in splits.modalities
        for k, column in enumerate(m.columns)
    ]
    patterns = grid.patterns()
    return Summary(
        splits.name,
        {part: len(data) for part, data in splits.parts.items()},
        [_modality_summary(m, splits) for m in splits.modalities],
        columns,
        {g.name: g.reason for r in rows.values() for g in r.left_out},
        patterns[:PATTERNS],
        len(patterns),
        float((~grid.present).mean()),
        [*_suspicious(splits), *_duplicates(splits)],
        list(described.notes) if described else [],
    )


# Where values are.


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
    return present & ~_values(data, m).isnan()


def _values(data: Dataset, m: Modality) -> Tensor:
    """The values of a modality (N, *shape); NaN where a sample lacks it."""
    x = gather(data.tables[m.name], data.rows_of(m.name))
    return x.masked_fill(~data.is_present(m.name).reshape(-1, *[1] * (x.dim() - 1)), float("nan"))


def _all_values(splits: Splits, m: Modality) -> Tensor:
    return torch.cat([_values(data, m) for data in splits.parts.values()])


# Columns and modalities.


def _column_summary(
    m: Modality, column: Column, k: int, splits: Splits, reason: str
) -> ColumnSummary:
    x = _all_values(splits, m)[:, k].double()
    seen = x[~x.isnan()]
    scaling = _scaling(column, m.location[k], m.spread[k]) if m.location else ""
    empty = len(x) - len(seen)
    return ColumnSummary(
        column.name, m.name, column.type, reason, empty, _range(seen, column), scaling
    )


def _range(seen: Tensor, column: Column) -> str:
    """The values of a column in words."""
    if column.type in CODED:
        few = ", ".join(column.categories[:6])
        return few if len(column.categories) <= 6 else f"{few}, ... ({len(column.categories)})"
    if not len(seen):
        return ""
    ends = decoded([seen.min().item(), seen.max().item()], column)
    return " to ".join(map(digits, ends))


def _scaling(column: Column, location: float, spread: float) -> str:
    """How networks read a column."""
    if column.type in CODED:
        return "one number for each category"
    x = {"positive": "log(x)", "count": "log(1 + x)"}.get(column.type, "x")
    sign = "-" if location >= 0 else "+"
    return f"({x} {sign} {abs(location):.4g}) / {spread:.4g}"


def _modality_summary(m: Modality, splits: Splits) -> ModalitySummary:
    present = sum(int(data.is_present(m.name).sum()) for data in splits.parts.values())
    if m.columns:
        ranged, scaling = f"{len(m.columns)} columns", "by column"
    elif m.vocabulary:
        ranged, scaling = f"{len(m.vocabulary) - 2} words, at most {m.shape[0]} in a text", ""
    else:
        x = _all_values(splits, m)
        x = x[~x.isnan()]
        ranged = f"{x.min():.4g} to {x.max():.4g}" if len(x) else ""
        scaling = _of_numbers(m)
    return ModalitySummary(m.name, m.kind or "", m.shape, present, ranged, scaling)


def _of_numbers(m: Modality) -> str:
    if not m.location:
        return "as they are"
    if len(m.location) == 1:
        return _scaling(Column(m.name), m.location[0], m.spread[0])
    return "each entry by its mean and deviation"


# What looks suspicious.


def _suspicious(splits: Splits) -> Iterator[str]:
    """Sentences on single columns and on pairs of them."""
    for m in splits.modalities:
        if not m.columns:
            continue
        x = _all_values(splits, m).double()
        for k, column in enumerate(m.columns):
            seen = x[:, k][~x[:, k].isnan()]
            yield from _of_words(column)
            if column.type not in CODED and len(seen):
                yield from _of_column(column, seen)
        yield from _same_columns(m, x)


def _of_column(column: Column, seen: Tensor) -> Iterator[str]:
    name = f"Column {column.name!r}"
    if seen.min() == seen.max():
        yield f"{name} is constant: {digits(seen[0].item())}."
        return
    for number in SENTINELS:
        is_it = seen == number
        others = seen[~is_it]
        if is_it.sum() < RECURS or not len(others):
            continue
        # Outside of the others by more than their own range.
        low, high = others.min().item(), others.max().item()
        if number < low - (high - low) / 2 or number > high + (high - low) / 2:
            yield (
                f"{name} has {number:g} in {int(is_it.sum())} rows, far from all other values; if it"
                f' stands for nothing, write empty: ["{number:g}"].'
            )
            return
    quarter, median, last = seen.quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist()
    far = seen[(seen - median).abs() > FAR * max(last - quarter, 1e-12)]
    if column.type == "real" and last > quarter and len(far):
        furthest = far[(far - median).abs().argmax()].item()
        (shown_value,) = decoded([furthest], column)
        yield (
            f"{name} has {len(far)} values more than {FAR:g} interquartile ranges from its median,"
            f" the furthest {digits(shown_value)}."
        )


def _of_words(column: Column) -> Iterator[str]:
    """Categories that differ in capitals or spaces alone."""
    alike: dict[str, list[str]] = {}
    for word in column.categories:
        alike.setdefault("".join(word.lower().split()), []).append(word)
    for words in alike.values():
        if len(words) > 1:
            listed = ", ".join(map(shown, words))
            yield f"Column {column.name!r} has categories that differ in little: {listed}."


def _same_columns(m: Modality, x: Tensor) -> Iterator[str]:
    """Pairs of columns that say the same."""
    numbers = [k for k, c in enumerate(m.columns[:COMPARED]) if c.type not in CODED]
    for i, a in enumerate(numbers):
        for b in numbers[i + 1 :]:
            both = ~(x[:, a].isnan() | x[:, b].isnan())
            u, v = x[both, a], x[both, b]
            if len(u) > RECURS and u.std() > 0 and v.std() > 0:
                r = torch.corrcoef(torch.stack([u, v]))[0, 1].item()
                if abs(r) > SAME:
                    names = f"{m.columns[a].name!r} and {m.columns[b].name!r}"
                    yield f"Columns {names} say the same (correlation {r:.5f})."


def _duplicates(splits: Splits) -> Iterator[str]:
    """Samples that are equal in all values, within a part and between parts."""
    prints = {part: _prints(data) for part, data in splits.parts.items()}
    counts = Counter(p for each in prints.values() for p in each)
    if extra := sum(n - 1 for n in counts.values()):
        yield f"{extra} samples are copies of others."
    train = set(prints["train"])
    for part in ("val", "test"):
        if leaked := sum(p in train for p in prints[part]):
            yield f"{leaked} samples of the {part} part are also in the training part."


def _prints(data: Dataset) -> list[bytes]:
    """The values of every sample, as bytes."""
    values = [_values(data, m).float().flatten(1) for m in data.modalities]
    whole = torch.cat(values, 1).nan_to_num(nan=-1.25e30).numpy()
    return [row.tobytes() for row in whole]
