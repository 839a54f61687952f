"""Tables of results: a row for each quantity, a column for each method, with direction, n, seeds
and errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from rich.table import Table as Rich
from rich.text import Text

from polymodal.metrics.table import Table, combine, shown
from polymodal.runs.run import Run

# Stands beside every table.
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

    @property
    def error(self) -> float:
        """The larger of the standard errors; 0 if none is known."""
        return max((e for e in (self.se, self.se_seeds) if not math.isnan(e)), default=0.0)

    def __str__(self) -> str:
        return shown(self.value, self.se, self.se_seeds)


@dataclass(frozen=True)
class Row:
    """One quantity: what is measured, of which target given what, whether higher or lower is
    better, over how many samples and which seeds.
    """

    metric: str
    target: str
    given: tuple[str, ...]
    quantity: str
    unit: str
    direction: str
    n: str
    seeds: str
    cells: Mapping[str, Cell]


def results(runs: Sequence[Run], labels: Sequence[str]) -> Table | None:
    """The tables in the runs' metrics.json, with labels for methods, averaged over seeds; None if
    no run was evaluated.
    """
    tables = []
    for run, label in zip(runs, labels, strict=True):
        if records := run.metrics.get("table"):
            frame = Table.from_records(records).frame
            tables.append(Table(frame.assign(method=label)))
    return combine(tables) if tables else None


def rows_of(table: Table) -> list[Row]:
    """The rows of a combined table, gathered over methods."""
    groups = table.frame.groupby(["data", "metric", "target", "given"], sort=False)
    several = table.frame["data"].nunique() > 1
    return [_row(group, several) for _, group in groups]


def _row(group: pd.DataFrame, names_data: bool) -> Row:
    """The rows of all methods for one quantity."""
    names = ["metric", "target", "given", "direction", "unit"]
    metric, target, given, direction, unit = group.iloc[0][names]
    on_data = f" ({group.iloc[0]['data']})" if names_data else ""
    return Row(
        metric=metric.replace("_", " "),
        target=target,
        given=tuple(given.split("+")) if given else (),
        quantity=(f"{target} | {given.replace('+', ', ')}" if given else target) + on_data,
        unit=unit,
        direction=f"{direction} is better" if direction in ("higher", "lower") else "–",
        n=_range(group["n"]),
        seeds="; ".join(dict.fromkeys(group["seed"].astype(str))),
        cells=_cells(group, direction),
    )


def _cells(group: pd.DataFrame, direction: str) -> dict[str, Cell]:
    rows = group.to_dict("records")
    cells = {r["method"]: Cell(r["value"], r["se"], r["se_seeds"]) for r in rows}
    best = _best(cells, direction)
    return {method: replace(cell, best=method in best) for method, cell in cells.items()}


def _best(cells: Mapping[str, Cell], direction: str) -> list[str]:
    """The methods within two standard errors (of the difference) of the best; none if all of them
    are.
    """
    defined = {m: c for m, c in cells.items() if not math.isnan(c.value)}
    if not defined or direction not in ("higher", "lower"):
        return []
    choose = max if direction == "higher" else min
    top = choose(defined.values(), key=_value)
    best = [m for m, cell in defined.items() if is_near(cell, top)]
    return best if len(best) < len(defined) else []


def _value(cell: Cell) -> float:
    return cell.value


def is_near(cell: Cell, top: Cell) -> bool:
    """Whether two figures differ by at most two standard errors of their difference."""
    return abs(top.value - cell.value) <= 2 * math.hypot(cell.error, top.error)


def _range(values: pd.Series) -> str:
    """The value that all have, or the smallest and the largest."""
    low, high = int(values.min()), int(values.max())
    return f"{low}" if low == high else f"{low}–{high}"


def methods_of(rows: Sequence[Row]) -> list[str]:
    """The columns, in the order in which they come."""
    return list(dict.fromkeys(m for row in rows for m in row.cells))


def synergy(table: Table) -> tuple[list[str], list[list[str]]]:
    """The metric `synergy` of a combined table: a row for each method and subset given, a column
    for each modality's log p(x_m); a header and rows, both empty if it was not measured.
    """
    frame = table.frame[table.frame["metric"] == "synergy"]
    if frame.empty:
        return [], []
    targets, several = list(dict.fromkeys(frame["target"])), frame["data"].nunique() > 1
    rows = []
    for (data, method, given), group in frame.groupby(["data", "method", "given"], sort=False):
        records = {row["target"]: row for row in group.to_dict("records")}
        cells = [_estimate(records[m]) if m in records else "" for m in targets]
        name = f"{method} ({data})" if several else method
        rows.append([name, given.replace("+", ", "), *cells])
    return ["method", "given", *(f"log p({m})" for m in targets)], rows


def _estimate(row: Mapping[str, Any]) -> str:
    return shown(row["value"], row["se"], row["se_seeds"])


def terminal_table(table: Table) -> Rich:
    """A combined table for the terminal."""
    rows = rows_of(table)
    methods = methods_of(rows)
    rich = Rich(box=None, header_style="bold", padding=(0, 2, 0, 0))
    rich.caption = Text("\n".join([NOTE, *table.reasons()]))
    rich.caption_justify = "left"
    for name in ("metric", "target | given", "direction"):
        rich.add_column(name)
    for name in methods:
        rich.add_column(Text(name), justify="right", overflow="fold")
    rich.add_column("unit")
    for name in ("n", "seed"):
        rich.add_column(name, justify="right")
    for row in rows:
        rich.add_row(*_terminal_row(row, methods))
    return rich


def _terminal_row(row: Row, methods: Sequence[str]) -> list[Text]:
    """`Text` keeps square brackets, which rich takes for markup in str."""
    figures = [_terminal_cell(row.cells.get(method)) for method in methods]
    words = map(Text, (row.metric, row.quantity, row.direction))
    return [*words, *figures, *map(Text, (row.unit, row.n, row.seeds))]


def _terminal_cell(cell: Cell | None) -> Text:
    """A figure, bold if it is among the best; nothing if the method has none."""
    if cell is None:
        return Text("")
    return Text(str(cell), style="bold" if cell.best else "")
