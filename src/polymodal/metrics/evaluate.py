"""`evaluate` measures a run: subsets x metrics -> a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from polymodal.checks import meant
from polymodal.data.dataset import Dataset, Splits, splits_and_test
from polymodal.metrics.classifiers import Classifiers, TrainingOptions, attributes_of
from polymodal.metrics.likelihood import Sampling
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import METRICS, Metric
from polymodal.metrics.places import Given, Place, every_subset
from polymodal.metrics.table import COLUMNS, Table
from polymodal.model import MultimodalVAE

if TYPE_CHECKING:
    from polymodal.runs.run import Run

Tell = Callable[[str], None]


def evaluate(
    run: Run,
    data: Splits | Dataset,
    metrics: Sequence[str] | None = None,
    subsets: Any = "all",
    limit: int | None = None,
    classifiers: Classifiers | None = None,
    cache: str | os.PathLike[str] | None = None,
    *,
    save: bool = True,
    progress: Tell | None = None,
    **sampling: Any,
) -> Table:
    """Measures a run on test data, for every subset of modalities given and every target; saves the
    table in it.

    The latents z ~ q(z|x_S) are drawn once for each S and serve all metrics (the likelihoods draw
    their own K). Every number is a function of the run, the data and `seed`; weights of modalities
    are off.

    Args:
        run: the result of `fit` or `load`.
        data: its test part is used, its training part for classifiers and linear probes; or a
            Dataset to measure on, then with `classifiers`, or without the metrics that need them.
        metrics: keys of `METRICS`; None: all that apply but `fid` and `synergy`.
        subsets: which modalities are given: "all" subsets, or a list of such as "mnist+svhn" or
            ["mnist", "svhn"].
        limit: number of samples, the first of the data set, to measure on; None: all.
        classifiers: for coherence; None: those of the data set, trained once and kept
            (`Classifiers.fit_or_load`).
        cache: the folder where they are kept; default the user's cache directory.
        save: write the table into metrics.json, where it replaces rows of the same data and metric.
        progress: called with a line about what is being measured.
        sampling: fields of `Sampling`: samples (K of the likelihoods, 1000), seed (of the
            evaluation's draws, 0; the column `seed` is the run's), batch (samples encoded at once,
            256), precision ("bf16" runs decoders and classifiers in bfloat16), memory.

    Raises:
        ValueError: for unknown metrics, subsets or modalities (with the nearest name), data that
            the model does not fit, or labels that a named metric needs and the data lacks.
        TypeError: for an unknown argument (with the nearest name).

    >>> # evaluate(run, load_data("shapes"), metrics=["coherence"], subsets=["square"]).print()
    """
    options = _sampling(sampling)
    splits, part = splits_and_test(data)
    names = _names(run.model, part)
    chosen = _metrics(metrics, part, classifiers is not None or splits is not None)
    places = _places(chosen, names, _subsets(subsets, names))
    part = _first(part, limit)
    if classifiers is None and splits is not None and any(m.labels for m in chosen.values()):
        training = TrainingOptions(device=_device(run.model), precision=options.precision)
        classifiers = Classifiers.fit_or_load(splits, training, cache=cache, progress=progress)
    with evaluating(run.model):
        measurement = _measurement(run.model, part, splits, classifiers, options)
        rows = _rows(measurement, chosen, places, progress)
    table = _table(run, "data" if splits is None else splits.name, rows)
    if save:
        asked = {k: v for k, v in asdict(options).items() if k in ("seed", "samples", "precision")}
        _save(run, table, asked | {"limit": limit})
    return table


@contextmanager
def evaluating(model: MultimodalVAE) -> Iterator[None]:
    """The model is in evaluation mode inside the context; afterwards every part is as before."""
    training = [m for m in model.modules() if m.training]
    try:
        model.eval()
        yield
    finally:
        for module in training:
            module.training = True


def _sampling(options: Mapping[str, Any]) -> Sampling:
    """The fields of `Sampling` by name. Raises TypeError for others."""
    names = [f.name for f in fields(Sampling)]
    for name in options:
        if name not in names:
            raise TypeError(f"evaluate has no argument {name!r}; {meant(name, names)}")
    return Sampling(**options)


def _names(model: MultimodalVAE, data: Dataset) -> list[str]:
    """The model's modalities. Raises ValueError if the data has others."""
    names = [m.name for m in model.modalities]
    if set(data.names) != set(names):
        raise ValueError(
            f"The model's modalities are {names}, the data's {data.names}; give the data it was"
            " trained on."
        )
    return names


def _first(data: Dataset, limit: int | None) -> Dataset:
    """The first `limit` samples. Raises ValueError for limit < 1."""
    if limit is None:
        return data
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    return data.take(torch.arange(min(limit, len(data)), device=data.device))


def _device(model: MultimodalVAE) -> torch.device:
    return next(model.parameters()).device


def _measurement(
    model: MultimodalVAE,
    data: Dataset,
    splits: Splits | None,
    classifiers: Classifiers | None,
    sampling: Sampling,
) -> Measurement:
    """A measurement with everything on the model's device."""
    device = _device(model)
    train = None if splits is None else splits.train.to(device)
    moved = None if classifiers is None else classifiers.to(device)
    return Measurement(model, data.to(device), train, moved, sampling)


def _metrics(names: Sequence[str] | None, data: Dataset, can_classify: bool) -> dict[str, Metric]:
    """The metrics of these names; None: all that apply by default."""
    if names is None:
        labels = can_classify and (data.label is not None or attributes_of(data) is not None)
        return {k: m for k, m in METRICS.items() if m.default and (labels or not m.labels)}
    chosen = {}
    for name in [names] if isinstance(names, str) else names:
        key = _key(name)
        if METRICS[key].labels and not can_classify:
            raise ValueError(
                f"{key} needs classifiers; give `classifiers`, or a data set with its training"
                " part."
            )
        chosen[key] = METRICS[key]
    return chosen


def _key(name: str) -> str:
    """The key of METRICS that `name` means ("joint-kappa" is "joint_kappa"). Raises ValueError."""
    keys = {key.replace("_", "-"): key for key in METRICS}
    key = keys.get(str(name).replace("_", "-"))
    if key is None:
        raise ValueError(f"There is no metric {name!r}; {meant(name, METRICS)}")
    return key


def _subsets(subsets: Any, names: Sequence[str]) -> list[Given]:
    """The subsets asked for, each once, in the order of `names`."""
    if isinstance(subsets, str) and subsets == "all":
        return every_subset(names)
    asked = [subsets] if isinstance(subsets, str) else subsets
    return list(dict.fromkeys(_subset(subset, names) for subset in asked))


def _subset(subset: Any, names: Sequence[str]) -> Given:
    """ "b+a" or ["b", "a"] -> ("a", "b"). Raises ValueError for unknown names, or none."""
    members = subset.split("+") if isinstance(subset, str) else list(subset)
    for m in members:
        if m not in names:
            raise ValueError(
                f"The model does not know {m!r}, of the subset {subset!r}; {meant(m, names)}"
            )
    if not members:
        raise ValueError(
            "A subset must name at least one modality, such as 'mnist' or 'mnist+svhn'."
        )
    return tuple(m for m in names if m in members)


def _places(
    metrics: Mapping[str, Metric], names: Sequence[str], subsets: Sequence[Given]
) -> dict[Place, list[str]]:
    """The metrics of each place, so that all metrics of a place share what is computed there."""
    places: dict[Place, list[str]] = {}
    for name, metric in metrics.items():
        for place in metric.places(names, subsets):
            places.setdefault(place, []).append(name)
    return places


def _rows(
    measurement: Measurement,
    metrics: Mapping[str, Metric],
    places: Mapping[Place, Sequence[str]],
    progress: Tell | None,
) -> list[dict[str, Any]]:
    """A row for each value, in the order of the metrics."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}
    for place, names in _generated(measurement.model, places).items():
        if progress:
            progress(_said(names, place))
        for name in names:
            row = _row(measurement, name, metrics[name], place)
            rows[name] += [] if row is None else [row]
    return [row for group in rows.values() for row in group]


def _generated(
    model: MultimodalVAE, places: Mapping[Place, Sequence[str]]
) -> dict[Place, Sequence[str]]:
    """The places whose target the model can generate: a CVAE generates only one modality."""
    missing = {m.name for m in model.modalities} - set(model.decoders)
    return {place: names for place, names in places.items() if place[1] not in missing}


def _said(names: Sequence[str], place: Place) -> str:
    given, target = place
    condition = f" given {', '.join(given)}" if given else ""
    return f"Measuring {', '.join(names)} of {target}{condition}."


def _row(
    measurement: Measurement, name: str, metric: Metric, place: Place
) -> dict[str, Any] | None:
    """The row of a metric at a place; None if it has no value there."""
    given, target = place
    result = metric.function(measurement, given, target)
    if result is None:
        return None
    value, error, n = result
    return {
        "metric": name,
        "target": target,
        "given": "+".join(given),
        "value": value,
        "se": error,
        "n": n,
        "direction": metric.direction,
        "unit": metric.unit,
    }


def _table(run: Run, data: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    method = (run.settings.get("method") or {}).get("name") or "custom"
    common = {"method": method, "data": data, "seed": run.seed}
    table = Table.from_records([common | dict(row) for row in rows])
    return replace(table, frame=table.frame[[c for c in COLUMNS if c in table.frame]])


def _save(run: Run, table: Table, options: Mapping[str, Any]) -> None:
    """Writes the table into the run's metrics; rows of other data or metrics stay."""
    new = table.records()
    measured = {(row["data"], row["metric"]) for row in new}
    old = [
        row for row in run.metrics.get("table", ()) if (row["data"], row["metric"]) not in measured
    ]
    run.save_metrics({**run.metrics, "table": old + new, "evaluation": dict(options)})
