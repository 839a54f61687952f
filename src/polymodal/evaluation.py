"""method x subsets x metrics -> a table: `evaluate` measures a run, `combine` averages over seeds."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from polymodal.checks import meant
from polymodal.data.dataset import Dataset, Splits
from polymodal.metrics import METRICS, Metric, every_subset
from polymodal.metrics.classifiers import Classifiers, attributes_of
from polymodal.metrics.measurement import Given, Measurement
from polymodal.model import MultimodalVAE

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from polymodal.checkpoint import Run

COLUMNS = ("method", "data", "metric", "target", "given", "value", "se", "n", "seed", "direction", "unit")
QUANTITY = ["method", "data", "metric", "target", "given"]
ARROWS = {"higher": "↑", "lower": "↓"}


@dataclass(frozen=True)
class Table:
    """Results, a row for each figure.

    Args:
        frame: columns method, data, metric, target, given ("mnist+svhn"; "" where nothing is given), value, se
            (standard error over the samples, NaN where none is known), n (samples), seed (of the run), direction
            ("higher" or "lower" is better, "none"), unit; from `combine` also se_seeds and seeds.
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
        return [{k: plain(v) for k, v in row.items()} for row in self.frame.astype(object).to_dict("records")]

    def to_json(self) -> str:
        """The rows as a JSON list."""
        import json

        return json.dumps(self.records(), indent=1)

    def to_markdown(self) -> str:
        """A Markdown table: value ± standard error over samples (| over seeds)."""
        header, rows = self._cells()
        lines = [header, ["---"] * len(header), *rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"

    def print(self, console: Console | None = None) -> None:
        """The table on the terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as Rich

        header, rows = self._cells()
        same = lambda k: len({row[k] for row in rows}) == 1
        one = [k for k, name in enumerate(header) if name in ("method", "data", "seed") and same(k)]
        title = ", ".join(f"{header[k]} {rows[0][k]}" for k in one)  # what all rows share is said once
        table = Rich(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, title_justify="left")
        columns = [k for k in range(len(header)) if k not in one]
        for k in columns:
            right = header[k] in ("value", "n", "seed")
            table.add_column(header[k], justify="right" if right else "left", no_wrap=header[k] in ("metric", "value"))
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
    return f"{value:.{digits}f}" + (" ± " + " | ".join(f"{e:.{digits}f}" for e in known) if known else "")


def evaluate(
    run: Run, data: Splits | Dataset, metrics: Sequence[str] | None = None, subsets: Any = "all",
    limit: int | None = None, samples: int = 1000, seed: int = 0, classifiers: Classifiers | None = None,
    cache: str | os.PathLike[str] | None = None, *, batch: int = 256, precision: str | None = None, save: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Table:
    """Measures a run on test data, for every subset of modalities given and every target; saves the table in it.

    The latents z ~ q(z|x_S) are drawn once for each S and serve all metrics (the likelihoods draw their own K). Every
    number is a function of the run, the data and `seed`; weights of modalities are off.

    Args:
        run: what `fit` or `load` returned.
        data: its test part is used, its training part for classifiers and linear probes; or a Dataset to measure on,
            then with `classifiers`, or without the metrics that need them.
        metrics: keys of `METRICS`; None: all that apply but FID.
        subsets: which modalities are given: "all" subsets, or a list of such as "mnist+svhn" or ["mnist", "svhn"].
        limit: measure on the first so many samples.
        samples: K of the likelihoods.
        seed: of the evaluation's draws; the column `seed` is the run's.
        classifiers: for coherence; None: those of the data set, trained once and kept (`Classifiers.fit_or_load`).
        cache: where they are kept; default the user's cache directory.
        batch: samples encoded at once.
        precision: "bf16" runs decoders and classifiers in bfloat16.
        save: into metrics.json, where figures measured before and not now stay.
        progress: told in a line what is being measured.

    Raises:
        ValueError: for unknown metrics, subsets or modalities (with the nearest name), data that the model does not
            fit, or labels that a named metric needs and the data lacks.

    >>> # evaluate(run, load_data("shapes"), metrics=["coherence"], subsets=["square"]).print()
    """
    splits, part = (data, data.test) if isinstance(data, Splits) else (None, data)
    names = [m.name for m in run.model.modalities]
    if set(part.names) != set(names):
        raise ValueError(
            f"The model's modalities are {names}, the data's {part.names}; give the data it was trained on."
        )
    chosen = _metrics(metrics, part, classifiers is not None or splits is not None)
    given = _subsets(subsets, names)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    part = part.take(torch.arange(min(limit, len(part)), device=part.device)) if limit else part
    device = next(run.model.parameters()).device
    if classifiers is None and splits is not None and any(m.labels for m in chosen.values()):
        classifiers = Classifiers.fit_or_load(
            splits, cache=cache, device=device, precision=precision, progress=progress
        )
    with evaluating(run.model):
        measurement = Measurement(
            run.model, part.to(device), None if splits is None else splits.train.to(device),
            None if classifiers is None else classifiers.to(device), samples=samples, seed=seed, batch=batch,
            precision=precision,
        )  # fmt: skip
        base = {"method": _name(run), "data": "data" if splits is None else splits.name, "seed": run.seed}
        table = Table.from_records([base | row for row in _rows(measurement, chosen, names, given, progress)])
    table = replace(table, frame=table.frame[[c for c in COLUMNS if c in table.frame]])
    if save:
        _save(run, table, {"seed": seed, "samples": samples, "limit": limit, "precision": precision})
    return table


def combine(tables: Sequence[Table]) -> Table:
    """One row for each quantity: the mean over the runs' seeds.

    `se_seeds` is the standard error of that mean over seeds, s / sqrt(number of seeds), NaN for one seed. `se` stays
    the error over test samples, the root mean square of the runs': all of them were measured on the same samples, so
    that it does not shrink with their number. `n` is the smallest, `seed` all of them, `seeds` their number.

    Raises ValueError for no tables, or two rows of one quantity and one seed.
    """
    import pandas as pd

    if not tables:
        raise ValueError("combine needs at least one table.")
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    if frame.duplicated([*QUANTITY, "seed"]).any():
        twice = frame[frame.duplicated([*QUANTITY, "seed"])].iloc[0]
        raise ValueError(
            f"{twice['metric']} of {twice['method']} is there twice for seed {twice['seed']}; combine runs of "
            "different seeds."
        )
    rows = []
    for _, group in frame.groupby(QUANTITY, sort=False):
        value, count = group["value"], len(group)
        rows.append(dict(group.iloc[0]) | {
            "value": value.mean(), "se": math.sqrt((group["se"] ** 2).mean(skipna=False)),
            "se_seeds": value.std() / math.sqrt(count) if count > 1 else math.nan, "n": int(group["n"].min()),
            "seed": ",".join(str(s) for s in sorted(group["seed"])), "seeds": count,
        })  # fmt: skip
    return Table.from_records(rows)


@contextmanager
def evaluating(model: MultimodalVAE) -> Iterator[None]:
    """Inside, the model is in evaluation mode; after, every part is as it was."""
    training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def _name(run: Run) -> str:
    return (run.settings.get("method") or {}).get("name") or "custom"


def _metrics(names: Sequence[str] | None, data: Dataset, judged: bool) -> dict[str, Metric]:
    if names is None:
        labels = judged and (data.label is not None or attributes_of(data) is not None)
        return {k: m for k, m in METRICS.items() if m.default and (labels or not m.labels)}
    plain = {k.replace("_", "-"): k for k in METRICS}
    chosen = {}
    for name in [names] if isinstance(names, str) else names:
        key = plain.get(str(name).replace("_", "-"))
        if key is None:
            raise ValueError(f"There is no metric {name!r}; {meant(name, METRICS)}")
        if METRICS[key].labels and not judged:
            raise ValueError(f"{key} needs classifiers; give `classifiers`, or a data set with its training part.")
        chosen[key] = METRICS[key]
    return chosen


def _subsets(subsets: Any, names: Sequence[str]) -> list[Given]:
    if isinstance(subsets, str) and subsets == "all":
        return every_subset(names)
    found: list[Given] = []
    for subset in [subsets] if isinstance(subsets, str) else subsets:
        members = subset.split("+") if isinstance(subset, str) else list(subset)
        for m in members:
            if m not in names:
                raise ValueError(f"The model does not know {m!r}, of the subset {subset!r}; {meant(m, names)}")
        ordered = tuple(m for m in names if m in members)
        if not ordered:
            raise ValueError("A subset must name at least one modality, such as 'mnist' or 'mnist+svhn'.")
        found += [ordered] if ordered not in found else []
    return found


def _rows(
    measurement: Measurement, metrics: Mapping[str, Metric], names: Sequence[str], subsets: Sequence[Given],
    progress: Callable[[str], None] | None,
) -> list[dict[str, Any]]:
    """In the order of the metrics; computed place by place, so that what a place's metrics share is there for all."""
    places: dict[tuple[Given, str], list[str]] = {}
    unknown = set(names) - set(measurement.model.decoders)  # a CVAE generates one modality alone
    for name, metric in metrics.items():
        for place in metric.places(names, subsets):
            if place[1] not in unknown:
                places.setdefault(place, []).append(name)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}
    for (given, target), here in places.items():
        if progress:
            progress(f"Measuring {', '.join(here)} of {target}" + (f" given {', '.join(given)}." if given else "."))
        for name in here:
            value = metrics[name].compute(measurement, given, target)
            if value is not None:
                row: dict[str, Any] = dict(zip(("value", "se", "n"), value, strict=True))
                row |= {"metric": name, "target": target, "given": "+".join(given)}
                row |= {"direction": metrics[name].direction, "unit": metrics[name].unit}
                found[name].append(row)
    return [row for rows in found.values() for row in rows]


def _save(run: Run, table: Table, how: Mapping[str, Any]) -> None:
    new = table.records()
    measured = {(row["data"], row["metric"]) for row in new}
    old = [row for row in run.metrics.get("table", ()) if (row["data"], row["metric"]) not in measured]
    run.save_metrics({**run.metrics, "table": old + new, "evaluation": dict(how)})
