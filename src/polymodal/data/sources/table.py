"""Columns of a table as one modality."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import CODED, LOGARITHMIC, Column, Modality
from polymodal.batch.modality import ColumnType
from polymodal.checks import FileName, Group, shown, typed, unknown
from polymodal.data.mapped import converted
from polymodal.data.readers.mapped import Room
from polymodal.data.rows import scan_holes
from polymodal.data.sources.source import Place, Samples, Source, register
from polymodal.data.tables import Cells, Guess, UserTable, categories_of, guess, moments
from polymodal.data.tables.cells import word_of
from polymodal.data.tables.guess import LEFT_OUT, TEXT
from polymodal.data.tables.values import numbers_in, values_of

log = logging.getLogger("polymodal")

CELLS = 2**20  # that are converted at a time
Types = ColumnType | Literal["drop"]


class ColumnEntry(Group):
    """What a description says of a column; what it leaves open is guessed.

    Args:
        type: real, positive, bounded, count, boolean, category, ordinal; drop: it is not used.
        categories: the words of a boolean, category or ordinal column, in order; none: those of
            the training part.
        low, high: of a bounded column.
        date: the format of dates, such as "%d/%m/%Y".
    """

    type: Types | None = None
    categories: list[str | int | float | bool] = []
    low: float | None = None
    high: float | None = None
    date: str | None = None


class TableEntry(Group):
    """Columns of a table.

    Args:
        file: the table; None: the main one.
        key: the column of that table that names the samples; None: that of the description.
        columns: names, which may hold * and ?; or {name: type}, or {name: {type: ..., ...}}; none:
            all columns that have no other use.
    """

    file: FileName | None = None
    key: str | None = None
    columns: list[str] | dict[str, Types | dict[str, Any] | None] | None = None


@dataclass(frozen=True)
class Taken:
    """A column of a modality.

    Args:
        read: reads the cells of all rows.
        entry: what the description says of it.
        guess: what it is, by the description or its cells.
    """

    read: Callable[[], Cells]
    entry: ColumnEntry
    guess: Guess

    @property
    def cells(self) -> Cells:
        """Those of all rows."""
        return self.read()


class Rows(Samples):
    """The rows of a table, of which a modality takes some columns.

    Args:
        left_out: guesses of the columns that the modality leaves out.
        room: values that it does not hold are written into a file; None: it is not looked at.
    """

    def __init__(
        self,
        table: UserTable,
        taken: Sequence[Taken],
        left_out: Sequence[Guess],
        keys: Sequence[str] | None,
        empty: Sequence[str],
        room: Room | None = None,
    ) -> None:
        self.table, self.taken, self.left_out = table, taken, left_out
        self.keys, self.empty, self.room = keys, empty, room

    def __len__(self) -> int:
        return len(self.table)

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        columns = tuple(_column(taken, rows) for taken in self.taken)
        chosen, found, largest = np.asarray(rows), [], []
        empty, full = np.ones(len(chosen), bool), np.ones(len(chosen), bool)
        for column in columns:
            values = numbers_in(self.table, column, self.empty)[chosen]
            found.append(moments(values, column))
            largest.append(_with_largest(column, values))
            full &= ~np.isnan(values)
            empty &= np.isnan(values)
        columns = tuple(largest)
        location, spread = zip(*found, strict=True)
        return Modality(
            name,
            (len(columns),),
            "table",
            kind="table",
            scale=None,
            columns=columns,
            location=location,
            spread=spread,
            holes=bool((~full & ~empty).any()),
        )

    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        size = 4 * len(self) * len(modality.columns)
        if self.room is None or self.room.holds(size) or self.table.keeps:
            x, notes = values_of(self.table, modality.columns, self.empty)
            return x, ~torch.isnan(x).all(1), notes
        x = self._in_file(modality.columns)
        return x, scan_holes(x, torch.arange(len(x)))[0], []

    def _in_file(self, columns: Sequence[Column]) -> Tensor:
        """The values in a file of the cache; what is not read as it stands is logged."""
        told: set[str] = set()

        def parts() -> Iterator[Tensor]:
            for part in self.table.in_parts(max(1, CELLS // len(columns))):
                x, notes = values_of(part, columns, self.empty)
                for note in notes if not told else ():
                    log.warning("%s", note)
                told.update(notes)
                yield x

        like = torch.zeros(1, len(columns))
        how = f"{[repr(column) for column in columns]} {list(self.empty)}"
        return converted(self.table.path, how, len(self), like, parts())


def _column(taken: Taken, rows: Sequence[int]) -> Column:
    """The column, with the categories of `rows`."""
    cells, entry, guess = taken.cells, taken.entry, taken.guess
    if guess.type not in CODED:
        type_: Any = guess.type
        return Column(cells.name, type_, (), guess.low, guess.high, cells.dtype)
    categories = tuple(_word(c) for c in entry.categories) or categories_of(_at(cells, rows))
    seen = categories_of(_at(cells, rows))
    if entry.categories and seen and not set(categories) & set(seen):
        raise ValueError(
            f"Column {cells.name!r} has none of the categories {shown(list(categories))} that the"
            f" description names; it has {shown(list(seen))}."
        )
    if not categories:
        raise ValueError(
            f"Column {cells.name!r} has no cell that is not empty in the training part; write"
            f" {cells.name!r}: drop into columns: of the description."
        )
    coded: Any = guess.type if len(categories) != 1 else "category"
    if guess.type == "boolean" and len(categories) > 2:
        raise ValueError(
            f"Column {cells.name!r} of type boolean must have two values, got"
            f" {shown(list(categories))}; write type: category."
        )
    return Column(cells.name, coded, categories, dtype=cells.dtype)


def _with_largest(column: Column, values: np.ndarray) -> Column:
    """The column with the largest of its values (N,), if it is modelled by logarithms."""
    if column.type not in LOGARITHMIC or np.isnan(values).all():
        return column
    return replace(column, largest=float(np.nanmax(values)))


def _word(category: str | int | float | bool) -> str:
    """A category as cells have it; YAML reads 1 as a number and true as a truth value."""
    if isinstance(category, bool):
        return str(category).lower()
    return category if isinstance(category, str) else word_of(category)


def _at(cells: Cells, rows: Sequence[int]) -> Cells:
    """The cells of some rows."""
    if cells.form == "word":
        return replace(cells, words=[cells.words[row] for row in rows])
    return replace(cells, numbers=cells.numbers[np.asarray(rows)])


@register
class TableSource(Source):
    """`source: table`, the usual one: columns of a table."""

    name = "table"
    Entry = TableEntry

    def read(self, name: str, entry: TableEntry, place: Place) -> Samples:
        table = place.table(entry.file)
        taken, left_out = [], []
        chosen = _chosen(name, entry, table, place)
        for column, about in chosen.items():
            found = _taken(table, column, about, place.empty)
            if found.guess.type in (LEFT_OUT, TEXT):
                left_out.append(found.guess)
            else:
                taken.append(found)
        if not taken:
            why = "; ".join(f"{g.name}: {g.reason}" for g in left_out[:3])
            raise ValueError(
                f"Modality {name!r} has no column that can be used"
                f"{f' ({why})' if why else ''}; name some in columns:, with their types."
            )
        keys = place.keys(table, entry.key)
        return Rows(table, taken, left_out, keys, place.empty, place.room)

    def taken(self, entry: TableEntry) -> Sequence[str]:
        return tuple(entry.columns or ())


def _chosen(name: str, entry: TableEntry, table: UserTable, place: Place) -> dict[str, ColumnEntry]:
    """The columns of a modality, and what the description says of each.

    Raises ValueError for a column that the table does not have, with the nearest.
    """
    if entry.columns is None:
        others = [*place.taken.get(entry.file or place.file or "", ()), entry.key, place.key]
        free = [c for c in table.columns if not any(_means(other, c) for other in others)]
        return {c: ColumnEntry() for c in free}
    said = entry.columns if isinstance(entry.columns, Mapping) else dict.fromkeys(entry.columns)
    chosen: dict[str, ColumnEntry] = {}
    for pattern, about in said.items():
        names = [pattern] if pattern in table.columns else fnmatch.filter(table.columns, pattern)
        if not names:
            where = f"column {pattern!r} in {table.path}"
            raise unknown(where, pattern, table.columns)
        fields = {"type": about} if isinstance(about, str) else about or {}
        checked = typed(ColumnEntry, fields, f"data.modalities.{name}.columns.{pattern}")
        chosen |= dict.fromkeys(names, checked)
    return chosen


def _means(pattern: str | None, column: str) -> bool:
    return pattern is not None and (pattern == column or fnmatch.fnmatchcase(column, pattern))


def _taken(table: UserTable, column: str, entry: ColumnEntry, empty: Sequence[str]) -> Taken:
    """A column and its cells, with the type that the description gives or the cells suggest."""
    if entry.type == "drop":
        nothing = partial(Cells, column, "nothing")
        return Taken(nothing, entry, Guess(column, LEFT_OUT, "the description leaves it out"))
    as_words = entry.type in CODED and _holds_words(table, column, entry, empty)
    read = partial(table.cells, column, empty, as_words=as_words, date_format=entry.date)
    guessed = guess(cells := read())
    if entry.type is None or cells.form == "nothing":
        return Taken(read, entry, guessed)
    low = guessed.low if entry.low is None else entry.low
    high = guessed.high if entry.high is None else entry.high
    agrees = entry.type == guessed.type
    reason = guessed.reason if agrees else f"by the description, not {guessed.type}"
    return Taken(read, entry, Guess(column, entry.type, reason, low, high))


def _holds_words(table: UserTable, column: str, entry: ColumnEntry, empty: Sequence[str]) -> bool:
    """Whether a coded column must be read as words: it has some that are no numbers."""
    try:
        return table.cells(column, empty, date_format=entry.date).form not in ("number", "nothing")
    except ValueError:
        return True


def check_columns(samples: Mapping[str, Samples]) -> None:
    """Raises ValueError for a column that is in two modalities."""
    owner: dict[tuple[int, str], str] = {}
    tables = {m: rows for m, rows in samples.items() if isinstance(rows, Rows)}
    for m, rows in tables.items():
        for taken in rows.taken:
            first = owner.setdefault((id(rows.table), taken.guess.name), m)
            if first != m:
                raise ValueError(
                    f"Column {taken.guess.name!r} of {rows.table.path} is in the modalities"
                    f" {first!r} and {m!r}; leave it in one of them."
                )
