"""method x subsets x metrics -> a table: `evaluate` measures a run, `combine` averages over seeds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from polymodal.checks import meant
from polymodal.data.dataset import Dataset, Splits
from polymodal.metrics import METRICS, Metric, every_subset
from polymodal.metrics.classifiers import Classifiers, attributes_of
from polymodal.metrics.measurement import Given, Measurement
from polymodal.metrics.table import COLUMNS, Table
from polymodal.model import MultimodalVAE

if TYPE_CHECKING:
    from polymodal.runs.run import Run


def evaluate(
    run: Run,
    data: Splits | Dataset,
    metrics: Sequence[str] | None = None,
    subsets: Any = "all",
    limit: int | None = None,
    samples: int = 1000,
    seed: int = 0,
    classifiers: Classifiers | None = None,
    cache: str | os.PathLike[str] | None = None,
    *,
    batch: int = 256,
    precision: str | None = None,
    save: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Table:
    """Measures a run on test data, for every subset of modalities given and every target; saves the
    table in it.

    The latents z ~ q(z|x_S) are drawn once for each S and serve all metrics (the likelihoods draw
    their own K). Every number is a function of the run, the data and `seed`; weights of modalities
    are off.

    Args:
        run: what `fit` or `load` returned.
        data: its test part is used, its training part for classifiers and linear probes; or a
            Dataset to measure on, then with `classifiers`, or without the metrics that need them.
        metrics: keys of `METRICS`; None: all that apply but FID.
        subsets: which modalities are given: "all" subsets, or a list of such as "mnist+svhn" or
            ["mnist", "svhn"].
        limit: measure on the first so many samples.
        samples: K of the likelihoods.
        seed: of the evaluation's draws; the column `seed` is the run's.
        classifiers: for coherence; None: those of the data set, trained once and kept
            (`Classifiers.fit_or_load`).
        cache: where they are kept; default the user's cache directory.
        batch: samples encoded at once.
        precision: "bf16" runs decoders and classifiers in bfloat16.
        save: into metrics.json, where figures measured before and not now stay.
        progress: told in a line what is being measured.

    Raises:
        ValueError: for unknown metrics, subsets or modalities (with the nearest name), data that
            the model does not fit, or labels that a named metric needs and the data lacks.

    >>> # evaluate(run, load_data("shapes"), metrics=["coherence"], subsets=["square"]).print()
    """
    splits, part = (data, data.test) if isinstance(data, Splits) else (None, data)
    names = [m.name for m in run.model.modalities]
    if set(part.names) != set(names):
        raise ValueError(
            f"The model's modalities are {names}, the data's {part.names}; give the data it was"
            " trained on."
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
            run.model,
            part.to(device),
            None if splits is None else splits.train.to(device),
            None if classifiers is None else classifiers.to(device),
            samples=samples,
            seed=seed,
            batch=batch,
            precision=precision,
        )
        base = {
            "method": _name(run),
            "data": "data" if splits is None else splits.name,
            "seed": run.seed,
        }
        table = Table.from_records(
            [base | row for row in _rows(measurement, chosen, names, given, progress)]
        )
    table = replace(table, frame=table.frame[[c for c in COLUMNS if c in table.frame]])
    if save:
        _save(
            run, table, {"seed": seed, "samples": samples, "limit": limit, "precision": precision}
        )
    return table


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
            raise ValueError(
                f"{key} needs classifiers; give `classifiers`, or a data set with its training"
                " part."
            )
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
                raise ValueError(
                    f"The model does not know {m!r}, of the subset {subset!r}; {meant(m, names)}"
                )
        ordered = tuple(m for m in names if m in members)
        if not ordered:
            raise ValueError(
                "A subset must name at least one modality, such as 'mnist' or 'mnist+svhn'."
            )
        found += [ordered] if ordered not in found else []
    return found


def _rows(
    measurement: Measurement,
    metrics: Mapping[str, Metric],
    names: Sequence[str],
    subsets: Sequence[Given],
    progress: Callable[[str], None] | None,
) -> list[dict[str, Any]]:
    """In the order of the metrics; computed place by place, so that what a place's metrics share is
    there for all.
    """
    places: dict[tuple[Given, str], list[str]] = {}
    unknown = set(names) - set(measurement.model.decoders)  # a CVAE generates one modality alone
    for name, metric in metrics.items():
        for place in metric.places(names, subsets):
            if place[1] not in unknown:
                places.setdefault(place, []).append(name)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in metrics}
    for (given, target), here in places.items():
        if progress:
            progress(
                f"Measuring {', '.join(here)} of {target}"
                + (f" given {', '.join(given)}." if given else ".")
            )
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
    old = [
        row for row in run.metrics.get("table", ()) if (row["data"], row["metric"]) not in measured
    ]
    run.save_metrics({**run.metrics, "table": old + new, "evaluation": dict(how)})
