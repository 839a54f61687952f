"""`evaluate`: measures a run by metrics, for subsets and targets, and returns a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch

from polymodal.checks import check_name, shown
from polymodal.data.dataset import Dataset, Splits, parts_of
from polymodal.metrics.classifier_training import ClassifierTraining
from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.labels import has_labels
from polymodal.metrics.measurement import Measurement, MeasurementOptions
from polymodal.metrics.metric import METRICS, Metric, Value, named_metrics
from polymodal.metrics.places import Given, Place, all_subsets
from polymodal.metrics.run import Run
from polymodal.metrics.table import COLUMNS, Table
from polymodal.model import MultimodalVAE

Progress = Callable[[str], None]
Row = dict[str, Any]


def evaluate(
    run: Run,
    data: Splits | Dataset,
    metrics: str | Sequence[str] | None = None,
    subsets: str | Sequence[str | Sequence[str]] = "all",
    limit: int | None = None,
    classifiers: Classifiers | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
    save: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Table:
    """Measures a run on test data, for every subset of modalities given and every target; saves the
    table in the run.

    The latents z ~ q(z|x_S) are drawn once for each S and serve all metrics (the likelihoods draw
    their own K). Every number is a function of the run, the data and `seed`; weights of modalities
    are not used.

    Args:
        run: returned by `fit` or `load`.
        data: its test part is measured, its training part serves classifiers and linear probes; or
            a Dataset to measure on, with `classifiers` for the metrics that need labels.
        metrics: keys of `METRICS`; None: all that are measured by default and that the data allow.
        subsets: the subsets that are given: "all", or a list such as ["mnist+svhn", "mnist"].
        limit: measure on the first so many samples.
        classifiers: for coherence; None: those of the data set, trained once and kept
            (`Classifiers.fit_or_load`).
        cache: the folder where they are kept; None: in the user's cache directory.
        save: into metrics.json, where other figures that were measured before stay.
        progress: is called with a line for each step of the measurement.
        options: samples, seed, batch, precision and memory, see
            `polymodal.metrics.measurement.MeasurementOptions`. The column `seed` is the run's.

    Raises:
        ValueError: for unknown metrics, subsets, modalities or options (with the nearest name),
            data that the model does not fit, or labels that a named metric needs and the data
            lacks.

    >>> # evaluate(run, load_data("shapes"), metrics=["coherence"], subsets=["square"]).print()
    """
    splits, part = parts_of(data)
    names = [m.name for m in run.model.modalities]
    _check_modalities(part, names)
    classifiable = classifiers is not None or splits is not None
    chosen = chosen_metrics(metrics, part, classifiable)
    given, how = chosen_subsets(subsets, names), MeasurementOptions(**options)
    part = _first(part, limit)
    needed = any(metric.labels for metric in chosen.values())
    if needed and classifiers is None and splits is not None:
        device = next(run.model.parameters()).device
        training = ClassifierTraining(precision=how.precision, device=device)
        classifiers = Classifiers.fit_or_load(splits, training, cache, progress)
    with evaluating(run.model):
        measurement = _measurement(run.model, splits, part, classifiers, how)
        measured = measured_rows(measurement, chosen, given, progress)
    table = _table(run, "data" if splits is None else splits.name, measured)
    if save:
        _save(run, table, how, limit)
    return table


def _measurement(
    model: MultimodalVAE,
    splits: Splits | None,
    part: Dataset,
    classifiers: Classifiers | None,
    options: MeasurementOptions,
) -> Measurement:
    """The measurement of `part`, with everything on the model's device."""
    device = next(model.parameters()).device
    train = None if splits is None else splits.train.to(device)
    nets = None if classifiers is None else classifiers.to(device)
    return Measurement(model, part.to(device), train, nets, options)


def _table(run: Run, data: str, rows: Iterable[Mapping[str, Any]]) -> Table:
    """The rows with the method, the data set's name and the run's seed."""
    common = {"method": _method(run), "data": data, "seed": run.seed}
    return Table.from_records([{c: (common | dict(row))[c] for c in COLUMNS} for row in rows])


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


def _check_modalities(data: Dataset, names: Sequence[str]) -> None:
    if set(data.names) != set(names):
        raise ValueError(
            f"The model's modalities are {list(names)}, the data's {data.names}; give the data it"
            " was trained on."
        )


def _first(data: Dataset, limit: int | None) -> Dataset:
    """The first `limit` samples; None: all."""
    if limit is None:
        return data
    if limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}.")
    return data.take(torch.arange(min(limit, len(data)), device=data.device))


def _method(run: Run) -> str:
    return (run.settings.get("method") or {}).get("name") or "custom"


def chosen_metrics(
    names: str | Sequence[str] | None, data: Dataset, classifiable: bool
) -> dict[str, Metric]:
    """The metrics `names`, in that order; None: the default ones that the data allow.

    Args:
        data: the data that are measured.
        classifiable: whether there are, or can be, classifiers.

    Raises ValueError for an unknown metric, or one that needs classifiers if there are none.
    """
    if names is None:
        return _default_metrics(classifiable and has_labels(data))
    keys = named_metrics(names)
    for key in keys:
        if METRICS[key].labels and not classifiable:
            raise ValueError(
                f"{key} needs classifiers; give `classifiers`, or a data set with its training"
                " part."
            )
    return {key: METRICS[key] for key in keys}


def _default_metrics(labels: bool) -> dict[str, Metric]:
    """The metrics that are measured by default, with or without those that need labels."""
    return {k: m for k, m in METRICS.items() if m.default and (labels or not m.labels)}


def chosen_subsets(
    subsets: str | Sequence[str | Sequence[str]], names: Sequence[str]
) -> list[Given]:
    """The subsets of `names`, each once and in the order of `names`.

    Raises ValueError for unknown modalities, or an empty subset.
    """
    if subsets == "all":
        return all_subsets(names)
    listed = [subsets] if isinstance(subsets, str) else subsets
    if not listed:
        raise ValueError("subsets must name at least one subset; leave it out for all.")
    return list(dict.fromkeys(_subset(subset, names) for subset in listed))


def _subset(subset: str | Sequence[str], names: Sequence[str]) -> Given:
    members = subset.split("+") if isinstance(subset, str) else list(subset)
    for m in members:
        check_name(m, names, "modality", f" of the subset {shown(subset)}")
    if not members:
        raise ValueError(
            "A subset must name at least one modality, such as 'mnist' or 'mnist+svhn'."
        )
    return tuple(m for m in names if m in members)


def measured_rows(
    measurement: Measurement,
    metrics: Mapping[str, Metric],
    subsets: Sequence[Given],
    progress: Progress | None = None,
) -> list[Row]:
    """A row for each figure, in the order of the metrics.

    They are computed place by place, so that the metrics of a place share what it needs.
    """
    rows: dict[str, list[Row]] = {name: [] for name in metrics}
    for place, names in _metrics_by_place(measurement, metrics, subsets).items():
        if progress:
            progress(_announced(names, place))
        for name in names:
            value = metrics[name].compute(measurement, *place)
            if value is not None:
                rows[name].append(_row(name, metrics[name], place, value))
    return list(chain.from_iterable(rows.values()))


def _announced(metrics: Sequence[str], place: Place) -> str:
    given, target = place
    condition = f" given {', '.join(given)}" if given else ""
    return f"Measuring {', '.join(metrics)} of {target}{condition}."


def _row(name: str, metric: Metric, place: Place, value: Value) -> Row:
    given, target = place
    quantity = {"metric": name, "target": target, "given": "+".join(given)}
    figure = dict(zip(("value", "se", "n"), value, strict=True))
    return quantity | figure | {"direction": metric.direction, "unit": metric.unit}


def _metrics_by_place(
    measurement: Measurement, metrics: Mapping[str, Metric], subsets: Sequence[Given]
) -> dict[Place, list[str]]:
    """The names of the metrics of each place."""
    model = measurement.model
    names = [m.name for m in model.modalities]
    not_generated = set(names) - set(model.decoders)  # by a CVAE: all but its target
    places: dict[Place, list[str]] = {}
    for name, metric in metrics.items():
        for place in metric.places(names, subsets):
            if place[1] not in not_generated:
                places.setdefault(place, []).append(name)
    return places


def _save(run: Run, table: Table, how: MeasurementOptions, limit: int | None) -> None:
    """Into the run's metrics, instead of the rows of the same metrics and data."""
    rows = table.records()
    measured = {_quantity(row) for row in rows}
    others = [row for row in run.metrics.get("table", ()) if _quantity(row) not in measured]
    options = how.model_dump(include={"seed", "samples", "precision"}) | {"limit": limit}
    run.save_metrics({**run.metrics, "table": others + rows, "evaluation": options})


def _quantity(row: Row) -> tuple[str, str]:
    return row["data"], row["metric"]
