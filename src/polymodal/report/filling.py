"""What a report shows of filling in: figures of every column, and pictures with intervals."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from polymodal.data import Splits
from polymodal.data.grid import Grid
from polymodal.imputation.conformal import Calibration
from polymodal.imputation.results import (
    TITLES,
    FillingTable,
    calibration_of,
    calibration_text,
)
from polymodal.report import filling_plots
from polymodal.report.missing import missing_picture
from polymodal.report.pictures import Group, Picture, drawn
from polymodal.runs.run import Run

FILLED = (
    "Observed test entries and whole modalities were hidden and filled in. RMSE is in standard"
    " deviations of the training part (error rate for categories), of the model, of ridge"
    " regression, of nearest neighbours, and of the column's own mean or most frequent category."
    " CRPS and widths are in the column's unit, log scores in nats. n %: the share of cells that"
    " the intervals at that level hold, after they were widened on the validation part; own 90 %:"
    " before. ECE: the calibration error of probabilities (own: before their temperature; by"
    " chance: that which is expected of as many probabilities that hold)."
)
AGAINST = (
    "Filled in against true, with 90 % intervals. Orange: the interval does not hold the truth."
)
PIT = (
    "Where the truth lies in what the model says of it (its own distribution, before widening)."
    " Bars in the green band: the distribution holds. A U: too narrow; a hump: too wide; a slope:"
    " to one side. In brackets the number of cells."
)
RELIABLE = (
    "How often the most probable category is right, over its probability; green: two standard"
    " errors around what is said."
)
MISSING = "What the data lack before anything was hidden; rows are samples, sorted by pattern."


def filling_rows(runs: Mapping[str, Run]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the figures of all runs; none if no run was measured."""
    tables = {label: table for label, run in runs.items() if (table := FillingTable.of(run))}
    if not tables:
        return [], []
    flat = {label: table.flat() for label, table in tables.items()}
    head = next(iter(flat.values()))[0]
    if len(tables) == 1:
        return head, next(iter(flat.values()))[1]
    rows = [[label, *row] for label, (own, each) in flat.items() if own == head for row in each]
    return ["method", *head], rows


def filling_texts(runs: Mapping[str, Run]) -> list[str]:
    """How to read the figures, and what was found of each run."""
    texts = [FILLED]
    for label, run in runs.items():
        table = FillingTable.of(run)
        if table is None:
            continue
        before = f"{label}: " if len(runs) > 1 else ""
        texts += [before + sentence for sentence in table.summary()]
        texts += [before + _said(calibration_of(run))] if calibration_of(run) else []
    return texts


def _said(calibration: Calibration | None) -> str:
    return "" if calibration is None else calibration_text(calibration)


def filling_pictures(runs: Mapping[str, Run], data: Splits) -> list[Group]:
    """Intervals, PIT histograms and probabilities of each run, and what the data lack."""
    groups = []
    for label, run in runs.items():
        table = FillingTable.of(run)
        if table is None:
            continue
        before = f"{label}: " if len(runs) > 1 else ""
        groups += _group(table.points, filling_plots.predicted_against_true, before, AGAINST)
        groups += _group(table.pit, filling_plots.pit_histograms, before, PIT)
        groups += _group(table.reliability, filling_plots.reliability, before, RELIABLE)
    if groups and not (grid := Grid.of(data)).present.all():
        groups.append(Group([_png(missing_picture(grid), "Missing values")], "Missing", MISSING))
    return groups


def _group(
    rows: Sequence[Mapping[str, Any]],
    draw: Callable[[Sequence[Mapping[str, Any]]], Figure],
    before: str,
    text: str,
) -> list[Group]:
    """A picture for each pattern and modality."""
    parts: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        parts.setdefault((row["pattern"], row["modality"]), []).append(row)
    pictures = []
    for (pattern, modality), each in parts.items():
        title = f"{before}{modality}, {TITLES[pattern]}"
        left = len(each) - filling_plots.MOST
        more = f" ({left} more columns are not shown)" if left > 0 else ""
        figure = draw(each[: filling_plots.MOST])
        pictures.append(drawn(figure, f"{text} {title}", title + more))
    return [Group(pictures, "", text)] if pictures else []


def _png(content: bytes, alt: str) -> Picture:
    """A PNG file at 90 % of its size."""
    width, height = struct.unpack(">II", content[16:24])
    data = base64.b64encode(content).decode()
    return Picture(data, alt, round(0.9 * width), round(0.9 * height))
