"""The figures of filling in as tables, and where a run keeps them and its factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

from polymodal.imputation.conformal import LEVELS, Calibration
from polymodal.imputation.hiding import ENTRIES
from polymodal.imputation.measures import ALL, MODEL, Measured, Row, percent
from polymodal.metrics.run import Run

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

FILLING, CALIBRATION = "imputation", "calibration"  # entries of metrics.json
SHOWN = 8  # temperatures in a sentence, and columns
LEAST = 0.01  # share of the way to the mean that is said
HEADER, NAME = 11, 28  # characters of a line of a header, and of a column's name
# Figures that are left out where there is no room, in this order.
DROPPED = ("rmse in units", "crps", "log score", "width 90 %", "own 90 %", "neighbours", "n")
MOST = 40  # columns of a pattern that are shown
TITLES = {"entries": "hidden entries", "whole": "whole modality, given the others"}
PERCENTS = tuple(percent(level) for level in LEVELS)
# Header and figure of the cells of a column. "own" is the coverage of the unstretched interval.
POINT = ("model", "ridge", "neighbours", "marginal")
INTERVALS = {
    "crps": "crps",
    "log score": "log_score",
    "own 90 %": "own_coverage_90",
    "50 %": "coverage_50",
    "80 %": "coverage_80",
    "90 %": "coverage_90",
    "95 %": "coverage_95",
    "width 90 %": "width_90",
    "own ECE": "own_calibration_error",
    "ECE": "calibration_error",
    "ECE by chance": "calibration_error_by_chance",
}

LONG = ("50 %", "80 %", "95 %", "own ECE", "ECE by chance")  # they are not shown on the terminal
FEW = {k: v for k, v in INTERVALS.items() if k not in LONG}


@dataclass(frozen=True)
class FillingTable:
    """What filling in is worth.

    Args:
        rows: of each pattern, column and predictor ("model", "marginal", "ridge", "neighbours");
            an empty column stands for all of them. Figures: n, rmse (in the user's units),
            rmse_standardised (divided by the standard deviation in training), error_rate, log_score
            (nats per entry), crps, coverage_90 and width_90 (also 50, 80, 95) of the intervals that
            are given to the user, own_coverage_90 and own_width_90 of the model's own;
            calibration_error of the probabilities of categories that are given to the user,
            own_calibration_error of the model's own, and calibration_error_by_chance, which is
            expected of as many probabilities that hold.
        pit, points, reliability: for pictures, see `polymodal.imputation.measures.Measured`.
        method: the method of the run.
    """

    rows: Sequence[Row]
    pit: Sequence[Row]
    points: Sequence[Row]
    reliability: Sequence[Row]
    method: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """The rows; NaN where a figure is not defined."""
        import pandas as pd

        return pd.DataFrame.from_records(list(self.rows))

    def with_part(self, part: Measured) -> FillingTable:
        """The table with the figures of one more pattern."""
        return FillingTable(
            [*self.rows, *part.rows],
            [*self.pit, *part.pit],
            [*self.points, *part.points],
            [*self.reliability, *part.reliability],
            self.method,
        )

    def record(self) -> dict[str, Any]:
        """A plain mapping, for JSON."""
        return {
            "rows": list(self.rows),
            "pit": list(self.pit),
            "points": list(self.points),
            "reliability": list(self.reliability),
        }

    @classmethod
    def of(cls, run: Run) -> FillingTable | None:
        """What a run keeps; None if it was not measured."""
        kept = run.metrics.get(FILLING)
        if not kept:
            return None
        rows, pit, points, reliability = (
            kept.get(name, []) for name in ("rows", "pit", "points", "reliability")
        )
        return cls(rows, pit, points, reliability, run.method_name)

    def sections(
        self, figures: Mapping[str, str] = INTERVALS
    ) -> list[tuple[str, list[str], list[list[str]]]]:
        """Title, header and rows of words of one table for each pattern and modality.

        Args:
            figures: {word of the header: figure} beside those of single values.
        """
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            if row["column"] != ALL:
                groups.setdefault((row["pattern"], row["modality"]), []).append(row)
        return [
            (f"{modality}: {TITLES[pattern]}", *_cells(rows, figures))
            for (pattern, modality), rows in groups.items()
        ]

    def flat(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of words of one table of all patterns: pattern, modality and column."""
        single = [row for row in self.rows if row["column"] != ALL]
        names = {(row["pattern"], row["modality"], row["column"]): None for row in single}
        head, rows = _cells(single, INTERVALS, ("pattern", "modality", "column"))
        places = [[TITLES[p], m, c] for p, m, c in names]
        return ["what was hidden", "modality", *head], [
            [*place, *row[1:]] for place, row in zip(places, rows, strict=True)
        ]

    def summary(self) -> list[str]:
        """A sentence or two on each pattern."""
        sentences = []
        for pattern in dict.fromkeys(row["pattern"] for row in self.rows):
            rows = [r for r in self.rows if r["pattern"] == pattern and r["column"] == ALL]
            sentences += [_sentence(pattern, {r["by"]: r for r in part}) for part in _parts(rows)]
        return sentences

    def print(self, console: Console | None = None) -> None:
        """The tables on the terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table

        console = console or Console()
        for title, whole, rows in self.sections(FEW):
            head, *cells = _fitting([whole, *rows[:MOST]], console.width)
            shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title)
            shown.title_justify = "left"
            shown.add_column(head[0], overflow="fold")
            for name in head[1:]:
                shown.add_column(fill(name, HEADER), justify="right", no_wrap=True)
            for row in cells:
                shown.add_row(*row)
            console.print(shown)
            if left_out := [name for name in whole if name not in head]:
                console.print(f"In a wider terminal, and in the report: {', '.join(left_out)}.")
            if len(rows) > MOST:
                console.print(f"{len(rows) - MOST} more columns are in metrics.json.")
        for sentence in self.summary():
            console.print(sentence, markup=False, highlight=False)


def _parts(rows: Sequence[Row]) -> list[list[Row]]:
    """The overall rows of one pattern, those of each modality that was hidden together."""
    starts = [k for k, row in enumerate(rows) if row["by"] == MODEL]
    return [list(rows[a:b]) for a, b in zip(starts, [*starts[1:], len(rows)], strict=True)]


def _fitting(table: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Header and rows without the figures of `DROPPED` for which a terminal has no room."""
    columns = [list(column) for column in zip(*table, strict=True)]
    for name in DROPPED:
        if sum(_width(column) for column in columns) <= width:
            break
        columns = [column for column in columns if column[0] != name]
    return [list(row) for row in zip(*columns, strict=True)]


def _width(column: Sequence[str]) -> int:
    """How wide a column is shown, with the space beside it; names are folded beyond `NAME`."""
    words = [*fill(column[0], HEADER).splitlines(), *column[1:]]
    return min(max(map(len, words)), NAME) + 2


def _cells(
    rows: Sequence[Row], figures: Mapping[str, str], keys: Sequence[str] = ("column",)
) -> tuple[list[str], list[list[str]]]:
    """Header and rows, one for each value of `keys`, the last of which is the first cell."""
    columns: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        columns.setdefault(tuple(row[key] for key in keys), {})[row["by"]] = row
    own = [each[MODEL] for each in columns.values()]
    shown = {head: name for head, name in figures.items() if any(name in row for row in own)}
    has_numbers = any("rmse" in row for row in own)
    has_codes = any("error_rate" in row for row in own)
    kinds = [*["rmse"] * has_numbers, *["error rate"] * has_codes]
    head = ["column", "n", f"{' or '.join(kinds)}: model", *POINT[1:]]
    head += ["rmse in units"] * has_numbers
    cells = []
    for name, by in columns.items():
        best = [_point(by.get(predictor, {})) for predictor in POINT]
        units = [_number(by[MODEL].get("rmse"))] * has_numbers
        others = [_number(by[MODEL].get(figure)) for figure in shown.values()]
        cells.append([name[-1], str(by[MODEL]["n"]), *best, *units, *others])
    return [*head, *shown], cells


def _point(row: Row) -> str:
    value = row.get("rmse_standardised", row.get("error_rate"))
    return _number(value)


def _number(value: float | None) -> str:
    """Three significant digits; nothing where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{value:.3f}" if 0.01 <= abs(value) < 10 else f"{value:.3g}"


def _sentence(pattern: str, by: Mapping[str, Row]) -> str:
    """What was found of one pattern."""
    said = []
    for name, words in (
        ("rmse_standardised", "RMSE of numbers in standard deviations"),
        ("error_rate", "error rate of categories"),
    ):
        known = [f"{k} {_number(r[name])}" for k, r in by.items() if name in r]
        if known:
            said.append(f"{words}: {', '.join(known)}")
    own = by[MODEL]
    if "coverage_90" in own:
        shares = ", ".join(f"{100 * own[f'coverage_{k}']:.1f}" for k in PERCENTS)
        error = 100 * own["coverage_90_se"]
        said.append(f"intervals of {', '.join(PERCENTS)} % hold {shares} % (± {error:.1f} at 90 %)")
    if "calibration_error" in own:
        said.append(_of_probabilities(own))
    title = TITLES[pattern] if pattern == ENTRIES else f"{own['modality']}, {TITLES[pattern]}"
    return f"{title[0].upper()}{title[1:]}: {'; '.join(said)}."


def _of_probabilities(row: Row) -> str:
    """What was found of probabilities."""
    said = f"calibration error of probabilities {_number(row['calibration_error'])}"
    if "own_calibration_error" not in row:
        return said
    before, chance = (
        _number(row[name]) for name in ("own_calibration_error", "calibration_error_by_chance")
    )
    return f"{said} ({before} before the temperature; {chance} by chance if they hold)"


# Factors and temperatures.


def keep_calibration(run: Run, calibration: Calibration) -> None:
    """Saves a calibration in the run, for `calibration_of`."""
    run.save_metrics(run.metrics | {CALIBRATION: calibration.records()})


def calibration_of(run: Run) -> Calibration | None:
    """The calibration that the run keeps; None if it has none.

    Raises ValueError for one that is damaged.
    """
    kept = run.metrics.get(CALIBRATION)
    return None if not kept else Calibration.from_records(kept)


def calibration_text(calibration: Calibration) -> str:
    """What the factors do to the 90 % intervals, the temperatures to probabilities, and the
    shrinkages to numbers, a sentence or two each; "" without any.
    """
    texts = (_factors_text, _temperatures_text, _shrinkages_text)
    return " ".join(filter(None, (text(calibration) for text in texts)))


def _factors_text(calibration: Calibration) -> str:
    place = 2
    values = sorted(f.factors[place] for f in calibration.factors)
    if not values:
        return ""
    before = math.fsum(f.coverage[place] for f in calibration.factors) / len(values)
    least, middle, most = (f"{v:.2f}" for v in (values[0], values[len(values) // 2], values[-1]))
    factors = least if least == most else f"{least} to {most} (median {middle}, by column)"
    return (
        f"On the validation part the model's own 90 % intervals hold {before:.1%}. So that they"
        f" hold 90 %, their mean widths are multiplied by {factors}."
    )


def _temperatures_text(calibration: Calibration) -> str:
    if not calibration.temperatures:
        return ""
    named = [
        f"{t.value:.2f} for {t.modality} ({TITLES[t.pattern]})"
        for t in calibration.temperatures
        if t.value != 1.0
    ]
    if not named:
        return "The model's own probabilities of categories hold there, within noise, and are kept."
    return (
        "So that probabilities of categories hold, their logarithms are divided by a temperature"
        f" (above 1: less sure): {', '.join(named[:SHOWN])}."
    )


def _shrinkages_text(calibration: Calibration) -> str:
    """ "" if numbers stay as they are, within a hundredth of the way."""
    found = [s for s in calibration.shrinkages if s.weight < 1 - LEAST]
    if not found:
        return ""
    found.sort(key=lambda s: s.weight)
    named = [f"{s.column} {1 - s.weight:.0%} ({TITLES[s.pattern]})" for s in found[:SHOWN]]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        "Filled numbers are moved towards the mean of their column, which makes them nearer to"
        f" hidden values there, by these shares of the way: {', '.join(named)}{more}."
    )
