"""Tables of results: a row for each quantity, a column for each method, with direction, n, seeds
and errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from rich.table import Table as Rich

from polymodal.metrics.table import COLUMNS, Table, combine, shown
from polymodal.runs.run import Run

# Says what the figures behind the +- are; stands beside every table.
NOTE = (
    "± is the standard error over the n test samples; of several seeds the mean is shown, and"
    " behind the bar the standard error over seeds. Bold: within two standard errors of the best."
)


@dataclass(frozen=True)
class Cell:
    """A method's figure: the mean over seeds, its standard error over samples, and over seeds (NaN
    for one seed).
    """

    value: float
    se: float
    se_seeds: float
    best: bool = False

    def __str__(self) -> str:
        return (
            "not defined" if math.isnan(self.value) else shown(self.value, self.se, self.se_seeds)
        )


@dataclass(frozen=True)
class Row:
    """One quantity: what is measured, whether higher or lower is better, over how many samples and
    which seeds.
    """

    metric: str
    quantity: str
    unit: str
    direction: str
    n: str
    seeds: str
    cells: Mapping[str, Cell]


def results(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
    """What the runs' metrics.json hold, by label and averaged over seeds; None if none was
    evaluated.
    """
    found = []
    for run, label in zip(runs, labels, strict=True):
        if records := run.metrics.get("table"):
            table = Table.from_records(records)
            if lacking := set(COLUMNS) - set(table.frame.columns):
                lacks = ", ".join(sorted(lacking))
                raise ValueError(
                    f"{run.directory}/metrics.json is damaged: its table lacks {lacks}; evaluate"
                    " again."
                )
            found.append(replace(table, frame=table.frame.assign(method=label)))
    return combine(found) if found else None


def rows_of(table: Table) -> list[Row]:
    """The rows of a combined table, gathered over methods."""
    found = []
    for (metric, target, given), group in table.frame.groupby(
        ["metric", "target", "given"], sort=False
    ):
        first = group.iloc[0]
        cells = {
            r["method"]: Cell(r["value"], r["se"], r["se_seeds"]) for r in group.to_dict("records")
        }
        best = _best(cells, first["direction"])
        cells = {m: replace(c, best=m in best) for m, c in cells.items()}
        quantity = f"{target} | {given.replace('+', ', ')}" if given else target
        say = (_range(group["n"]), "; ".join(dict.fromkeys(group["seed"].astype(str))))
        found.append(
            Row(
                metric.replace("_", " "),
                quantity,
                first["unit"],
                _better(first["direction"]),
                *say,
                cells,
            )
        )
    return found


def _better(direction: str) -> str:
    return f"{direction} is better" if direction in ("higher", "lower") else "–"


def _best(cells: Mapping[str, Cell], direction: str) -> list[str]:
    """The methods within two standard errors (of the difference) of the best; none if all of them
    are.
    """
    known = {m: c for m, c in cells.items() if not math.isnan(c.value)}
    if not known or direction not in ("higher", "lower"):
        return []
    sign = 1 if direction == "higher" else -1
    top = max(known.values(), key=lambda c: sign * c.value)
    error = lambda c: max((e for e in (c.se, c.se_seeds) if not math.isnan(e)), default=0.0)
    best = [
        m
        for m, c in known.items()
        if sign * (top.value - c.value) <= 2 * math.hypot(error(c), error(top))
    ]
    return best if len(best) < len(known) else []


def _range(values: pd.Series) -> str:
    """The one value there is, or the least and the largest."""
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low}–{high}"


def methods_of(rows: Sequence[Row]) -> list[str]:
    """The columns, in the order in which they come."""
    return list(dict.fromkeys(m for row in rows for m in row.cells))


def terminal_table(table: Table) -> Rich:
    """A combined table for the terminal."""
    rows = rows_of(table)
    methods = methods_of(rows)
    rich = Rich(
        box=None, header_style="bold", caption=NOTE, caption_justify="left", padding=(0, 2, 0, 0)
    )
    for name in ("metric", "target | given", "direction"):
        rich.add_column(name)
    for name in (*methods, "unit", "n", "seed"):
        rich.add_column(name, justify="left" if name == "unit" else "right")
    for row in rows:
        cells = [row.cells.get(m) for m in methods]
        figures = ["" if c is None else f"[bold]{c}[/]" if c.best else str(c) for c in cells]
        rich.add_row(row.metric, row.quantity, row.direction, *figures, row.unit, row.n, row.seeds)
    return rich
