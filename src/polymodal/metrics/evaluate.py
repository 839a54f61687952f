"""`evaluate`: measures a run by metrics, for subsets and targets, and returns a table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from polymodal.checks import Count, FilePath, check_name, checked, shown
from polymodal.data.dataset import Dataset
from polymodal.data.splits import Splits, parts_of
from polymodal.metrics.classifier_networks import check_networks
from polymodal.metrics.classifier_training import ClassifierTraining
from polymodal.metrics.classifiers import Classifiers, classifier_folder
from polymodal.metrics.labels import has_labels
from polymodal.metrics.measurement import Measurement, MeasurementOptions
from polymodal.metrics.metric import METRICS, Metric, UnavailableError, Value, named_metrics
from polymodal.metrics.places import Given, Place, usual_subsets
from polymodal.metrics.results import Results, Row, fingerprint
from polymodal.metrics.run import Run
from polymodal.metrics.sharing import Processes, SharedRows, one_at_a_time
from polymodal.metrics.table import Table
from polymodal.model import MultimodalVAE
from polymodal.posteriors.pooling import powerset

Progress = Callable[[str], None]
MANY = 4  # modalities up to which all subsets are measured by default
EMPTY: Value = (math.nan, math.nan, 0)


@checked
def evaluate(
    run: Run,
    data: Splits | Dataset,
    metrics: str | Sequence[str] | None = None,
    subsets: str | Sequence[str | Sequence[str]] | None = None,
    limit: Count | None = None,
    classifiers: Classifiers | Mapping[str, str] | None = None,
    *,
    cache: FilePath | None = None,
    save: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> Table:
    """Measures a run on test data, for every subset of modalities given and every target; saves the
    table in the run. A figure that cannot be computed is a row without a value that says why.

    The latents z ~ q(z|x_S) are drawn once for each S and serve all metrics (the likelihoods draw
    their own K). Every number is a function of the run, the data and `seed`; weights of modalities
    are not used.

    Args:
        run: returned by `fit` or `load`.
        data: its test part is measured, its training part serves classifiers and linear probes; or
            a Dataset to measure on, with `classifiers` for the metrics that need labels.
        metrics: keys of `METRICS`; None: all that are measured by default and that the data allow.
        subsets: the subsets that are given: "all", or a list such as ["mnist+svhn", "mnist"]; None:
            all of up to four modalities, of more each single one, all but one, and all.
        limit: measure on the first so many samples.
        classifiers: for coherence; None: those of the data set, trained once and kept
            (`Classifiers.fit_or_load`); {modality: name}: the same with the networks of these names
            for some modalities, keys of `polymodal.metrics.classifier_networks.NETWORKS`.
        cache: the folder where they are kept; None: in the user's cache directory.
        save: into metrics.json, where other figures that were measured before stay. It is written
            in the course of the measurement, and the same call resumes one that was interrupted.
        progress: is called with a line for each step, with how many there are and the time left.
        options: samples, seed, batch, precision and memory, see
            `polymodal.metrics.measurement.MeasurementOptions`. The column `seed` is the run's.

    Raises:
        ValueError: for unknown metrics, subsets, modalities or options (with the nearest name),
            data that the model does not fit, or labels that a named metric needs and the data
            lacks.

    >>> # evaluate(run, load_data("shapes"), metrics=["coherence"], subsets=["square"]).print()
    """
    splits, part = parts_of(data)
    if not isinstance(run, Run):
        raise ValueError(f"The run must be what fit or load returned, got {shown(run)}.")
    names = [m.name for m in run.model.modalities]
    _check_modalities(part, names)
    networks, classifiers = _networks_or_classifiers(classifiers, part)
    classifiable = classifiers is not None or splits is not None
    chosen = chosen_metrics(metrics, part, classifiable)
    given, how = chosen_subsets(subsets, names), MeasurementOptions(**options)
    part = part.first(limit)
    device = next(run.model.parameters()).device
    processes = Processes.of_torchrun()
    needed = any(metric.labels for metric in chosen.values())
    if needed and classifiers is None and splits is not None:
        training = ClassifierTraining(device=device)
        with one_at_a_time(processes, classifier_folder(cache)):
            classifiers = Classifiers.fit_or_load(splits, training, cache, progress, networks)
    train = None if splits is None else splits.train
    common = _common(run, splits, how, fingerprint(run, part, train, classifiers) if save else "")
    shared = _shared(run, f"{common} {list(chosen)} {given}", processes) if save else None
    measurement = Measurement(
        run.model,
        part.to(device),
        None if train is None else train.to(device),
        None if classifiers is None else classifiers.to(device),
        how,
    )
    save = save and processes.is_first
    writing = run.writing() if save else nullcontext()
    with evaluating(run.model), writing, Results(run, common, list(chosen), save) as results:
        places = metrics_by_place(run.model, chosen, given)
        measure = partial(
            measured_rows, measurement, progress=progress, finished=results.finished()
        )
        for row in shared_rows(measure, places, shared):
            results.add(row)
    return results.table()


def _shared(run: Run, key: str, processes: Processes) -> SharedRows | None:
    """Where several processes share the evaluation of a run that has a directory; else None."""
    if run.directory is None or processes.count == 1:
        return None
    return SharedRows(run.directory, key, processes)


def shared_rows(
    measure: Callable[[Mapping[Place, list[str]]], Iterable[Row]],
    places: Mapping[Place, list[str]],
    shared: SharedRows | None,
) -> list[Row] | Iterable[Row]:
    """The rows of all places, in their order, of which other processes may measure some: all with
    the same modalities given, which share the latents, are measured by one.
    """
    if shared is None:
        return measure(places)
    by_given: dict[Given, dict[Place, list[str]]] = {}
    for place, names in places.items():
        by_given.setdefault(place[0], {})[place] = names

    def rows_of(part: Mapping[Place, list[str]]) -> list[Row]:
        return list(measure(part))

    work = {given: partial(rows_of, part) for given, part in by_given.items()}
    order = {("+".join(given), target): i for i, (given, target) in enumerate(places)}
    return sorted(shared.measured(work), key=lambda row: order[row["given"], row["target"]])


def _networks_or_classifiers(
    given: Classifiers | Mapping[str, str] | None, part: Dataset
) -> tuple[Mapping[str, str], Classifiers | None]:
    """The names of networks, or classifiers themselves. Raises ValueError for names that do not
    fit.
    """
    if given is None or isinstance(given, Classifiers):
        return {}, given
    check_networks(given, part.modalities)
    return given, None


def _common(
    run: Run, splits: Splits | None, how: MeasurementOptions, identity: str
) -> dict[str, Any]:
    """The entries of every row: the method, the data, the run's seed, and how it was measured."""
    options = how.model_dump() | {"sampler": run.model.sampler, "of": identity}
    return {
        "method": run.method_name,
        "data": "data" if splits is None else splits.name,
        "seed": run.seed,
        "evaluation": ", ".join(f"{name} {value}" for name, value in options.items()),
    }


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
        labels = classifiable and has_labels(data)
        return {k: m for k, m in METRICS.items() if m.default and (labels or not m.labels)}
    keys = named_metrics(names)
    for key in keys:
        if METRICS[key].labels and not classifiable:
            raise ValueError(
                f"{key} needs classifiers; give `classifiers`, or a data set with its training"
                " part."
            )
    return {key: METRICS[key] for key in keys}


def chosen_subsets(
    subsets: str | Sequence[str | Sequence[str]] | None, names: Sequence[str]
) -> list[Given]:
    """The subsets of `names`, each once and in the order of `names`; see `evaluate`.

    Raises ValueError for unknown modalities, an empty subset, or all subsets of too many.
    """
    if subsets is None:
        return powerset(names) if len(names) <= MANY else usual_subsets(names)
    if subsets == "all":
        return powerset(names)
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
    places: Mapping[Place, list[str]],
    progress: Progress | None = None,
    finished: Iterable[Row] = (),
) -> Iterator[Row]:
    """A row for each figure, place by place, so that the metrics of a place share what it needs.

    Args:
        places: the names of the metrics of each.
        finished: rows that are not computed again.
    """
    known = {(row["metric"], row["target"], row["given"]): row for row in finished}
    start, measured = time.monotonic(), 0
    for begun, (place, names) in enumerate(places.items()):
        given, target = place
        keys = {name: (name, target, "+".join(given)) for name in names}
        left = [name for name, key in keys.items() if key not in known]
        if left and progress:
            per_place = (time.monotonic() - start) / measured if measured else 0
            condition = f" given {', '.join(given)}" if given else ""
            count = f"{begun + 1} of {len(places)}{_time_left(per_place * (len(places) - begun))}"
            progress(f"Measuring {', '.join(left)} of {target}{condition} ({count}).")
        measured += bool(left)
        for name, key in keys.items():
            row = known.get(key) or _row(name, measurement, place)
            if row is not None:
                yield row


def _time_left(seconds: float) -> str:
    """The time in words; nothing for 0, which is not known yet."""
    if not seconds:
        return ""
    return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", {seconds:.0f} s left"


def _row(name: str, measurement: Measurement, place: Place) -> Row | None:
    """The row of a figure; without a value, but with the reason, where there is none. None: the
    model or the data has no such quantity.
    """
    (given, target), metric = place, METRICS[name]
    reason = ""
    try:
        value = metric.compute(measurement, *place)
        if value is not None and not math.isfinite(value[0]):
            reason = "The result is not a finite number."
    except UnavailableError as error:
        value, reason = EMPTY, str(error)
    if value is None:
        return None
    quantity = {"metric": name, "target": target, "given": "+".join(given)}
    figure = dict(zip(("value", "se", "n"), EMPTY if reason else value, strict=True))
    nature = {"direction": metric.direction, "unit": metric.unit, "reason": reason}
    return quantity | figure | nature


def metrics_by_place(
    model: MultimodalVAE, metrics: Mapping[str, Metric], subsets: Sequence[Given]
) -> dict[Place, list[str]]:
    """The names of the metrics of each place."""
    names = [m.name for m in model.modalities]
    not_generated = set(names) - set(model.decoders)  # by a CVAE: all but its target
    places: dict[Place, list[str]] = {}
    for name, metric in metrics.items():
        for place in metric.places(names, subsets):
            if not_generated.isdisjoint(place[1].split("+")):
                places.setdefault(place, []).append(name)
    return places
