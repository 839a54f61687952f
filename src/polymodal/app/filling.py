"""Rows with their holes filled, with intervals and probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polymodal.app.answer import Cell, Row, effective_text
from polymodal.app.inputs import Input
from polymodal.app.shown import word_of
from polymodal.batch import CODED, Batch, Column
from polymodal.imputation import Calibration, Filled, fill, quantiles_of, widened
from polymodal.imputation.columns import columns_of, has_intervals
from polymodal.imputation.conformal import held
from polymodal.model import MultimodalVAE

LEVEL = 0.9  # of the intervals
UNCALIBRATED = (
    "They are the model's own, as are probabilities, and may not hold; polymodal evaluate RUN makes"
    " them hold."
)


def filled_row(
    model: MultimodalVAE,
    batch: Batch | None,
    asked: Input,
    draws: Tensor,
    calibration: Calibration | None,
) -> Row:
    """The row of a modality with its holes filled.

    Args:
        batch: what was given; None: nothing.
        draws: of this modality, (n, 1, *shape).
        calibration: by which intervals and probabilities hold; None: the model's own.
    """
    m = asked.modality
    given = _given(batch, asked)
    if asked.is_choice:
        return _of_classes(draws, asked)
    if not has_intervals(m):
        return _of_draws(draws, given, asked)
    known = _known(model, batch, asked)
    whole = given.isnan().all(1)
    known = known if calibration is None else calibration.moved(known, m, whole)
    low, high = widened(known, calibration, LEVEL, m, whole)
    shares = held(known, calibration, m, whole)
    cells = []
    for k, column in enumerate(columns_of(m)):
        value, center = float(given[0, k]), float(known.center[0, k])
        if not math.isnan(value):
            cells.append(Cell(column.name, word_of(value, column), is_given=True))
        elif k in shares:
            probability = float(shares[k][0, int(center)])
            cells.append(Cell(column.name, word_of(center, column), probability=probability))
        else:
            below, above = (word_of(float(bound[0, k]), column) for bound in (low, high))
            cells.append(Cell(column.name, word_of(center, column), below, above))
    holds = "" if calibration is not None else f" {UNCALIBRATED}"
    ess = effective_text(float(known.ess[0]))
    return Row(cells, f"Intervals hold the value with {LEVEL:.0%} probability.{holds} {ess}")


def _given(batch: Batch | None, asked: Input) -> Tensor:
    """The row that was given, (1, d), NaN in its holes."""
    m = asked.modality
    if batch is None or m.name not in batch.x:
        return torch.full((1, *m.shape), math.nan)
    x = batch.x[m.name]
    return torch.where(batch.mask([m.name])[:, None], x, math.nan)


def _known(model: MultimodalVAE, batch: Batch | None, asked: Input) -> Filled:
    m = asked.modality
    nothing = Batch({m.name: torch.full((1, *m.shape), math.nan)})
    levels = quantiles_of(LEVEL)
    return fill(model, nothing if batch is None else batch, [m.name], levels=levels)[m.name]


def _of_classes(draws: Tensor, asked: Input) -> Row:
    """The probability of each class, over the draws."""
    shares = draws.mean((0, 1)).tolist()
    named = zip(asked.classes, shares, strict=True)
    cells = [Cell(name, f"{p:.2f}", probability=p) for name, p in named]
    return Row(cells, f"Probability of each class, the mean of {len(draws)} draws.")


def _of_draws(draws: Tensor, given: Tensor, asked: Input) -> Row:
    """The mean of the draws and their range; of zeros and ones the probability."""
    cells = [
        _drawn_cell(column, draws[:, 0, k], float(given[0, k]))
        for k, column in enumerate(columns_of(asked.modality))
    ]
    return Row(cells, f"Means of {len(draws)} draws, and the range of these.")


def _drawn_cell(column: Column, x: Tensor, given: float) -> Cell:
    if not math.isnan(given):
        return Cell(column.name, word_of(given, column), is_given=True)
    mean = float(x.mean())
    if column.type in CODED:
        place = round(mean)
        share = mean if place else 1 - mean
        return Cell(column.name, word_of(place, column), probability=share)
    low, high = (word_of(float(bound), column) for bound in (x.min(), x.max()))
    return Cell(column.name, word_of(mean, column), low, high)
