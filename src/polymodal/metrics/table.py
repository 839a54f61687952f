"""Tables of results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
)
QUANTITY = ["method", "data", "metric", "target", "given"]
SHARED = ("method", "data", "seed")  # columns that a title replaces if all rows have one value
ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Table:
    """Results, a row for each figure.

    Args:
        frame: columns method, data, metric, target, given ("mnist+svhn"; "" where nothing is
            given), value, se (standard error over the samples, NaN if unknown), n
            (samples), seed (of the run), direction ("higher" or "lower" is better, "none"), unit;
            from `combine` also se_seeds and seeds.
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
        return [{k: _plain(v) for k, v in row.items()} for row in rows]

    def to_json(self) -> str:
        """The rows as a JSON list."""
        import json

        return json.dumps(self.records(), indent=1)

    def to_markdown(self) -> str:
        """A Markdown table: value ± standard error over samples (| over seeds)."""
        header, rows = self._cells()
        lines = [header, ["---"] * len(header), *rows]
        return "".join(_markdown_row(line) for line in lines)

    def print(self, console: Console | None = None) -> None:
        """The table on the terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as Rich

        header, rows = self._cells()
        shared = [k for k, name in enumerate(header) if name in SHARED and _all_equal(rows, k)]
        title = ", ".join(f"{header[k]} {rows[0][k]}" for k in shared)  # said once
        columns = [k for k in range(len(header)) if k not in shared]
        table = Rich(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
        for name in (header[k] for k in columns):
            right = name in ("value", "n", "seed")
            whole = name in ("metric", "value")
            table.add_column(name, justify="right" if right else "left", no_wrap=whole)
        for row in rows:
            table.add_row(*(row[k] for k in columns))
        (console or Console()).print(table)

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        """The header, and the rows as text."""
        header = ["method", "data", "metric", "target | given", "value", "unit", "n", "seed"]
        return header, [_cells_of(row) for row in self.frame.to_dict("records")]


def _cells_of(row: Mapping[str, Any]) -> list[str]:
    quantity = f"{row['target']} | {row['given']}" if row["given"] else row["target"]
    name = f"{row['metric']} {ARROWS.get(row['direction'], '')}".strip()
    value = shown(row["value"], row["se"], row.get("se_seeds", math.nan))
    counts = str(row["n"]), str(row["seed"])
    return [row["method"], row["data"], name, quantity, value, row["unit"], *counts]


def _plain(value: Any) -> Any:
    """None for NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _all_equal(rows: Sequence[Sequence[str]], column: int) -> bool:
    return len({row[column] for row in rows}) == 1


def shown(value: float, *errors: float) -> str:
    """A figure with its standard errors, to two digits of the smallest.

    >>> shown(0.71234, 0.0123, math.nan), shown(-2846.21, 1.4, 0.31)
    ('0.712 ± 0.012', '-2846.21 ± 1.40 | 0.31')
    """
    positive = [e for e in errors if e > 0]
    if not positive:
        return f"{value:.3f}"
    digits = min(max(1 - math.floor(math.log10(min(positive))), 0), 6)
    written = " | ".join(f"{e:.{digits}f}" for e in positive)
    return f"{value:.{digits}f} ± {written}"


def combine(tables: Sequence[Table]) -> Table:
    """One row for each quantity: the mean over the runs' seeds.

    `se_seeds` is the standard error of that mean over seeds, s / sqrt(number of seeds), NaN for one
    seed. `se` is the error over test samples, the root mean square of the runs': all of them were
    measured on the same samples, so it does not shrink with their number. `n` is the smallest
    number of samples, `seed` lists all seeds, `seeds` is their number.

    Raises ValueError for no tables, or two rows of the same quantity and seed.
    """
    import pandas as pd

    if not tables:
        raise ValueError("combine needs at least one table.")
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    if frame.duplicated([*QUANTITY, "seed"]).any():
        twice = frame[frame.duplicated([*QUANTITY, "seed"])].iloc[0]
        raise ValueError(
            f"duplicate result: {twice['metric']} of {twice['method']}, seed {twice['seed']};"
            " combine runs of different seeds."
        )
    groups = frame.groupby(QUANTITY, sort=False)
    return Table.from_records([_combined(group) for _, group in groups])


def _combined(group: pd.DataFrame) -> dict[str, Any]:
    """The row of one quantity, from its rows for each seed."""
    value, count = group["value"], len(group)
    return dict(group.iloc[0]) | {
        "value": value.mean(),
        "se": math.sqrt((group["se"] ** 2).mean(skipna=False)),
        "se_seeds": value.std() / math.sqrt(count) if count > 1 else math.nan,
        "n": int(group["n"].min()),
        "seed": ",".join(str(s) for s in sorted(group["seed"])),
        "seeds": count,
    }
