"""Series in a table with a row for each sample and step of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polymodal.batch import Modality
from polymodal.checks import FileName, Group, shown
from polymodal.data.kinds.series import Series
from polymodal.data.sources.array import Values, described_by
from polymodal.data.sources.source import Place, Samples, Source, register
from polymodal.data.tables import UserTable

LONGEST = 100_000  # steps
FULL = 0.5  # share of the steps that samples must have on average


class SeriesEntry(Group):
    """Columns of a table, each a channel.

    Args:
        columns: the channels.
        time: the column of times; those that any sample has are the steps of all.
        file: the table; None: the main one.
        key: the column of that table that names the samples; None: that of the description.
    """

    columns: list[str]
    time: str
    file: FileName | None = None
    key: str | None = None


class SeriesValues(Values):
    """Series (n, channels, length), NaN where nothing was measured."""

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        """Standardised by the training part, step by step."""
        modality = Series().describe(name, [self.x])
        return described_by(modality, self.values(modality)[0], rows)


@register
class SeriesSource(Source):
    """`source: series`: a table with a row for each sample and step of time."""

    name = "series"
    Entry = SeriesEntry

    def read(self, name: str, entry: SeriesEntry, place: Place) -> Samples:
        table = place.table(entry.file)
        key = entry.key or place.key
        if key is None:
            raise ValueError(f"The series {name!r} need key:, the column that names the samples.")
        if not entry.columns:
            raise ValueError(f"The series {name!r} need columns:, one for each channel.")
        words = table.cells(key, place.empty, as_words=True).as_words()
        times = _numbers(table, entry.time, place.empty)
        if lacking := [k for k, w in enumerate(words) if w is None or np.isnan(times[k])]:
            where = table.places.of(lacking[0])
            raise ValueError(f"{table.path} has no key or no time in {where}; write both.")
        keys = list(dict.fromkeys(map(str, words)))
        steps = np.unique(times)
        _check_steps(name, table, len(steps), len(words) / len(keys))
        place_of = {word: k for k, word in enumerate(keys)}
        x = np.full((len(keys), len(entry.columns), len(steps)), np.nan, np.float32)
        at = np.array([place_of[str(word)] for word in words]), np.searchsorted(steps, times)
        _check_once(table, words, at)
        for channel, column in enumerate(entry.columns):
            x[at[0], channel, at[1]] = _numbers(table, column, place.empty)
        return SeriesValues(x, keys=keys)


def _numbers(table: UserTable, column: str, empty: Sequence[str]) -> np.ndarray:
    """The cells of a column as numbers, dates as days, NaN where empty."""
    cells = table.cells(column, empty)
    if cells.form == "word":
        word = next(word for word in cells.words if word is not None)
        raise ValueError(
            f"Column {column!r} of {table.path} must hold numbers or dates, got {shown(word)}."
        )
    return cells.numbers


def _check_steps(name: str, table: UserTable, steps: int, mean: float) -> None:
    """Raises ValueError for series whose samples have different times."""
    if steps > LONGEST or mean < FULL * steps:
        raise ValueError(
            f"The series {name!r} in {table.path} have {steps:,} different times, of which a sample"
            f" has {mean:.1f} on average; bring them to equal steps of time, the same for all"
            " samples."
        )


def _check_once(
    table: UserTable, words: Sequence[str | None], at: tuple[np.ndarray, np.ndarray]
) -> None:
    """Raises ValueError for two rows of one sample and time."""
    first: dict[tuple[int, int], int] = {}
    for k, place in enumerate(zip(at[0].tolist(), at[1].tolist(), strict=True)):
        if (other := first.setdefault(place, k)) != k:
            raise ValueError(
                f"{table.path} has the sample {shown(words[k])} twice at one time, in"
                f" {table.places.of(other)} and {table.places.of(k)}; keep one of them."
            )
