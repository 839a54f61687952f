"""The beginning of a page: what was asked and found, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from polymodal.imputation.results import FillingTable
from polymodal.metrics.table import Table, shown
from polymodal.report import plots
from polymodal.report.answer import answer, in_order
from polymodal.report.comparison import Comparison
from polymodal.report.pictures import Group, drawn
from polymodal.report.section import Section
from polymodal.report.tables import Cell, Row, rows_of

COHERENCE, LIKELIHOOD, MOST = "coherence", "joint log likelihood", 6
NOT_EVALUATED = "These runs have not been evaluated yet: polymodal evaluate RUN."
BARS = "Bars: share of draws that show the given class; lines: one standard error each way."


def found(comparison: Comparison, table: Table | None) -> Section:
    """The sentences on the main results, and one picture of them."""
    texts = [_asked(comparison), *_filled(comparison)]
    if table is None:
        texts += [] if len(texts) > 1 else [NOT_EVALUATED]
        return Section("What was found", texts, groups=[Group([])])
    rows = rows_of(table)
    coherent = [row for row in rows if row.metric == COHERENCE]
    if len(comparison.first) > 1:
        texts.append(answer(table))
    else:
        texts += [_likely(row) for row in rows if row.metric == LIKELIHOOD]
    texts += [_shows(row) for row in _from_others(coherent)[:MOST]]
    return Section("What was found", texts, groups=_bars(coherent))


def _asked(comparison: Comparison) -> str:
    """What was compared, on which data."""
    names, data = list(comparison.first), comparison.data
    seeds = sorted({run.seed for run in comparison.runs})
    modalities = " and ".join(m.name for m in data.modalities)
    what = f"{names[0]} was trained" if len(names) == 1 else f"{', '.join(names)} are compared"
    several = f", seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""
    return f"{what} on {len(data.train):,} samples of {modalities} ({data.name}{several})."


def _filled(comparison: Comparison) -> Iterator[str]:
    """What filling in is worth, by the mean over columns, where it was measured."""
    for label, run in comparison.first.items():
        if table := FillingTable.of(run):
            yield from (f"{label}: {sentence}" for sentence in table.summary())


def _from_others(rows: Sequence[Row]) -> list[Row]:
    """Those of a target that is not itself given; all, if there are none."""
    others = [row for row in rows if row.target not in row.given]
    return others or list(rows)


def _shows(row: Row) -> str:
    """How often the generated modality shows the class of what was given."""
    first, *others = in_order(row) or [("no method", Cell(math.nan, math.nan, math.nan))]
    text = f"{row.target} given {' and '.join(row.given)}: the right class in"
    best, cell = first
    text += f" {shown(cell.value, cell.error)} of draws by {best}"
    rest = ", ".join(f"{shown(c.value, c.error)} by {label}" for label, c in others)
    return f"{text}{f', {rest}' if rest else ''}."


def _likely(row: Row) -> str:
    cells = ", ".join(f"{shown(c.value, c.error)} by {label}" for label, c in in_order(row))
    return f"Log-likelihood of held-out samples, nats, higher is better: {cells}."


def _bars(rows: Sequence[Row]) -> list[Group]:
    if not rows:
        return [Group([])]
    values = {
        row.quantity: {method: (c.value, c.se) for method, c in row.cells.items()} for row in rows
    }
    figure = plots.bars(values, "coherence (higher is better)", "share of draws")
    alt = "Coherence of every method, bars with standard errors"
    return [Group([drawn(figure, alt)], "", BARS)]
