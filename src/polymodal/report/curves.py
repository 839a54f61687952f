"""Results against the value of one setting, for runs that differ in nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from polymodal.report.pictures import Group, drawn
from polymodal.report.plots import AXIS, FAINT, colour_of, legend, panels_of, words
from polymodal.report.tables import Row
from polymodal.runs.info import computed
from polymodal.runs.run import Run

BESIDE = 4  # panels in one figure
TEXT = (
    "Results against the value of the setting in which the runs of a method differ; lines up and"
    " down: one standard error. Dotted: a method of one run."
)


@dataclass(frozen=True)
class Sweep:
    """Runs that differ in one number.

    Args:
        path: of the setting, such as method.flow.transforms.
        values: {method: {label of the run: value}}; the value is None for a method of one run.
    """

    path: str
    values: Mapping[str, Mapping[str, float | None]]


def sweep_of(runs: Mapping[str, Run]) -> Sweep | None:
    """The one number, the same for all methods, in which runs of a method differ, and its values.

    None if runs differ in nothing, in several settings, or in what is no number.

    Args:
        runs: by label, one for each.
    """
    by_method: dict[str, dict[str, dict[str, Any]]] = {}
    for label, run in runs.items():
        settings = dict(_leaves({k: computed(run.info)[k] for k in ("method", "training")}))
        by_method.setdefault(run.method_name.replace("_", "-"), {})[label] = settings
    paths = {path for group in by_method.values() for path in _differing(list(group.values()))}
    if len(paths) != 1:
        return None
    (path,) = paths
    values = {method: _values(group, path) for method, group in by_method.items()}
    given = [v for each in values.values() for v in each.values() if v is not None]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    return Sweep(path, values) if given and numeric else None


def _leaves(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """{path: value} of nested settings."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _differing(group: Sequence[Mapping[str, Any]]) -> set[str]:
    """The paths in which runs differ."""
    every = {path for settings in group for path in settings}
    first = group[0]
    return {p for p in every if any(s.get(p) != first.get(p) or p not in s for s in group)}


def _values(group: Mapping[str, Mapping[str, Any]], path: str) -> dict[str, Any]:
    single = len(group) == 1
    return {label: None if single else settings.get(path) for label, settings in group.items()}


def curves(rows: Sequence[Row], sweep: Sweep | None) -> list[Group]:
    """A figure of every metric against the value of the varied setting, a panel for each quantity;
    nothing without a sweep.
    """
    if sweep is None:
        return []
    metrics: dict[str, list[Row]] = {}
    for row in rows:
        metrics.setdefault(row.metric, []).append(row)
    pictures = []
    for metric, quantities in metrics.items():
        for k in range(0, len(quantities), BESIDE):
            shown = quantities[k : k + BESIDE]
            alt = f"{metric} against {sweep.path}: {'; '.join(row.quantity for row in shown)}"
            pictures.append(drawn(figure_of(shown, sweep), alt, metric if k == 0 else ""))
    return [Group(pictures, f"By {sweep.path}", TEXT)]


def figure_of(rows: Sequence[Row], sweep: Sweep) -> Figure:
    """A panel for each quantity, with a line for each method."""
    figure, panels = panels_of(len(rows))
    for axes, row in zip(panels, rows, strict=True):
        for k, (method, values) in enumerate(sweep.values.items()):
            _line(axes, row, values, label=method, color=colour_of(k))
        better = f"\n({row.direction})" if row.direction != "–" else ""
        words(axes, f"{row.quantity}{better}", sweep.path.rpartition(".")[2], row.unit)
        axes.grid(axis="y", color=FAINT, lw=0.5)
        every = {v for each in sweep.values.values() for v in each.values()}
        ticks = sorted(v for v in every if v is not None)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if len(sweep.values) > 1:
        legend(panels[0])
    return figure


def _line(axes: Axes, row: Row, values: Mapping[str, float | None], **style: Any) -> None:
    """One method's figures by value, with standard errors; level and dotted for a single run."""
    cells = [(v, row.cells[label]) for label, v in values.items() if label in row.cells]
    if [v for v, _ in cells] == [None]:
        axes.axhline(cells[0][1].value, ls=":", lw=1.3, **style)
        return
    points = sorted((float(v), c.value, c.error) for v, c in cells if v is not None)
    if points:
        x, y, error = np.array(points).T
        thin: dict[str, Any] = {"ecolor": AXIS, "elinewidth": 0.8}
        axes.errorbar(x, y, yerr=error, marker="o", ms=3, lw=1.3, **thin, **style)
