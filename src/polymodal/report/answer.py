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
        metric: its name in the table; None: the first of `USUAL` by which methods differ, after a
            sentence on those by which they do not.

    Raises ValueError for a metric that the table lacks.
    """
    found: dict[str, list[Row]] = {}
    for row in rows_of(table):
        found.setdefault(row.metric, []).append(row)
    names = [name.replace("_", " ") for name in ([metric] if metric else USUAL)]
    if metric:
        check_name(names[0], found, "metric", " in the table")
    known = [name for name in names if name in found]
    if not known:
        return "Neither likelihoods nor coherence were measured, so that no run is called the best."
    texts: list[str] = []
    for name in known:
        text, differs = _ranked(name, found[name])
        if differs:
            return " ".join([*texts, text])
        texts.append(text)
    return texts[0]


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


def _ranked(name: str, rows: Sequence[Row]) -> tuple[str, bool]:
    """The sentence on the best by one metric, those beside it and those behind it; and whether
    there are any behind it.
    """
    means = _means(rows)
    if len(means) < 2 or not rows[0].direction.startswith(("higher", "lower")):
        return f"By {name} there is nothing to rank.", False
    best, *others = (method for method, _ in in_order(replace(rows[0], cells=means)))
    near = [m for m in others if is_near(means[m], means[best])]
    behind = [m for m in others if m not in near]
    head = f"By {name} ({_measured(rows)})"
    if not behind:
        figures = _figures([best, *near], means)
        return f"{head} all are within two standard errors of the best: {figures}.", False
    text = f"{head} {_figure(best, means)} is best"
    if near:
        text += f"; within two standard errors of it: {_figures(near, means)}"
    return f"{text}; worse: {_figures(behind, means)}.", True


def _measured(rows: Sequence[Row]) -> str:
    """Of how many figures and seeds, and the unit."""
    seeds = rows[0].seeds.split(",")
    words = [f"mean of {len(rows)} figures"] if len(rows) > 1 else []
    words.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}")
    return ", ".join([*words, *([rows[0].unit] if rows[0].unit else [])])


def _figures(methods: Sequence[str], means: Mapping[str, Cell]) -> str:
    return ", ".join(_figure(method, means) for method in methods)


def _figure(method: str, means: Mapping[str, Cell]) -> str:
    return f"{method} ({shown(means[method].value, means[method].se)})"
