"""The figures that papers publish, and ours of the same quantities.

A quantity is a text, "metric given->target"; published.yaml says how it is read.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from polymodal.metrics.table import Table, combine

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "papers"
# In place of a metric that was not measured: not comparable with it, but ordered alike.
SUBSTITUTES = {"fid": "frechet"}
AVERAGED = ("coherence", "frechet", "fid", "probe")  # also as means over subsets of one size


@dataclass(frozen=True)
class Figure:
    """A number.

    Args:
        value: the number.
        se: its standard error; NaN if it is unknown.
        se_other: another standard error (over test items, where `se` is over seeds); NaN if none.
        of: what `se` is over, in words.
        setup: of our figures, the key of their set-up.
        metric: the metric that was measured.
        printed: of published figures, the number as the paper has it.
    """

    value: float
    se: float
    of: str
    metric: str
    se_other: float = math.nan
    setup: str = ""
    printed: str = ""

    @property
    def error(self) -> float:
        """The larger of the standard errors; NaN if none is known."""
        return max((e for e in (self.se, self.se_other) if not math.isnan(e)), default=math.nan)


@dataclass(frozen=True)
class PaperTable:
    """A published table.

    Args:
        figures: by (model, quantity).
        spread: what the paper says of the standard deviations over trainings.
    """

    id: str
    title: str
    data: str
    protocol: str
    source: str
    quantities: tuple[str, ...]
    figures: Mapping[tuple[str, str], Figure]
    training: str = ""
    spread: str = ""
    note: str = ""


@dataclass(frozen=True)
class Setup:
    """The runs of one entry of the queue, of all its seeds.

    Args:
        name: of the entry, without the seed.
        differs: what is not as in the paper.
        files: the results.
        runs: of all files.
    """

    name: str
    differs: str
    machine: str
    files: list[str] = field(default_factory=list)
    runs: list[Mapping[str, Any]] = field(default_factory=list)


Figures = dict[tuple[str, str, str], Figure]  # (data, model, quantity)


def published() -> Any:
    """The content of published.yaml."""
    return yaml.safe_load((HERE / "published.yaml").read_text())


def split(quantity: str) -> tuple[str, list[str], str]:
    """(metric, given, target). Raises ValueError for another form.

    >>> split("coherence fashion+svhn->mnist"), split("joint_coherence")
    (('coherence', ['fashion', 'svhn'], 'mnist'), ('joint_coherence', [], ''))
    """
    form = re.fullmatch(r"(\w+)(?: ([\w+]*)->(\w+))?", quantity)
    if form is None:
        raise ValueError(f"A quantity is 'metric given->target', got {quantity!r}.")
    metric, given, target = form.groups(default="")
    return metric, sorted(filter(None, given.split("+"))), target


def name_of(metric: str, given: Iterable[str], target: str) -> str:
    """The quantity as a text, the given modalities in alphabetical order."""
    return f"{metric} {'+'.join(sorted(given))}->{target}" if target else metric


def canonical(quantity: str) -> str:
    """The quantity with the given modalities in alphabetical order."""
    return name_of(*split(quantity))


def paper_tables(content: Mapping[str, Any]) -> list[PaperTable]:
    """The published tables, in the order of the file."""
    return [_paper_table(entry) for entry in content["tables"]]


def _paper_table(entry: Mapping[str, Any]) -> PaperTable:
    words = {k: str(entry.get(k, "")) for k in ("id", "title", "data", "protocol", "source")}
    quantities = tuple(map(canonical, entry["quantities"]))
    figures = {}
    for model, values in entry["values"].items():
        if len(values) != len(quantities):
            raise ValueError(
                f"{model} of table {entry['id']} must have {len(quantities)} values, one for each"
                f" quantity, got {len(values)}."
            )
        for quantity, value in zip(quantities, values, strict=True):
            if value is not None:
                figures[model, quantity] = _published_figure(entry, quantity, value)
    more = {k: str(entry.get(k, "")) for k in ("training", "note")}
    bounds = [f"{metric} {bound:g}" for metric, bound in entry.get("error", {}).items()]
    spread = f"at most {', '.join(bounds)}" if bounds else ""
    return PaperTable(**words, quantities=quantities, figures=figures, spread=spread, **more)


def _published_figure(entry: Mapping[str, Any], quantity: str, value: Any) -> Figure:
    """A value with the standard error of the mean over its trainings; 0 where none is known."""
    metric, runs = split(quantity)[0], entry.get("runs", 1)
    spread, printed = entry.get("error", {}).get(metric, 0.0), f"{value}"
    if isinstance(value, list):
        value, spread = value
        printed = f"{value} ± {spread}"
    se = spread / math.sqrt(runs)
    return Figure(float(value), se, f"{runs} trainings", metric, printed=printed)


def by_quantity(tables: Sequence[PaperTable]) -> Figures:
    """The published figures by data, model and quantity; of several the first."""
    found: Figures = {}
    for table in tables:
        for (model, quantity), figure in table.figures.items():
            found.setdefault((table.data, model, quantity), figure)
    return found


def setups(folder: Path = RESULTS) -> dict[str, Setup]:
    """The results in a folder, by the name of their entry."""
    found: dict[str, Setup] = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        name = re.sub(r"-seed\d+$", "", content["name"])
        differs = content.get("differs") or content.get("data", "")
        setup = found.setdefault(name, Setup(name, differs, content.get("machine", "")))
        setup.files.append(path.name)
        setup.runs.extend(content["runs"])
    return found


def measured(found: Mapping[str, Setup], labels: Mapping[str, str]) -> dict[str, Figures]:
    """Our figures, by set-up.

    Args:
        labels: model by label of a run, where they are not the same.
    """
    return {name: _figures(setup, labels) for name, setup in found.items()}


def _figures(setup: Setup, labels: Mapping[str, str]) -> Figures:
    rows = [row for run in setup.runs for row in _rows(run, labels)]
    if not rows:
        return {}
    # The accuracy of a classifier comes with every run of its data: equal rows count once.
    once = {tuple(str(value) for value in row.values()): row for row in rows}
    table = combine([Table.from_records(list(once.values()))]).frame.to_dict("records")
    return {(row["data"], row["method"], row["target"]): _our_figure(row, setup) for row in table}


def _our_figure(row: Mapping[str, Any], setup: Setup) -> Figure:
    metric, seeds = row["metric"], row["seeds"]
    if seeds > 1:
        return Figure(
            row["value"], row["se_seeds"], f"{seeds} seeds", metric, row["se"], setup.name
        )
    return Figure(row["value"], row["se"], f"{row['n']:,} items", metric, setup=setup.name)


def model_of(label: str, data: str, labels: Mapping[str, str]) -> str:
    """The model of a run's label: without the data's name, hyphens for underscores.

    >>> model_of("mnist-svhn-jnf_dcca", "mnist-svhn", {})
    'jnf-dcca'
    """
    plain = label.replace("_", "-").removeprefix(f"{data}-")
    return labels.get(plain, plain)


def _rows(run: Mapping[str, Any], labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of a run with its model as method and the quantity as target, and the means over
    subsets of one size.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in run["rows"]:
        if row["value"] is None:
            continue
        accuracy = row["metric"] == "classifier_accuracy"
        model = "classifiers" if accuracy else model_of(run["label"], row["data"], labels)
        given = [m for m in (row["given"] or "").split("+") if m]
        for quantity in _quantities(row["metric"], given, row["target"]):
            groups.setdefault((model, row["data"], quantity), []).append(row)
    for (model, data, quantity), rows in groups.items():
        errors = [math.nan if row["se"] is None else row["se"] for row in rows]
        yield {
            "method": model,
            "data": data,
            "metric": rows[0]["metric"],
            "target": quantity,
            "given": "",
            "value": sum(row["value"] for row in rows) / len(rows),
            "se": sum(errors) / len(rows),  # of the mean at most: the items are the same
            "n": min(row["n"] for row in rows),
            "seed": run["seed"],
        }


def _quantities(metric: str, given: Sequence[str], target: str) -> Iterator[str]:
    """The quantities to which a row belongs."""
    joint = not given and metric.startswith("joint")
    yield name_of(metric, given, "" if joint else target)
    if metric in AVERAGED and given and target not in given:
        yield name_of(metric, [str(len(given))], target)
        if target != "z":
            yield name_of(metric, [str(len(given))], "others")


def lookup(figures: Figures, data: str, model: str, quantity: str) -> Figure | None:
    """A figure, or that of the metric that stands in for it."""
    metric, given, target = split(quantity)
    for name in (metric, SUBSTITUTES.get(metric)):
        key = (data, model, name_of(name or "", given, target))
        if name and key in figures:
            return figures[key]
    return None
