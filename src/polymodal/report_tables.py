"""Tables of results: a row for each quantity, a column for each method, with direction, n, seeds and errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from rich.table import Table

# Says what the figures behind the +- are; stands beside every table.
NOTE = (
    "± is the standard error over the n test samples; of several seeds the mean is shown, and behind the bar the "
    "standard error over seeds. Bold: within two standard errors of the best."
)
ARROWS = {"higher": "higher is better", "lower": "lower is better"}


@dataclass(frozen=True)
class Cell:
    """A method's figure: the mean over seeds, its standard error over samples, and over seeds (NaN for one seed)."""

    value: float
    se: float
    se_seeds: float
    best: bool = False

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "not defined"
        digits = _digits(self.se if self.se > 0 else abs(self.value) / 100)
        text = f"{self.value:.{digits}f}"
        text += f" ±{self.se:.{digits}f}" if self.se > 0 else ""
        return text + (f" | ±{self.se_seeds:.{digits}f}" if self.se_seeds > 0 else "")


@dataclass(frozen=True)
class Row:
    """One quantity: what is measured, whether higher or lower is better, over how many samples and which seeds."""

    metric: str
    quantity: str
    direction: str
    n: str
    seeds: str
    cells: Mapping[str, Cell]


def _digits(error: float) -> int:
    """Decimals that show an error with two figures, or one above ten."""
    return 3 if error <= 0 or math.isnan(error) else min(max(1 - math.floor(math.log10(error)), 0), 4)


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Rows of results, one for each run, metric, target and given set, gathered over methods and seeds.

    Args:
        frame: columns method, metric, target, given, value, se, n, seed, direction; NaN for an `se` that is not known.
    """
    found = []
    keys = ["metric", "target", "given"]
    for (metric, target, given), group in frame.groupby(keys, sort=False, dropna=False):
        cells = {m: _cell(part) for m, part in group.groupby("method", sort=False)}
        direction = group["direction"].iloc[0]
        best = _best(cells, direction)
        cells = {m: Cell(c.value, c.se, c.se_seeds, m in best) for m, c in cells.items()}
        quantity = f"{target} | {given}" if given and not pd.isna(given) else str(target)
        found.append(Row(metric, quantity, direction, _range(group["n"]), _range(group["seed"], ", "), cells))
    return found


def _cell(part: pd.DataFrame) -> Cell:
    count, values = len(part), part["value"].astype(float)
    se = math.sqrt((part["se"].astype(float) ** 2).sum(skipna=False)) / count
    return Cell(values.mean(), se, values.std() / math.sqrt(count) if count > 1 else math.nan)


def _best(cells: Mapping[str, Cell], direction: str) -> list[str]:
    """The methods within two standard errors (of the difference) of the best; none if there is but one."""
    known = {m: c for m, c in cells.items() if not math.isnan(c.value)}
    if len(known) < 2 or direction not in ARROWS:
        return []
    sign = 1 if direction == "higher" else -1
    top = max(known.values(), key=lambda c: sign * c.value)
    error = lambda c: max(0.0 if math.isnan(e) else e for e in (c.se, c.se_seeds))
    return [m for m, c in known.items() if sign * (top.value - c.value) <= 2 * math.hypot(error(c), error(top))]


def _range(values: pd.Series, join: str = "–") -> str:
    """The one value there is, or all of them, or the least and the largest."""
    distinct = sorted({int(v) for v in values.dropna()})
    if join != "–":
        return join.join(map(str, distinct))
    return str(distinct[0]) if len(distinct) == 1 else f"{distinct[0]}–{distinct[-1]}" if distinct else "–"


def methods_of(rows: Sequence[Row]) -> list[str]:
    """The columns, in the order in which they come."""
    return list(dict.fromkeys(m for row in rows for m in row.cells))


def terminal_table(frame: pd.DataFrame) -> Table:
    """The rows as a table for the terminal."""
    rows = rows_of(frame)
    methods = methods_of(rows)
    table = Table(box=None, header_style="bold", caption=NOTE, caption_justify="left", padding=(0, 2, 0, 0))
    for name in ("metric", "target | given", "better"):
        table.add_column(name)
    for name in ("n", "seeds", *methods):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row.cells.get(m) for m in methods]
        shown = ["" if c is None else f"[bold]{c}[/]" if c.best else str(c) for c in cells]
        table.add_row(row.metric, row.quantity, row.direction, row.n, row.seeds, *shown)
    return table
