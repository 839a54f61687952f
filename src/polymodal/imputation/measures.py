"""Figures of every column whose entries were hidden: a row for each column and each predictor."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import CODED, Column, Modality
from polymodal.imputation.baselines import MARGINAL, Marginal
from polymodal.imputation.columns import columns_of
from polymodal.imputation.conformal import LEVELS, QUANTILES, Calibration, places_of
from polymodal.imputation.hiding import Hidden, Pattern
from polymodal.imputation.intervals import stretched
from polymodal.imputation.prediction import Predicted
from polymodal.imputation.temperature import tempered
from polymodal.metrics.scoring import (
    binned_error,
    calibration_error,
    chance_error,
    confidences,
    coverage,
    crps,
    histogram,
    rmse,
)

MODEL = "model"
ALL = ""  # the column of a row on all columns
PICTURED = 60  # columns of a modality of which pictures are kept
POINTS = 150  # entries of a column that are kept for pictures
SHOWN = 0.9  # the level of the intervals in pictures
Row = dict[str, Any]


def percent(level: float) -> str:
    """A level in names of figures.

    >>> percent(0.95)
    '95'
    """
    return f"{100 * level:.0f}"


@dataclass(frozen=True)
class Entries:
    """The hidden entries of one column.

    Args:
        pattern: "entries" or "whole".
        modality: its name.
        column: which.
        truth: (n,), float64, in the user's units.
        rows: (n,), the samples in which they are.
        spread: the standard deviation of the column in training.
    """

    pattern: Pattern
    modality: str
    column: Column
    truth: Tensor
    rows: Tensor
    spread: float

    def row(self, by: str, figures: Mapping[str, float]) -> Row:
        """A row of these figures."""
        common = {
            "pattern": self.pattern,
            "modality": self.modality,
            "column": self.column.name,
            "type": self.column.type,
            "by": by,
            "n": len(self.truth),
        }
        return common | dict(figures)

    def point_figures(self, center: Tensor) -> dict[str, float]:
        """The figures of single values (n,)."""
        if self.column.type in CODED:
            return {"error_rate": (center != self.truth).double().mean().item()}
        error = rmse(center, self.truth)
        return {"rmse": error, "rmse_standardised": error / self.spread}

    def interval_figures(self, bounds: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Coverage and mean width of intervals, one for each of LEVELS."""
        figures = {}
        for level, (lower, upper) in zip(LEVELS, bounds, strict=True):
            figures[f"coverage_{percent(level)}"] = coverage(lower, upper, self.truth)
            figures[f"width_{percent(level)}"] = (upper - lower).double().mean().item()
        return figures


@dataclass(frozen=True)
class Measured:
    """The figures of one pattern.

    Args:
        rows: for each column and predictor.
        pit: of each numeric column, its histogram of the model's P(X <= truth).
        points: of each numeric column, some entries: truth, center, lower and upper bound.
        reliability: of the model's categories: probability, tempered and the model's own, and
            whether it is right.
    """

    rows: list[Row]
    pit: list[Row]
    points: list[Row]
    reliability: list[Row]


def measure(
    modalities: Mapping[str, Modality],
    hidden: Hidden,
    predicted: Mapping[str, Predicted],
    others: Mapping[str, Mapping[str, Tensor]],
    marginals: Mapping[str, Sequence[Marginal]],
    calibration: Calibration,
) -> Measured:
    """The figures of one pattern, of columns of which an entry was hidden.

    Args:
        predicted: {modality: what the model says}.
        others: {baseline: {modality: (N, d)}}.
        marginals: {modality: the marginal of each column}.
    """
    result, inside = Measured([], [], [], []), _Inside()
    for m in hidden.targets:
        given = predicted[m].moved(calibration, modalities[m], hidden.pattern)
        for i, entries in _columns(modalities[m], hidden, marginals[m]):
            said = _of_column(given, i, entries, calibration)
            bounds, own = _bounds(said, entries, calibration)
            figures = _model_figures(said, entries, bounds, own)
            result.rows.append(entries.row(MODEL, figures))
            result.rows.append(entries.row(MARGINAL, _marginal_figures(marginals[m][i], entries)))
            for name, values in others.items():
                center = values[m][entries.rows, i]
                result.rows.append(entries.row(name, entries.point_figures(center)))
            inside.add(entries, bounds)
            if i < PICTURED or said.probabilities is not None:
                _keep(result, said, entries, bounds)
    result.rows[:0] = _overall(result, hidden, inside)
    return result


def _columns(
    modality: Modality, hidden: Hidden, marginals: Sequence[Marginal]
) -> Iterator[tuple[int, Entries]]:
    """The columns of which an entry was hidden, with their places."""
    for i, column in enumerate(columns_of(modality)):
        rows = hidden.mask[modality.name][:, i].nonzero().squeeze(1)
        if len(rows):
            truth = hidden.truth[modality.name][rows, i].double()
            spread = marginals[i].spread
            yield i, Entries(hidden.pattern, modality.name, column, truth, rows, spread)


@dataclass(frozen=True)
class _Said:
    """What the model says of the hidden entries of one column; as `Predicted`, (..., n).

    Args:
        probabilities: (n, K), tempered by the calibration.
        own: (n, K), the model's own.
    """

    center: Tensor
    quantiles: Tensor
    probabilities: Tensor | None
    own: Tensor | None
    log_score: Tensor
    crps: Tensor
    pit: Tensor


def _of_column(predicted: Predicted, i: int, entries: Entries, calibration: Calibration) -> _Said:
    filled, rows = predicted.filled, entries.rows
    own = filled.probabilities[i][rows] if i in filled.probabilities else None
    share, log_score = own, predicted.log_score[rows, i]
    if own is not None:
        share = tempered(own, calibration.temperature(entries.pattern, entries.modality))
        log_score = share.gather(1, entries.truth.long()[:, None]).squeeze(1).log()
    return _Said(
        filled.center[rows, i].double(),
        filled.quantiles[:, rows, i].double(),
        share,
        own,
        log_score,
        predicted.crps[rows, i],
        predicted.pit[rows, i],
    )


Bounds = list[tuple[Tensor, Tensor]]


def _bounds(said: _Said, entries: Entries, calibration: Calibration) -> tuple[Bounds, Bounds]:
    """The stretched intervals at each of LEVELS, and the model's own."""
    if said.probabilities is not None:
        return [], []
    own = [said.quantiles[places_of(k)] for k in range(len(LEVELS))]
    factor = calibration.factor(entries.pattern, entries.modality, entries.column.name)
    before = [(q[0], q[2]) for q in own]
    if factor is None:
        return before, before
    after = [
        stretched(q, entries.column, *factor.at(level))
        for q, level in zip(own, LEVELS, strict=True)
    ]
    return [(lower, upper) for lower, upper in after], before


def _model_figures(said: _Said, entries: Entries, bounds: Bounds, own: Bounds) -> dict[str, float]:
    figures = entries.point_figures(said.center)
    figures["log_score"] = said.log_score.double().mean().item()
    if said.probabilities is not None and said.own is not None:
        confidence, right = confidences(said.probabilities, entries.truth)
        before = binned_error(*confidences(said.own, entries.truth))
        return figures | _errors(confidence, right) | {"own_calibration_error": before}
    figures["crps"] = said.crps.double().mean().item()
    plain = entries.interval_figures(own)
    unstretched = {f"own_{name}": value for name, value in plain.items()}
    return figures | entries.interval_figures(bounds) | unstretched


def _errors(confidence: Tensor, right: Tensor) -> dict[str, float]:
    """The calibration error, and that which is expected by chance."""
    return {
        "calibration_error": binned_error(confidence, right),
        "calibration_error_by_chance": chance_error(confidence),
    }


def _marginal_figures(marginal: Marginal, entries: Entries) -> dict[str, float]:
    center = torch.full_like(entries.truth, marginal.center)
    figures = entries.point_figures(center)
    if not len(marginal.values):
        return figures
    figures["log_score"] = marginal.log_score(entries.truth).mean().item()
    if entries.column.type in CODED:
        shares = marginal.probabilities().expand(len(entries.truth), -1)
        error = calibration_error(shares, entries.truth.long())
        return figures | {"calibration_error": error}
    grid = marginal.quantiles((torch.arange(200.0) + 0.5).div(200).tolist())[:, None]
    weight = torch.full_like(grid, 1 / len(grid))
    figures["crps"] = crps(grid.expand(-1, len(center)), weight, entries.truth).mean().item()
    quantiles = marginal.quantiles(QUANTILES)[:, None].expand(-1, len(center))
    bounds = [quantiles[places_of(k)] for k in range(len(LEVELS))]
    return figures | entries.interval_figures([(q[0], q[2]) for q in bounds])


def _keep(result: Measured, said: _Said, entries: Entries, bounds: Bounds) -> None:
    """What pictures need."""
    place = {
        "pattern": entries.pattern,
        "modality": entries.modality,
        "column": entries.column.name,
        "type": entries.column.type,
    }
    if said.probabilities is not None and said.own is not None:
        confidence, right = confidences(said.probabilities, entries.truth)
        own, _ = confidences(said.own, entries.truth)
        chosen = {"probability": confidence, "right": right, "own_probability": own}
        result.reliability.append(place | {name: x.tolist() for name, x in chosen.items()})
        return
    result.pit.append(place | {"counts": histogram(said.pit)})
    some = torch.linspace(0, len(entries.truth) - 1, min(POINTS, len(entries.truth))).long()
    lower, upper = bounds[LEVELS.index(SHOWN)]
    values = {"truth": entries.truth, "center": said.center, "lower": lower, "upper": upper}
    rounded = {name: _rounded(x[some]) for name, x in values.items()}
    result.points.append(place | rounded)


def _rounded(x: Tensor) -> list[float]:
    """Numbers with six significant digits."""
    return [float(f"{v:.6g}") for v in x.tolist()]


class _Inside:
    """Which entries of all columns lie in their intervals, and in which samples they are."""

    def __init__(self) -> None:
        self.inside: list[list[Tensor]] = [[] for _ in LEVELS]
        self.rows: list[Tensor] = []

    def add(self, entries: Entries, bounds: Bounds) -> None:
        for k, (lower, upper) in enumerate(bounds):
            hits = (lower <= entries.truth) & (entries.truth <= upper)
            self.inside[k].append(hits.double())
        if bounds:
            self.rows.append(entries.rows)

    def figures(self) -> dict[str, float]:
        """Shares over all entries, with standard errors clustered by sample."""
        found = {}
        for level, hits in zip(LEVELS, self.inside, strict=True):
            if hits:
                share, error = clustered(torch.cat(hits), torch.cat(self.rows))
                found[f"coverage_{percent(level)}"] = share
                found[f"coverage_{percent(level)}_se"] = error
        return found


def clustered(values: Tensor, rows: Tensor) -> tuple[float, float]:
    """The mean of values (n,) and its standard error, values of one sample in `rows` (n,) being
    dependent.

    >>> clustered(torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0, 0, 1, 1]))[0]
    0.5
    """
    mean = values.double().mean()
    sums = torch.zeros(int(rows.max()) + 1, dtype=torch.float64)
    sums.index_add_(0, rows, values.double() - mean)
    return mean.item(), math.sqrt(sums.square().sum().item()) / len(values)


def _overall(result: Measured, hidden: Hidden, inside: _Inside) -> list[Row]:
    """A row for each predictor: means over the columns; of the model also the coverage and the
    calibration error of all entries together.
    """
    rows = []
    for by in dict.fromkeys(row["by"] for row in result.rows):
        own = [row for row in result.rows if row["by"] == by]
        figures: Row = {"pattern": hidden.pattern, "modality": "+".join(hidden.targets)}
        figures |= {"column": ALL, "type": "", "by": by}
        figures["n"] = sum(row["n"] for row in own)
        for name in ("rmse_standardised", "error_rate"):
            if values := [row[name] for row in own if name in row]:
                figures[name] = math.fsum(values) / len(values)
        if values := [row["n"] * row["log_score"] for row in own if "log_score" in row]:
            figures["log_score"] = math.fsum(values) / figures["n"]
        if by == MODEL:
            figures |= inside.figures() | _reliability(result.reliability)
        rows.append(figures)
    return rows


def _reliability(kept: Sequence[Row]) -> dict[str, float]:
    """The calibration error of the categories of all columns."""
    if not kept:
        return {}
    confidence, right, own = (
        torch.tensor([value for each in kept for value in each[name]])
        for name in ("probability", "right", "own_probability")
    )
    return _errors(confidence, right) | {"own_calibration_error": binned_error(own, right)}
