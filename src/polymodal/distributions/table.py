"""Rows of a table whose columns have distributions of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, StudentT

from polymodal.batch import CODED, LOGARITHMIC, Column
from polymodal.distributions.counts import NegativeBinomialCounts

LOG_SCALES = (-5.0, 2.0)  # of reals, in units of the column's spread
LOG_DISPERSIONS = (-5.0, 8.0)  # inverse ones, of counts
DEGREES = 5.0  # of freedom, where none are given
SMALLEST, LARGEST = 1e-30, 1e30  # of positive values
BEYOND = 2.0  # times the largest value of training: the largest draw of positive values and counts


@dataclass(frozen=True)
class Layout:
    """Which of a decoder's numbers belong to which column.

    Args:
        columns: of the table.
        numbers: places of the columns that have a location and a scale: real, positive, bounded.
        counts: places of columns of counts.
        coded: {place of a coded column: its numbers, one for each category}.
        size: how many numbers a row has.
        tops: of each column, the largest draw.
    """

    columns: tuple[Column, ...]
    numbers: tuple[int, ...]
    counts: tuple[int, ...]
    coded: Mapping[int, slice]
    size: int
    tops: tuple[float, ...]


@cache
def layout_of(columns: tuple[Column, ...]) -> Layout:
    """The layout: two numbers for each column of numbers, then two for each of counts, then one for
    each category.

    >>> columns = (Column("a"), Column("b", "category", ("x", "y", "z")), Column("c", "count"))
    >>> layout = layout_of(columns)
    >>> layout.numbers, layout.counts, layout.coded, layout.size
    ((0,), (2,), {1: slice(4, 7, None)}, 7)
    """
    numbers = [i for i, c in enumerate(columns) if c.type in ("real", "positive", "bounded")]
    counts = [i for i, c in enumerate(columns) if c.type == "count"]
    size, coded = 2 * (len(numbers) + len(counts)), {}
    for i, column in enumerate(columns):
        if column.type in CODED:
            coded[i] = slice(size, size + len(column.categories))
            size += len(column.categories)
    tops = tuple(map(_top, columns))
    return Layout(columns, tuple(numbers), tuple(counts), coded, size, tops)


def _top(column: Column) -> float:
    """The largest draw of a column."""
    if column.largest is None or column.type not in LOGARITHMIC:
        return column.high if column.type == "bounded" else LARGEST
    return BEYOND * max(column.largest, SMALLEST if column.type == "positive" else 1.0)


def admits_cells(columns: Sequence[Column], x: Tensor) -> Tensor:
    """Which cells (N, d) their columns can hold; a hole can stand anywhere."""
    return torch.stack([admits(c, x[:, i]) for i, c in enumerate(columns)], -1) | x.isnan()


def admits(column: Column, x: Any) -> Any:
    """Which values (N,), an array or a tensor, a column can have: bool of the same kind."""
    if column.type == "positive":
        return x > 0
    if column.type == "bounded":
        return (x >= column.low) & (x <= column.high)
    if column.type == "count":
        return (x >= 0) & (x == x.round())
    if column.type in CODED:
        return (x >= 0) & (x == x.round()) & (x < len(column.categories))
    return abs(x) < math.inf


class TableValues(Distribution):
    """Independent columns, given z: Student's t for real and bounded numbers and for logarithms of
    positive ones, negative binomial for counts, categorical for coded ones.

    Values are in the user's units. A draw of a bounded number is moved to the nearest bound, and
    one of a positive number or a count to at most `BEYOND` times the largest value of training.

    Args:
        raw: (..., B, layout.size), a decoder's output.
        layout: of the columns.
        location, spread: (d,) or one for all, the units in which raw counts.
        degrees: of freedom of Student's t, (d,); None: 5.
    """

    arg_constraints: dict = {}

    def __init__(
        self,
        raw: Tensor,
        layout: Layout,
        location: Tensor,
        spread: Tensor,
        degrees: Tensor | float | None = None,
    ) -> None:
        self.raw, self.layout = raw, layout
        d = len(layout.columns)
        self.location, self.spread = location.expand(d), spread.expand(d)
        given = DEGREES if degrees is None else degrees
        self.degrees = torch.as_tensor(given, dtype=raw.dtype, device=raw.device).expand(d)
        super().__init__(raw.shape[:-1], torch.Size([d]), validate_args=False)

    def _numbers(self) -> StudentT:
        """The distributions of numbers, positive ones as logarithms, (..., B, numbers)."""
        index, n = list(self.layout.numbers), len(self.layout.numbers)
        loc, log_scale = self.raw[..., :n], self.raw[..., n : 2 * n].clamp(*LOG_SCALES)
        spread = self.spread[index]
        loc = self.location[index] + spread * loc
        return StudentT(self.degrees[index], loc, spread * log_scale.exp(), validate_args=False)

    def _counts(self) -> NegativeBinomialCounts:
        """The distributions of counts, (..., B, counts), their means at most the largest draw.

        The gradient passes that bound, so that a mean beyond it can return.
        """
        index, n = list(self.layout.counts), len(self.layout.counts)
        start = 2 * len(self.layout.numbers)
        mean = self.location[index] + self.spread[index] * self.raw[..., start : start + n]
        tops = [min(20.0, math.log(self.layout.tops[i])) for i in index]
        bounded = mean.clamp_min(-20).minimum(mean.new_tensor(tops))
        dispersion = self.raw[..., start + n : start + 2 * n].clamp(*LOG_DISPERSIONS)
        return NegativeBinomialCounts(mean + (bounded - mean).detach(), dispersion, 1)

    def probabilities(self) -> dict[int, Tensor]:
        """{place of a coded column: the probability of each category, (..., B, K)}."""
        return {i: self.raw[..., part].softmax(-1) for i, part in self.layout.coded.items()}

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each cell, (..., B, d), nats; of x without holes."""
        logs: list[Any] = [None] * len(self.layout.columns)
        if self.layout.numbers:
            self._number_logs(x, logs)
        if self.layout.counts:
            index = list(self.layout.counts)
            counts = self._counts().entry_log_prob(x[..., index]).to(self.raw.dtype)
            for k, i in enumerate(index):
                logs[i] = counts[..., k]
        for i, part in self.layout.coded.items():
            choice = Categorical(logits=self.raw[..., part], validate_args=False)
            logs[i] = choice.log_prob(x[..., i].clamp(0, part.stop - part.start - 1))
        return torch.stack(torch.broadcast_tensors(*logs), -1)

    def _number_logs(self, x: Tensor, logs: list[Any]) -> None:
        index = list(self.layout.numbers)
        is_log = self._is_positive(index)
        values = x[..., index]
        logarithm = values.clamp_min(SMALLEST).log()
        log = self._numbers().log_prob(torch.where(is_log, logarithm, values))
        log = log - torch.where(is_log, logarithm, 0)
        for k, i in enumerate(index):
            logs[i] = log[..., k]

    def _is_positive(self, index: Sequence[int]) -> Tensor:
        kinds = [self.layout.columns[i].type == "positive" for i in index]
        return torch.tensor(kinds, device=self.raw.device)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.entry_log_prob(x).sum(-1)

    def _in_units(self, numbers: Tensor, counts: Tensor, coded: Mapping[int, Tensor]) -> Tensor:
        """The cells (..., d) of numbers (positive ones as logarithms), counts and places."""
        cells: list[Any] = [None] * len(self.layout.columns)
        for k, i in enumerate(self.layout.numbers):
            column, value = self.layout.columns[i], numbers[..., k]
            if column.type == "positive":
                top = math.log(self.layout.tops[i])
                value = value.clamp(min(top, math.log(SMALLEST)), top).exp()
            if column.type == "bounded":
                value = value.clamp(column.low, column.high)
            cells[i] = value
        for k, i in enumerate(self.layout.counts):
            cells[i] = counts[..., k].clamp(max=self.layout.tops[i])
        for i, value in coded.items():
            cells[i] = value.to(self.raw.dtype)
        return torch.stack(cells, -1)

    def _number_means(self) -> Tensor:
        """The means of numbers, positive ones as logarithms, (..., B, numbers)."""
        return self._numbers().loc

    def _number_draws(self, shape: torch.Size) -> Tensor:
        """Draws of them, (*shape, ..., B, numbers)."""
        return self._numbers().sample(shape)

    @property
    def mean(self) -> Tensor:
        """The mean of reals and counts, the median of positive numbers, the most probable category,
        (..., B, d).
        """
        numbers = self._number_means() if self.layout.numbers else self.raw[..., :0]
        counts = self._counts().mean if self.layout.counts else self.raw[..., :0]
        coded = {i: self.raw[..., part].argmax(-1) for i, part in self.layout.coded.items()}
        return self._in_units(numbers, counts, coded)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            shape = torch.Size(sample_shape)
            none = self.raw[..., :0].expand(*shape, *self.raw.shape[:-1], 0)
            numbers = self._number_draws(shape) if self.layout.numbers else none
            counts = self._counts().sample(shape) if self.layout.counts else none
            coded = {
                i: Categorical(logits=self.raw[..., part], validate_args=False).sample(shape)
                for i, part in self.layout.coded.items()
            }
            return self._in_units(numbers, counts, coded)
