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
ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Table:
    """Results, a row for each figure.

    Args:
        frame: columns method, data, metric, target, given ("mnist+svhn"; "" where nothing is
            given), value, se (standard error over the samples, NaN where none is known), n
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
        plain = lambda v: None if isinstance(v, float) and math.isnan(v) else v
        return [
            {k: plain(v) for k, v in row.items()}
            for row in self.frame.astype(object).to_dict("records")
        ]

    def to_json(self) -> str:
        """The rows as a JSON list."""
        import json

        return json.dumps(self.records(), indent=1)

    def to_markdown(self) -> str:
        """A Markdown table: value ± standard error over samples (| over seeds)."""
        header, rows = self._cells()
        lines = [header, ["---"] * len(header), *rows]
        return (
            "\n".join(
                "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
                for line in lines
            )
            + "\n"
        )

    def print(self, console: Console | None = None) -> None:
        """The table on the terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as Rich

        header, rows = self._cells()
        same = lambda k: len({row[k] for row in rows}) == 1
        one = [k for k, name in enumerate(header) if name in ("method", "data", "seed") and same(k)]
        title = ", ".join(
            f"{header[k]} {rows[0][k]}" for k in one
        )  # what all rows share is said once
        table = Rich(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
        columns = [k for k in range(len(header)) if k not in one]
        for k in columns:
            right = header[k] in ("value", "n", "seed")
            table.add_column(
                header[k],
                justify="right" if right else "left",
                no_wrap=header[k] in ("metric", "value"),
            )
        for row in rows:
            table.add_row(*(row[k] for k in columns))
        (console or Console()).print(table)

    def _cells(self) -> tuple[list[str], list[list[str]]]:
        header = ["method", "data", "metric", "target | given", "value", "unit", "n", "seed"]
        rows = []
        for row in self.frame.to_dict("records"):
            quantity = f"{row['target']} | {row['given']}" if row["given"] else row["target"]
            name = f"{row['metric']} {ARROWS.get(row['direction'], '')}".strip()
            value = shown(row["value"], row["se"], row.get("se_seeds", math.nan))
            n, seed = str(row["n"]), str(row["seed"])
            rows.append([row["method"], row["data"], name, quantity, value, row["unit"], n, seed])
        return header, rows


def shown(value: float, *errors: float) -> str:
    """A figure with its standard errors, to two digits of the smallest.

    >>> shown(0.71234, 0.0123, math.nan), shown(-2846.21, 1.4, 0.31)
    ('0.712 ± 0.012', '-2846.21 ± 1.40 | 0.31')
    """
    known = [e for e in errors if e > 0]
    digits = min(max(1 - math.floor(math.log10(min(known))), 0), 6) if known else 3
    return f"{value:.{digits}f}" + (
        " ± " + " | ".join(f"{e:.{digits}f}" for e in known) if known else ""
    )


def combine(tables: Sequence[Table]) -> Table:
    """One row for each quantity: the mean over the runs' seeds.

    `se_seeds` is the standard error of that mean over seeds, s / sqrt(number of seeds), NaN for one
    seed. `se` stays the error over test samples, the root mean square of the runs': all of them
    were measured on the same samples, so that it does not shrink with their number. `n` is the
    smallest, `seed` all of them, `seeds` their number.

    Raises ValueError for no tables, or two rows of one quantity and one seed.
    """
    import pandas as pd

    if not tables:
        raise ValueError("combine needs at least one table.")
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    if frame.duplicated([*QUANTITY, "seed"]).any():
        twice = frame[frame.duplicated([*QUANTITY, "seed"])].iloc[0]
        raise ValueError(
            f"{twice['metric']} of {twice['method']} is there twice for seed {twice['seed']};"
            " combine runs of different seeds."
        )
    rows = []
    for _, group in frame.groupby(QUANTITY, sort=False):
        value, count = group["value"], len(group)
        rows.append(
            dict(group.iloc[0])
            | {
                "value": value.mean(),
                "se": math.sqrt((group["se"] ** 2).mean(skipna=False)),
                "se_seeds": value.std() / math.sqrt(count) if count > 1 else math.nan,
                "n": int(group["n"].min()),
                "seed": ",".join(str(s) for s in sorted(group["seed"])),
                "seeds": count,
            }
        )
    return Table.from_records(rows)
