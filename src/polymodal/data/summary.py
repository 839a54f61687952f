"""What was understood of a data set: modalities, types, ranges, holes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from polymodal.batch import CODED, Column, Modality
from polymodal.data.described import Described
from polymodal.data.grid import Grid, Pattern, all_values, extent
from polymodal.data.sources.table import Rows
from polymodal.data.splits import Splits
from polymodal.data.suspicions import duplicates, suspicions
from polymodal.data.tables import guess
from polymodal.data.tables.coding import decoded
from polymodal.data.tables.delimited import digits
from polymodal.data.tables.guess import LEFT_OUT
from polymodal.distributions.likelihoods import likelihood_of

PATTERNS = 12  # that are listed


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
        unused(described) if described else {},
        patterns[:PATTERNS],
        len(patterns),
        float((~grid.present).mean()),
        [*suspicions(splits), *duplicates(splits)],
        [*_covariates(splits), *(described.notes if described else ())],
    )


def _covariates(splits: Splits) -> Iterator[str]:
    """A sentence for each modality with a covariate."""
    for m in splits.modalities:
        if m.covariate is not None:
            shares = zip(m.covariate.categories, m.covariate.shares, strict=True)
            few = [f"{word} {share:.0%}" for word, share in shares][:6]
            more = ", ..." if len(m.covariate.categories) > len(few) else ""
            yield (
                f"The networks of {m.name!r} are told {m.covariate.column!r} of each sample, one of"
                f" {len(m.covariate.categories)} categories ({', '.join(few)}{more})."
            )


def unused(described: Described) -> dict[str, str]:
    """The columns that are read for no modality, key, label or part, and why."""
    rows = [each for each in described.samples.values() if isinstance(each, Rows)]
    reasons = {g.name: g.reason for each in rows for g in each.left_out}
    description = described.description
    if description.file is None:
        return reasons
    used = {t.guess.name for each in rows for t in each.taken}
    place = description.place()
    used |= set(place.taken.get(description.file, ()))
    for column in place.table().columns:
        if column not in used and column not in reasons:
            found = guess(place.table().cells(column, place.empty))
            is_left = found.type == LEFT_OUT
            reasons[column] = found.reason if is_left else "no modality of the description has it"
    return reasons


# Columns and modalities.


def _column_summary(
    m: Modality, column: Column, k: int, splits: Splits, reason: str
) -> ColumnSummary:
    x = all_values(splits, m)[:, k].double()
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
        ends = extent(splits, m)
        ranged = f"{ends[0]:.4g} to {ends[1]:.4g}" if ends else ""
        scaling = _of_numbers(m)
    return ModalitySummary(m.name, m.kind or "", m.shape, present, ranged, scaling)


def _of_numbers(m: Modality) -> str:
    if likelihood_of(m).library:
        return "log(1 + 10^4 x / total), by entry"
    if likelihood_of(m).counts:
        return "log(1 + x / mean of the sample)" if len(m.shape) == 1 else "log(1 + x)"
    if not m.location:
        return "as they are"
    if len(m.location) == 1:
        return _scaling(Column(m.name), m.location[0], m.spread[0])
    return "each entry by its mean and deviation"
