"""`evaluate_imputation`: hides test entries and whole modalities, and measures what is filled in;
`calibrate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from polymodal.batch import Modality
from polymodal.checks import Count, checked
from polymodal.data import Dataset, Splits
from polymodal.data.grid import values_of
from polymodal.imputation.baselines import Baselines, Marginal
from polymodal.imputation.columns import columns_of, measured
from polymodal.imputation.conformal import QUANTILES, Calibration, factors_of
from polymodal.imputation.hiding import SHARE, WHOLE, Hidden, hide_entries, hide_modality
from polymodal.imputation.measures import Measured, measure
from polymodal.imputation.prediction import predict
from polymodal.imputation.results import FILLING, FillingTable, keep_calibration
from polymodal.imputation.shrinkage import shrinkages_of
from polymodal.imputation.temperature import temperature_of
from polymodal.metrics.evaluate import evaluating
from polymodal.model import MultimodalVAE
from polymodal.runs.run import Run

ROWS = 500  # samples of a part that are measured
ENTRIES = 100_000  # of a part that are measured: fewer samples of many columns
VALUES = 20_000_000  # of a modality whose means are taken
TIMES = 4  # most times that a validation sample is taken
PROPOSALS = 500  # latents behind each; more change little, and take as much longer
Show = Callable[[FillingTable], None]


@checked
def evaluate_imputation(
    run: Run,
    data: Splits,
    *,
    share: float = SHARE,
    rows: Count = ROWS,
    proposals: Count = PROPOSALS,
    seed: int = 0,
    save: bool = True,
    show: Show | None = None,
    progress: Callable[[str], None] | None = None,
) -> FillingTable:
    """Hides entries and whole modalities of test samples, fills them in, and measures that beside
    the column's marginal, ridge regression and nearest neighbours, all of them fitted on the
    training part.

    The factors by which intervals are stretched, the temperatures of probabilities, and how far
    numbers are moved towards their column's mean are fitted on the validation part in the same way,
    and saved in the run, for `Calibration`.

    Args:
        run: returned by `fit` or `load`.
        data: the data of the run.
        share: of the observed entries that are hidden, completely at random.
        rows: the first so many samples of a part are used; fewer if they have more than 100,000
            entries.
        proposals: latents behind each sample.
        seed: of what is hidden, and of the latents.
        save: into metrics.json, as the entries `imputation` and `calibration`.
        show: is called with the figures of each pattern, as soon as they are there.
        progress: is called with a line for each step.

    Raises ValueError if no modality of the run `has_intervals`.
    """
    modalities = measured(run.modalities)
    if not modalities:
        raise ValueError(
            "This run has no tables, and no vectors with holes or a learned scale, whose entries"
            " could be measured."
        )
    say = progress or (lambda line: None)
    table = FillingTable([], [], [], [], run.method_name)
    calibration = Calibration(())
    with evaluating(run.model):
        for part, own in _patterns(run.model, modalities, data, share, rows, proposals, seed, say):
            calibration = calibration.joined(own)
            table = table.with_part(part)
            if show:
                show(FillingTable(part.rows, part.pit, part.points, part.reliability, table.method))
    if save:
        how = {"share": share, "rows": rows, "proposals": proposals, "seed": seed}
        with run.writing():
            entry: dict[str, Any] = {FILLING: table.record() | {"evaluation": how}}
            run.save_metrics(run.metrics | entry)
            keep_calibration(run, calibration)
    return table


def _patterns(
    model: MultimodalVAE,
    modalities: Sequence[Modality],
    data: Splits,
    share: float,
    rows: int,
    proposals: int,
    seed: int,
    say: Callable[[str], None],
) -> Iterator[tuple[Measured, Calibration]]:
    """The figures and the calibration of each pattern."""
    named = {m.name: m for m in modalities}
    marginals = {m.name: _marginals(data.train, m) for m in modalities}
    means = {m.name: _means(data.train, m) for m in modalities}
    say("fitting ridge regression and nearest neighbours")
    baselines = Baselines.fit(data.train)
    most = _most(rows, modalities)
    if most < min(rows, len(data.test)):
        say(f"measuring {most} samples, since they have {_columns(modalities):,} columns")
    tests = _hidden(data.test.first(most), modalities, share, seed)
    checks = _checks(data.val, modalities, share, most, seed)
    for test, check in zip(tests, checks, strict=True):
        if test is None:
            continue
        say(f"filling in {_words(test)}")
        own = Calibration(())
        if check is not None:
            own = _fitted(model, named, check, means, proposals, seed)
        said = predict(model, test, QUANTILES, proposals=proposals, seed=seed)
        whole = test.targets[0] if test.pattern == WHOLE else None
        others = baselines.predict(test.data, whole)
        yield measure(named, test, said, others, marginals, own), own


def _columns(modalities: Sequence[Modality]) -> int:
    return sum(len(columns_of(m)) for m in modalities)


def _most(rows: int, modalities: Sequence[Modality]) -> int:
    """How many samples are measured."""
    return max(1, min(rows, ENTRIES // _columns(modalities)))


def _words(hidden: Hidden) -> str:
    names = " and ".join(hidden.targets)
    return f"hidden entries of {names}" if hidden.pattern == "entries" else f"{names} as a whole"


def _hidden(
    data: Dataset, modalities: Sequence[Modality], share: float, seed: int, times: int = 1
) -> Iterator[Hidden | None]:
    """Every pattern: entries of all the modalities (of each sample so many `times`), and each of
    them as a whole.
    """
    yield hide_entries(data, [m.name for m in modalities], share, seed, times)
    for m in modalities:
        yield hide_modality(data, m.name)


def _checks(
    val: Dataset, modalities: Sequence[Modality], share: float, most: int, seed: int
) -> Iterator[Hidden | None]:
    """Every pattern of at most `most` validation samples; few of them are taken several times, each
    time with other entries hidden.
    """
    times = max(1, min(TIMES, most // max(1, len(val))))
    return _hidden(val.first(most), modalities, share, seed + 1, times)


def _marginals(train: Dataset, modality: Modality) -> list[Marginal]:
    x = values_of(train, modality).double()
    return [
        Marginal(column, x[:, i][~x[:, i].isnan()].sort().values)
        for i, column in enumerate(columns_of(modality))
    ]


def _means(train: Dataset, modality: Modality) -> list[float]:
    """The mean of each column in training, of at most `VALUES` values, evenly spaced; 0 of a column
    without one.
    """
    most = max(1, VALUES // len(columns_of(modality)))
    if len(train) > most:
        train = train.take(torch.linspace(0, len(train) - 1, most).long())
    return values_of(train, modality).double().nanmean(0).nan_to_num().tolist()


def _fitted(
    model: MultimodalVAE,
    modalities: dict[str, Modality],
    hidden: Hidden,
    means: Mapping[str, Sequence[float]],
    proposals: int,
    seed: int,
) -> Calibration:
    """The calibration of one pattern.

    Args:
        means: {modality: of its columns in training}; of a modality that is not there no number is
            moved, nor of one whose missing entries have another mean than observed ones.
    """
    said = predict(model, hidden, QUANTILES, proposals=proposals, seed=seed)
    factors, temperatures, shrinkages = [], [], []
    for m in hidden.targets:
        given = (hidden.pattern, modalities[m], hidden.truth[m], hidden.mask[m])
        factors += factors_of(*given, said[m].filled.quantiles)
        if (found := temperature_of(*given, said[m].filled, hidden.times)) is not None:
            temperatures.append(found)
        if m in means and m not in model.mechanisms:
            shrinkages += shrinkages_of(*given, said[m].filled, means[m], hidden.times)
    return Calibration(tuple(factors), tuple(temperatures), tuple(shrinkages))


@checked
def calibrate(
    run: Run | MultimodalVAE,
    data: Splits | Dataset,
    *,
    share: float = SHARE,
    rows: Count = ROWS,
    proposals: Count = PROPOSALS,
    seed: int = 0,
) -> Calibration:
    """The factors by which the intervals of a run are stretched, and the temperatures of its
    probabilities, so that they hold on data that were not used in training; and how far its numbers
    are moved towards the means of the training part.

    Args:
        data: Splits, whose validation part is used, or that part, with which no number is moved.
        share, rows, proposals, seed: see `evaluate_imputation`.
    """
    model = run if isinstance(run, MultimodalVAE) else run.model
    part = data.val if isinstance(data, Splits) else data
    modalities = measured(model.modalities)
    named = {m.name: m for m in modalities}
    means = {}
    if isinstance(data, Splits):
        means = {m.name: _means(data.train, m) for m in modalities}
    calibration = Calibration(())
    with evaluating(model):
        for hidden in _checks(part, modalities, share, _most(rows, modalities), seed):
            if hidden is not None:
                fitted = _fitted(model, named, hidden, means, proposals, seed)
                calibration = calibration.joined(fitted)
    return calibration
