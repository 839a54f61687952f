"""What the columns of a table are: types guessed from their cells, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from polymodal.checks import shown
from polymodal.data.tables.cells import Cells
from polymodal.data.tables.sizes import fault_of

FEW = 10  # different whole numbers that are steps of an order
REPEATED = 5  # times that each category occurs on average
MOST_CATEGORIES = 100
DISPERSION = 0.5  # variance by mean above which whole numbers spread like counts
SKEWED = 1.0
NEAR = 0.02  # of the range: the neighbourhood of a bound
BOUNDS = ((0.0, 1.0), (0.0, 100.0))
SENTENCE = 3.0  # words of a cell, on average, that make texts of them
ID_NAME = re.compile(r"(.*[_. -])?(id|key|index|nr|uuid|row|unnamed: 0|column 1)", re.IGNORECASE)
KEY_NAME = re.compile(r"(.*[_. -])?(id|uuid)", re.IGNORECASE)  # also where values recur
MANY = 30  # different numbers that would coincide if they were measured on
SPARSE = 2  # times as many places
TRUTH = ({"false", "true"}, {"no", "yes"}, {"f", "t"}, {"n", "y"}, {"off", "on"})
TEXT, LEFT_OUT = "text", "drop"
ALIKE = 0.9  # share of the words of a column that have one form
# Words that are numbers to a reader: "1,000", "5 %", "$3", "12 kg"; and those that are times.
ALMOST_NUMBER = re.compile(
    r"[-+\u2212]?\s?[$\u20ac\u00a3\u00a5]?\s?\d[\d .,'\u2019_\u00a0\u202f]*"
    r"\s?(%|[$\u20ac\u00a3\u00a5]|[a-zA-Z\u00b5\u00b0/]{1,6})?"
)
ALMOST_DATE = re.compile(
    r"\d{1,2}([-/.])\d{1,2}\1(\d{4}|\d{2})\b.*|\d{4}([-/.])\d{1,2}\3\d{1,2}\b.*"
    r"|\d{4}[-/]\d{1,2}|\d{1,2}[-/]\d{4}|\d{1,2}:\d{2}\b.*"
    r"|.{0,20}\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\b.{0,30}",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Guess:
    """What a column is taken for.

    Args:
        name: of the column.
        type: a type of `polymodal.batch.Column`, "text" or "drop".
        reason: why.
        low, high: of a bounded column.
    """

    name: str
    type: str
    reason: str
    low: float = 0.0
    high: float = 1.0


def guess(cells: Cells) -> Guess:
    """What a column is, by its name and its cells.

    >>> guess(Cells("sex", "word", words=["f", "m"] * 9, dtype="str")).type
    'boolean'
    """
    if cells.form == "nothing":
        return Guess(cells.name, LEFT_OUT, "all cells are empty")
    if cells.form == "date":
        return Guess(cells.name, "real", "dates, as days")
    if cells.order:
        return Guess(cells.name, "ordinal", "words whose order the file says")
    if cells.form == "number" and len(np.unique(cells.numbers[cells.observed])) > 2:
        return _of_numbers(cells)
    words = [word for word in cells.as_words() if word is not None]
    different = set(words)
    if len(different) == 2 and _are_codes(cells, different, len(words)):
        return Guess(cells.name, "boolean", f"two values, {' and '.join(sorted(different))}")
    if cells.form == "word":
        return _of_words(cells, words, different)
    return _of_numbers(cells)


def _are_codes(cells: Cells, different: set[str], n: int) -> bool:
    """Whether two different values are names: words, 0 and 1, or whole numbers that recur."""
    if cells.form == "word":
        return n > 2
    recur = n >= 2 * REPEATED
    return different == {"0", "1"} or (recur and _are_whole(cells))


def _are_whole(cells: Cells) -> bool:
    x = cells.numbers[cells.observed]
    return bool((x == np.round(x)).all())


def _of_words(cells: Cells, words: list[str], different: set[str]) -> Guess:
    """A category, a text, or neither."""
    n, k = len(words), len(different)
    if cells.dtype == "bool":
        return Guess(cells.name, "category", "true or false, always the same")
    if k == 1:
        return Guess(cells.name, "category", f"constant: always {words[0]!r}")
    if k <= MOST_CATEGORIES and n >= REPEATED * k:
        return Guess(cells.name, "category", f"{k} different words in {n} rows")
    if (reason := _almost(words)) is not None:
        return Guess(cells.name, LEFT_OUT, reason)
    lengths = [len(word.split()) for word in words]
    if sum(lengths) >= SENTENCE * n:
        return Guess(cells.name, TEXT, f"texts of {sum(lengths) / n:.0f} words on average")
    if k == n:
        return Guess(cells.name, LEFT_OUT, "every row has another word: a name or a key")
    return Guess(
        cells.name,
        LEFT_OUT,
        f"{k} different words in {n} rows, too many for categories (type: category takes them)",
    )


def _almost(words: list[str]) -> str | None:
    """Why words that a reader takes for numbers or dates are not read as them; None: they are
    neither.
    """
    if _have(ALMOST_DATE, words):
        return (
            f"dates or times in a form that is not read, such as {shown(words[0])}; write them as"
            " 2020-12-31 or 2020-12-31 23:59, or give their date: format"
        )
    if _have(ALMOST_NUMBER, words):
        return (
            f"words with digits, such as {shown(words[0])}; if they are numbers, write only their"
            " digits and a decimal point"
        )
    return None


def _have(form: re.Pattern[str], words: list[str]) -> bool:
    return sum(form.fullmatch(word) is not None for word in words) >= ALIKE * len(words)


def are_almost_numbers(words: Sequence[str]) -> bool:
    """Whether a reader takes words for numbers, such as "5 %"."""
    return len(words) > 2 and all(map(ALMOST_NUMBER.fullmatch, words))


def _of_numbers(cells: Cells) -> Guess:
    x = cells.numbers[cells.observed]
    different = np.unique(x)
    if fault := fault_of(x):
        return Guess(cells.name, LEFT_OUT, fault)
    if len(different) == 1:
        return Guess(cells.name, "real", f"constant: always {different[0]:g}")
    if _are_whole(cells):
        return _of_whole_numbers(cells.name, x, different)
    for low, high in BOUNDS:
        if _touches(x, low, high):
            reason = f"between {low:g} and {high:g}, and near both"
            return Guess(cells.name, "bounded", reason, low, high)
    if x.min() > 0 and _skew(x) > SKEWED and abs(_skew(np.log(x))) < _skew(x) / 2:
        reason = "positive and skewed; its logarithm is less so"
        return Guess(cells.name, "positive", reason)
    return Guess(cells.name, "real", "numbers")


def _of_whole_numbers(name: str, x: np.ndarray, different: np.ndarray) -> Guess:
    n, k = len(x), len(different)
    is_numbered = k == n and n > FEW
    if is_numbered and (ID_NAME.fullmatch(name) or _are_dense(different)):
        return Guess(name, LEFT_OUT, "every row has another whole number: a key or a row number")
    if KEY_NAME.fullmatch(name):
        return _of_keys(name, n, k)
    if k <= FEW and n >= REPEATED * k:
        reason = f"{k} different whole numbers (type: category if their order means nothing)"
        return Guess(name, "ordinal", reason)
    if x.min() in (0, 1) and x.var() >= DISPERSION * x.mean():
        return Guess(name, "count", f"whole numbers from {x.min():g}, spread like counts")
    return Guess(name, "real", "whole numbers that are not spread like counts")


def _are_dense(different: np.ndarray) -> bool:
    """Whether different whole numbers follow one another, or take so many of the places between the
    first and the last that measurements would coincide.
    """
    span, n = different[-1] - different[0], len(different)
    return bool(span < n or (n >= MANY and span < SPARSE * n))


def _of_keys(name: str, n: int, k: int) -> Guess:
    """Keys that recur, such as that of a shop: names of groups, not sizes."""
    if k <= MOST_CATEGORIES and n >= REPEATED * k:
        return Guess(name, "category", f"{k} different whole numbers, by their name keys")
    reason = f"{k} different whole numbers in {n} rows, by their name keys (type: real takes them)"
    return Guess(name, LEFT_OUT, reason)


def _touches(x: np.ndarray, low: float, high: float) -> bool:
    """Whether values lie between two bounds, and some near each."""
    near = NEAR * (high - low)
    return bool(low <= x.min() <= low + near and high - near <= x.max() <= high)


def _skew(x: np.ndarray) -> float:
    """The third standardised moment."""
    centred = x - x.mean()
    return float((centred**3).mean() / max(1e-300, centred.std() ** 3))


def categories_of(cells: Cells) -> tuple[str, ...]:
    """The different words of a column in order: that of the file, of numbers, of truth (false
    before true), else of the alphabet.
    """
    words = {word for word in cells.as_words() if word is not None}
    if cells.order:
        return cells.order
    if cells.form == "number":
        return tuple(sorted(words, key=float))
    if {word.lower() for word in words} in TRUTH:
        return tuple(sorted(words, key=str.lower))  # f before t, n before y; "off" before "on"
    return tuple(sorted(words))
