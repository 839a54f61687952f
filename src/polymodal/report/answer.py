"""Which run of a comparison is best, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from polymodal.checks import check_name
from polymodal.metrics.table import Table, shown
from polymodal.report.tables import Cell, Row, is_near, methods_of, rows_of

USUAL = ("joint_log_likelihood", "coherence", "conditional_log_likelihood")


def answer(table: Table, metric: str | None = None) -> str:
    """The best method of a combined table, and how far the others are, with standard errors.

    A metric of several figures counts by their mean. Its standard error is the mean of theirs,
    which is at least the mean's own: the figures are of the same samples and seeds. Two methods
    differ if they do by more than two standard errors of the difference.

    Args:
        metric: its name in the table; None: the first of `USUAL` that has a direction there.

    Raises ValueError for a metric that the table lacks.
    """
    found: dict[str, list[Row]] = {}
    for row in rows_of(table):
        found.setdefault(row.metric, []).append(row)
    names = [name.replace("_", " ") for name in ([metric] if metric else USUAL)]
    if metric:
        check_name(names[0], found, "metric", " in the table")
    chosen = next((name for name in names if name in found), None)
    if chosen is None:
        return "Neither likelihoods nor coherence were measured, so that no run is called the best."
    rows = found[chosen]
    means = _means(rows)
    if len(means) < 2 or not rows[0].direction.startswith(("higher", "lower")):
        return f"By {chosen} there is nothing to rank."
    return _ranked(chosen, rows, means)


def in_order(row: Row) -> list[tuple[str, Cell]]:
    """The methods with a figure, the best one first."""
    sign = -1 if row.direction.startswith("higher") else 1
    defined = [(m, cell) for m, cell in row.cells.items() if not math.isnan(cell.value)]
    return sorted(defined, key=lambda pair: sign * pair[1].value)


def _means(rows: Sequence[Row]) -> dict[str, Cell]:
    """The mean over figures of each method that has all of them."""
    means = {}
    for method in methods_of(rows):
        cells = [row.cells[method] for row in rows if method in row.cells]
        value = sum(cell.value for cell in cells) / len(cells)
        if len(cells) == len(rows) and not math.isnan(value):
            error = sum(cell.error for cell in cells) / len(cells)
            means[method] = Cell(value, error, math.nan)
    return means


def _ranked(name: str, rows: Sequence[Row], means: Mapping[str, Cell]) -> str:
    """The sentence on the best, those beside it and those behind it."""
    best, *others = (method for method, _ in in_order(replace(rows[0], cells=means)))
    near = [m for m in others if is_near(means[m], means[best])]
    of = f"the mean of {len(rows)} figures, " if len(rows) > 1 else ""
    unit = f" {rows[0].unit}" if rows[0].unit else ""
    head = f"By {name} ({of}seeds {rows[0].seeds}{unit and ','}{unit}), "
    text = f"{head}{_figure(best, means)} is best"
    if near:
        text += f"; within two standard errors of it: {_figures(near, means)}"
    if behind := [m for m in others if m not in near]:
        text += f"; worse: {_figures(behind, means)}"
    return f"{text}."


def _figures(methods: Sequence[str], means: Mapping[str, Cell]) -> str:
    return ", ".join(_figure(method, means) for method in methods)


def _figure(method: str, means: Mapping[str, Cell]) -> str:
    return f"{method} ({shown(means[method].value, means[method].se)})"
