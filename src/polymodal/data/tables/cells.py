"""The cells of one column: empty ones, numbers, dates and words, read from text or typed."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from polymodal.checks import shown
from polymodal.data.tables.dates import SLASHED, days, formats_of, moment_of, usual_format
from polymodal.data.tables.decimals import decimal_dtype, decimals_in

Form = Literal["number", "date", "word", "nothing"]
EMPTY = ("", "NA", "<NA>", "N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "NaT", "null", "NULL", "?")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
WITH_COMMA = re.compile(r"[-+]?\d*,\d+|[-+]?\d+")
INFINITE = re.compile(r"[-+]?inf(inity)?", re.IGNORECASE)
WHOLE = re.compile(r"[-+]?\d+")
POINT_ZERO = re.compile(r"[-+]?\d+[.,]0+")  # whole numbers in a column of real ones
PADDED = re.compile(r"[-+]?0\d+")  # 00501: a code, whose zeros a number would lose
LONGEST = 60  # characters of a word in a sentence
MOSTLY = 0.5  # share of numbers above which words among them are a fault


@dataclass(frozen=True)
class Cells:
    """The cells of one column, read.

    Args:
        name: of the column.
        form: what all cells that are not empty are; "nothing": all are empty.
        numbers: (N,) float64, NaN where empty; of dates, days since 1970-01-01; of words: none.
        words: N words, None where empty; of numbers and dates: none.
        dtype: how cells are written: int64, Int64 (whole, in a real column), float64, decimal[2]
            (always two digits behind the point), bool, str, date[<format>], date, datetime.
        places: of rows in words, such as "line 5".
        empty: the words that were read as empty, and how many cells have each.
        order: the words in the order that the file says, if it says one.
    """

    name: str
    form: Form
    numbers: np.ndarray = field(default_factory=lambda: np.zeros(0))
    words: Sequence[str | None] = ()
    dtype: str = ""
    places: Places | None = None
    empty: Mapping[str, int] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    @property
    def observed(self) -> np.ndarray:
        """Which cells are not empty, (N,) bool."""
        if self.form == "word":
            return np.array([word is not None for word in self.words], bool)
        return ~np.isnan(self.numbers)

    def as_words(self) -> list[str | None]:
        """The cells as words, None where empty; whole numbers without a point."""
        if self.form == "word":
            return list(self.words)
        return [None if math.isnan(v) else word_of(v) for v in self.numbers.tolist()]

    @property
    def where(self) -> Places:
        return self.places or Places()

    def at(self, rows: Sequence[int]) -> str:
        """The places of the first of `rows`, in words."""
        few = ", ".join(self.where.of(row) for row in list(rows)[:3])
        return few if len(rows) <= 3 else f"{few} and {len(rows) - 3} more"


@dataclass(frozen=True)
class Places:
    """Where rows stand in a file: rows counted from 1, or lines of text; and what its user can do
    about cells that cannot be read.

    Args:
        lines: of every row, from 1; none: they are no lines.
        before: rows of the file before the first one.
    """

    lines: Sequence[int] = ()
    before: int = 0

    def of(self, row: int) -> str:
        """The place of a row, counted from 0."""
        return f"line {self.lines[row]}" if self.lines else f"row {self.before + row + 1}"

    def words_remedy(self, column: str, words: Sequence[str]) -> str:
        """Of words among numbers."""
        quoted = ", ".join(map(_in_quotes, words))
        return (
            f"if they stand for nothing, write empty: [{quoted}] into the description (--empty of"
            f" polymodal init), or type: category for {column!r}"
        )

    def dates_remedy(self, column: str) -> str:
        """Of dates of two meanings."""
        return (
            f'write date: "{SLASHED[0]}" or date: "{SLASHED[1]}" for {column!r} in the description'
        )


def word_of(number: float) -> str:
    """A number as the name of a category.

    >>> word_of(3.0), word_of(0.25)
    ('3', '0.25')
    """
    is_whole = math.isfinite(number) and number == int(number)
    return str(int(number)) if is_whole else repr(number)


def cells_of_text(
    name: str,
    texts: Sequence[str],
    places: Places,
    empty: Sequence[str] = (),
    *,
    as_words: bool = False,
    date_format: str | None = None,
    comma: bool = False,
) -> Cells:
    """The cells of a column of text.

    Args:
        empty: words that stand for an empty cell, beside those of `EMPTY`.
        as_words: the cells are words, whatever they look like.
        date_format: the cells are dates in this format, such as "%d/%m/%Y"; None: it is guessed.
        comma: decimals stand behind a comma.

    Raises ValueError for words among numbers or dates, infinite numbers, and dates of two meanings.
    """
    nothing = {*EMPTY, *empty}
    bare = [text.strip() for text in texts]
    words = [None if text in nothing else text for text in bare]
    read_as_empty = Counter(text for text in bare if text in nothing)
    cells = Cells(name, "word", words=words, dtype="str", places=places, empty=read_as_empty)
    different = {word for word in words if word is not None}
    if not different:
        return _numbers(cells, words, {}, "nothing", "")
    if as_words:
        return cells
    if format_ := date_format or _format(cells, words, different):
        return _numbers(cells, words, _dates(cells, different, format_), "date", f"date[{format_}]")
    return _numbers_or_words(cells, words, different, comma)


def _numbers_or_words(
    cells: Cells, words: Sequence[str | None], different: set[str], comma: bool
) -> Cells:
    """The cells as numbers if all are numbers, else as words."""
    pattern = WITH_COMMA if comma else NUMBER
    numeric = {w for w in different if pattern.fullmatch(w) or INFINITE.fullmatch(w)}
    if any(PADDED.fullmatch(word) for word in numeric):
        return cells
    if others := different - numeric:
        _check_few(cells, words, others)
        return cells
    if infinite := [i for i, w in enumerate(words) if w and INFINITE.fullmatch(w)]:
        raise infinite_cells(cells, infinite)
    values = {word: float(word.replace(",", ".") if comma else word) for word in numeric}
    read = _numbers(cells, words, values, "number", _dtype(numeric, values))
    if overflown := np.flatnonzero(np.isinf(read.numbers)).tolist():  # 1e999
        raise infinite_cells(cells, overflown)
    return read


def _dtype(numeric: set[str], values: Mapping[str, float]) -> str:
    if all(WHOLE.fullmatch(word) for word in numeric):
        return "int64"
    return real_dtype(np.array([*values.values()]), decimals_in(numeric))


def real_dtype(values: np.ndarray, decimals: int | None = None) -> str:
    """The type of real numbers (N,): "Int64" if all are whole, as where an integer column of pandas
    has holes.

    Args:
        decimals: how many digits all of them have behind the point; None: that differs.
    """
    seen = values[np.isfinite(values)]
    if len(seen) and (seen == np.round(seen)).all():
        return "Int64"
    return "float64" if decimals is None else decimal_dtype(decimals)


def infinite_cells(cells: Cells, rows: Sequence[int]) -> ValueError:
    """The error of infinite numbers."""
    return ValueError(
        f"Column {cells.name!r} is infinite in {cells.at(rows)}; write numbers there, or leave the"
        " cells empty."
    )


def _check_few(
    cells: Cells, words: Sequence[str | None], others: set[str], what: str = "numbers"
) -> None:
    """Raises ValueError if most cells are numbers (or dates), and `others` are not."""
    observed = sum(word is not None for word in words)
    wrong = [i for i, word in enumerate(words) if word in others]
    if len(wrong) >= (1 - MOSTLY) * observed:
        return
    listed = sorted(others)[:3]
    raise ValueError(
        f"Column {cells.name!r} has {what} in {observed - len(wrong)} rows and words in"
        f" {len(wrong)}: {', '.join(map(shown, listed))} ({cells.at(wrong)});"
        f" {cells.where.words_remedy(cells.name, listed)}."
    )


def _in_quotes(word: str) -> str:
    """A word as YAML reads it back."""
    return json.dumps(word if len(word) <= LONGEST else f"{word[:LONGEST]}...", ensure_ascii=False)


def _numbers(
    cells: Cells,
    words: Sequence[str | None],
    values: Mapping[str, float],
    form: Form,
    dtype: str,
) -> Cells:
    """The cells with a number for each word, NaN where empty."""
    numbers = np.array([math.nan if word is None else values[word] for word in words])
    return Cells(cells.name, form, numbers, (), dtype, cells.places, cells.empty)


# Dates.


def _format(cells: Cells, words: Sequence[str | None], different: set[str]) -> str | None:
    """The format that all words have; None: they are no dates.

    Raises ValueError if two fit, and if most words have one and some do not.
    """
    fitting = formats_of(different)
    if set(SLASHED) <= set(fitting):
        raise ValueError(
            f"Column {cells.name!r} has dates such as {min(different)!r}, which may begin with the"
            f" day or the month; {cells.where.dates_remedy(cells.name)}."
        )
    if not fitting and (usual := usual_format(different)):
        others = {word for word in different if moment_of(word, usual) is None}
        _check_few(cells, words, others, f"dates such as {_first(different, others)}")
    return fitting[0] if fitting else None


def _first(words: set[str], others: set[str]) -> str:
    return shown(min(words - others))


def _dates(cells: Cells, different: set[str], format_: str) -> dict[str, float]:
    """The days of words in a format. Raises ValueError for a word in another."""
    read = {word: moment_of(word, format_) for word in different}
    wrong = [word for word, moment in read.items() if moment is None]
    if wrong:
        raise ValueError(
            f"Column {cells.name!r} must hold dates in the format {format_}, got"
            f" {shown(sorted(wrong)[0])}; correct the cells, or date: in the description."
        )
    return {word: days(moment) for word, moment in read.items() if moment is not None}
