"""Tables of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


COLUMNS = (
    "method",
    "data",
    "metric",
    "target",
    "given",
    "value",
    "se",
    "n",
    "seed",
    "direction",
    "unit",
    "reason",
    "evaluation",
)
QUANTITY = ["method", "data", "metric", "target", "given"]
HEADER = ("method", "data", "metric", "target | given", "value", "unit", "n", "seed")
NUMBERS = ("value", "n", "seed")
ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Table:
    """Results, a row for each figure.

    Args:
        frame: columns method, data, metric, target, given ("mnist+svhn"; "" if nothing is given),
            value, se (standard error over the samples; NaN if it is unknown), n (samples), seed (of
            the run), direction ("higher" or "lower" is better, "none"), unit, reason (why there is
            no value; else ""), evaluation (how and of what it was measured); from `combine` also
            se_seeds and seeds.
    """

    frame: pd.DataFrame

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> Table:
        """The inverse of `records`."""
        import pandas as pd

        frame = pd.DataFrame.from_records(list(records), columns=None if records else list(COLUMNS))
        errors = {c: "float64" for c in ("value", "se", "se_seeds") if c in frame}
        return cls(frame.astype(errors))

    def records(self) -> list[dict[str, Any]]:
        """Rows as mappings of plain values, None for NaN: what metrics.json holds."""
        rows = self.frame.astype(object).to_dict("records")
        return [{k: _none_if_nan(v) for k, v in row.items()} for row in rows]

    def to_json(self) -> str:
        """The rows as a JSON list."""
        import json

        return json.dumps(self.records(), indent=1)

    def to_markdown(self) -> str:
        """A Markdown table: value ± standard error over samples (| over seeds)."""
        header, rows = self._cells()
        lines = [header, ["---"] * len(header), *rows]
        table = "".join(f"{markdown_row(line)}\n" for line in lines)
        return table + "".join(f"\n{reason}\n" for reason in self.reasons())

    def print(self, console: Console | None = None) -> None:
        """The table on the terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as Rich

        header, rows = self._cells()
        shared = _shared_columns(header, rows)
        title = ", ".join(f"{header[k]} {rows[0][k]}" for k in shared)
        table = Rich(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
        columns = [k for k in range(len(header)) if k not in shared]
        for k in columns:
            justify: Literal["left", "right"] = "right" if header[k] in NUMBERS else "left"
            table.add_column(header[k], justify=justify, no_wrap=header[k] in ("metric", "value"))
        for row in rows:
            table.add_row(*(row[k] for k in columns))
        console = console or Console()
        console.print(table)
        for reason in self.reasons():
            console.print(reason, markup=False, highlight=False)

    def reasons(self) -> list[str]:
        """Why figures have no value, each reason once with the figures."""
        figures: dict[str, list[str]] = {}
        for row in self.frame.to_dict("records"):
            if row.get("reason"):
                figures.setdefault(row["reason"], []).append(f"{row['metric']} of {_quantity(row)}")
        return [
            f"Not defined: {'; '.join(dict.fromkeys(f))}. {reason}" for reason, f in figures.items()
        ]

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """The header and the cells of every row, as text."""
        return list(HEADER), [_cells_of(row) for row in self.frame.to_dict("records")]


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a table in Markdown, on one line, whatever the cells hold.

    >>> print(markdown_row(["a|b", "two\\nlines"]))
    | a\\|b | two lines |
    """
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def _shared_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """The columns of the run that are the same in all rows: they are shown once, as the title."""
    return [
        k
        for k, name in enumerate(header)
        if name in ("method", "data", "seed") and len({row[k] for row in rows}) == 1
    ]


def _cells_of(row: Mapping[str, Any]) -> list[str]:
    """The cells of one row, in the order of HEADER."""
    name = f"{row['metric']} {ARROWS.get(row['direction'], '')}".strip()
    value = shown(row["value"], row["se"], row.get("se_seeds", math.nan))
    first = [row["method"], row["data"], name, _quantity(row), value, row["unit"]]
    return [*first, str(row["n"]), str(row["seed"])]


def _quantity(row: Mapping[str, Any]) -> str:
    return f"{row['target']} | {row['given']}" if row["given"] else row["target"]


def shown(value: float, *errors: float) -> str:
    """A figure with its standard errors, to two digits of the smallest; NaN: "not defined".

    >>> shown(0.71234, 0.0123, math.nan), shown(-2846.21, 1.4, 0.31)
    ('0.712 ± 0.012', '-2846.21 ± 1.40 | 0.31')
    """
    if math.isnan(value):
        return "not defined"
    positive = [e for e in errors if e > 0]
    if not positive:
        return f"{value:.3f}"
    digits = min(max(1 - math.floor(math.log10(min(positive))), 0), 6)
    return f"{value:.{digits}f} ± " + " | ".join(f"{e:.{digits}f}" for e in positive)


def combine(tables: Sequence[Table]) -> Table:
    """One row for each quantity: the mean over the runs' seeds.

    `se_seeds` is the standard error of that mean over seeds, s / sqrt(number of seeds), NaN for one
    seed. `se` stays the error over test samples, the root mean square of the runs' errors: all runs
    were measured on the same samples, so that it does not shrink with their number. `n` is the
    smallest, `seed` lists all of them, `seeds` is their number. Seeds without a value are left
    out where another has one.

    Raises ValueError for no tables, or two rows of the same quantity and seed.
    """
    import pandas as pd

    if not tables:
        raise ValueError("combine needs at least one table.")
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    duplicates = frame[frame.duplicated([*QUANTITY, "seed"])]
    if len(duplicates):
        row = duplicates.iloc[0]
        raise ValueError(
            f"duplicate result: {row['metric']} of {row['method']}, seed {row['seed']}; combine"
            " runs of different seeds."
        )
    groups = frame.groupby(QUANTITY, sort=False)
    return Table.from_records([_combined(group) for _, group in groups])


def _combined(group: pd.DataFrame) -> dict[str, Any]:
    """The row of a quantity from its rows for several seeds."""
    defined = group[group["value"].notna()]
    group = defined if len(defined) else group
    value, count = group["value"], len(group)
    return dict(group.iloc[0]) | {
        "value": value.mean(),
        "se": math.sqrt((group["se"] ** 2).mean(skipna=False)),
        "se_seeds": value.std() / math.sqrt(count) if count > 1 else math.nan,
        "n": int(group["n"].min()),
        "seed": ",".join(str(s) for s in sorted(group["seed"])),
        "seeds": count,
    }
