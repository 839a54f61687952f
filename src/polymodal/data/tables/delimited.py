"""Tables of text, CSV and TSV, which keep every character of the cells that are not filled."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polymodal.checks import shown
from polymodal.data.tables.cells import (
    NUMBER,
    POINT_ZERO,
    WHOLE,
    WITH_COMMA,
    Cells,
    Places,
    cells_of_text,
)
from polymodal.data.tables.decimals import decimals_in
from polymodal.data.tables.text_files import PACKED, read_text
from polymodal.data.tables.user_table import Filled, UserTable

SEPARATORS = (",", ";", "\t", "|")
ENDS = re.compile(r"\r\n|\n|\r")
SNIFFED = 50  # records by which the separator is found


class Record(NamedTuple):
    """A line of a table: its cells as they are written, and how it ends."""

    cells: list[str]
    end: str


@dataclass(frozen=True)
class Style:
    """How the numbers of a column are written.

    Args:
        comma: decimals stand behind a comma.
        zeros: behind the point of whole numbers, such as 1 of 3.0.
    """

    comma: bool = False
    zeros: int = 0

    def of(self, value: Any) -> str:
        """A number as a cell."""
        text = digits(value)
        if self.zeros and WHOLE.fullmatch(text):
            text += "." + "0" * self.zeros
        return text.replace(".", ",") if self.comma else text


class Delimited(UserTable):
    """A table of text. Its first line names the columns.

    Args:
        text: all of it.
        separator: between cells.
        encoding: of the file.
        mark: the bytes in front of the text.
    """

    def __init__(
        self, path: Path, text: str, separator: str, encoding: str, mark: bytes = b""
    ) -> None:
        self.separator, self.encoding, self.mark = separator, encoding, mark
        self.records = list(records(text, separator, path))
        full = [k for k, record in enumerate(self.records) if record.cells != [""]]
        if not full:
            raise ValueError(f"{path} is empty; its first line must name the columns.")
        header = [bare(cell).strip() for cell in self.records[full[0]].cells]
        columns = [name or f"column {k + 1}" for k, name in enumerate(header)]
        lines = _lines(self.records)
        self.rows = full[1:]
        super().__init__(path, columns, Places([lines[k] for k in self.rows]))
        self._check(header)

    def _check(self, header: Sequence[str]) -> None:
        """Raises ValueError unless there is a header, and as many cells in every row."""
        if header[0].startswith("sep=") and not any(header[1:]):
            raise ValueError(f"The first line of {self.path} says {shown(header[0])}; remove it.")
        other = next((s for s in SEPARATORS if len(header) == 1 and s in header[0]), None)
        if other is not None and all(other in self.records[k].cells[0] for k in self.rows):
            raise ValueError(
                f"{self.path} has one column, {shown(header[0])}, since the separator is"
                f" {shown(self.separator)}; write separator: {shown(other)} into the description,"
                " or name the file .csv."
            )
        if all(NUMBER.fullmatch(name) for name in header):
            raise ValueError(
                f"The first line of {self.path} holds only numbers ({shown(list(header))}); write"
                " the names of the columns into it."
            )
        for row, k in enumerate(self.rows):
            if len(self.records[k].cells) != len(header):
                raise ValueError(
                    f"{self.path} has {len(self.records[k].cells)} cells in {self.places.of(row)}"
                    f" and {len(header)} columns; the separator is {shown(self.separator)}"
                    " (separator: in the description sets it), and cells that hold it need quotes."
                )
        if not self.rows:
            raise ValueError(f"{self.path} has a header and no rows.")

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self, column: str) -> list[str]:
        """The cells of a column, without quotes."""
        place = self.columns.index(column)
        return [bare(self.records[k].cells[place]) for k in self.rows]

    def _cells(
        self, column: str, empty: Sequence[str], as_words: bool, date_format: str | None
    ) -> Cells:
        texts = self.texts(column)
        comma = self._has_comma(texts)
        return cells_of_text(
            column,
            texts,
            self.places,
            empty,
            as_words=as_words,
            date_format=date_format,
            comma=comma,
        )

    def _has_comma(self, texts: Sequence[str]) -> bool:
        """Whether decimals stand behind a comma: some cells have one, and none has a point."""
        if self.separator == ",":
            return False
        numbers = [text.strip() for text in texts if any(c.isdigit() for c in text)]
        commas = sum("," in text for text in numbers)
        return commas > 0 and all(WITH_COMMA.fullmatch(text) for text in numbers)

    def encoded(self, filled: Filled, suffix: str) -> bytes:
        """The text with what is filled, packed if the suffix is .gz."""
        changed: dict[int, list[str]] = {}
        for name, (rows, values) in filled.items():
            place = self.columns.index(name)
            style = self._style(name) if len(rows) else Style()
            for row, value in zip(rows, values, strict=True):
                k = self.rows[row]
                cells = changed.setdefault(k, list(self.records[k].cells))
                cells[place] = self._written(value, cells[place], style)
        lines = (
            self.separator.join(changed.get(k, record.cells)) + record.end
            for k, record in enumerate(self.records)
        )
        try:
            content = self.mark + "".join(lines).encode(self.encoding)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{self.path} is written in {self.encoding}, which has no"
                f" {error.object[error.start]!r}; save it in UTF-8."
            ) from None
        return gzip.compress(content, mtime=0) if suffix == PACKED else content

    def _style(self, column: str) -> Style:
        """How the numbers of a column are written."""
        texts = [text.strip() for text in self.texts(column)]
        numbers = [text for text in texts if any(c.isdigit() for c in text)]
        are_zeros = all(map(POINT_ZERO.fullmatch, numbers)) and bool(numbers)
        return Style(self._has_comma(texts), (decimals_in(numbers) or 1) if are_zeros else 0)

    def _written(self, value: Any, before: str, style: Style) -> str:
        """A value as a cell, in quotes where the hole had them or the value needs them."""
        text = style.of(value) if _is_number(value) else str(value)
        if '"' in before or any(c in text for c in f'{self.separator}"\r\n'):
            return '"' + text.replace('"', '""') + '"'
        return text


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal | np.number) and not isinstance(value, bool)


def digits(value: Any) -> str:
    """A value as text; a real number with 6 significant digits, a decimal with its own.

    >>> digits(1234567.0), digits(0.1234567), digits(3), digits("a"), digits(1e-9)
    ('1234570', '0.123457', '3', 'a', '1e-09')
    >>> digits(Decimal("12.50"))
    '12.50'
    """
    if isinstance(value, Decimal):
        return f"{value:f}"
    if not isinstance(value, float | np.floating):
        return str(value)
    rounded = float(f"{value:.6g}")
    if rounded and not 1e-4 <= abs(rounded) < 1e15:
        return f"{rounded:.6g}"
    return np.format_float_positional(rounded, trim="-")


def bare(cell: str) -> str:
    """A cell without its quotes.

    >>> bare('"a ""b"" c"'), bare("a")
    ('a "b" c', 'a')
    """
    if '"' not in cell or not (inner := cell.strip(" ")).startswith('"'):
        return cell
    return inner[1:-1].replace('""', '"')


def records(text: str, separator: str, path: Path) -> Iterator[Record]:
    """The lines of a table; cells in quotes may hold separators and ends of lines.

    Raises ValueError, with the line, for quotes that do not end with their cell.
    """
    if '"' not in text:
        yield from _plain_records(text, separator)
        return
    mark = re.escape(separator)
    cell = re.compile(rf' *"[^"]*(?:""[^"]*)*" *(?=[{mark}\r\n]|\Z)|[^{mark}\r\n]*')
    cells: list[str] = []
    at, line = 0, 1
    while True:
        written = cell.match(text, at).group()  # type: ignore[union-attr]
        is_quoted = '"' in written and written.lstrip(" ").startswith('"')
        if is_quoted and not _is_closed(written):
            raise ValueError(
                f"{path} has a cell in line {line} whose quotes do not end with it:"
                f" {shown(written)}; a quote inside a cell is written twice."
            )
        cells.append(written)
        at += len(written)
        line += len(ENDS.findall(written)) if is_quoted else 0
        if text.startswith(separator, at):
            at += len(separator)
            continue
        end = ENDS.match(text, at)
        if end or cells != [""]:
            yield Record(cells, end.group() if end else "")
        if end is None:
            return
        cells, at, line = [], end.end(), line + 1


def _is_closed(cell: str) -> bool:
    """Whether a cell that begins with a quote ends with it."""
    inner = cell.strip(" ")
    return len(inner) > 1 and inner.endswith('"') and inner.count('"') % 2 == 0


def _plain_records(text: str, separator: str) -> Iterator[Record]:
    """The lines of a table without quotes."""
    at = 0
    for end in ENDS.finditer(text):
        yield Record(text[at : end.start()].split(separator), end.group())
        at = end.end()
    if at < len(text):
        yield Record(text[at:].split(separator), "")


def _lines(read: Sequence[Record]) -> list[int]:
    """The number of the line on which each record begins, from 1."""
    lines, line = [], 1
    for record in read:
        lines.append(line)
        line += 1 + sum(len(ENDS.findall(cell)) for cell in record.cells if '"' in cell)
    return lines


# Reading.


def read_delimited(path: Path, separator: str | None, encoding: str | None) -> Delimited:
    """A table of text, packed if its name ends in .gz.

    Args:
        separator: between cells; None: a tab in .tsv and .tab, else the one of `SEPARATORS` by
            which lines have equally many cells.
        encoding: None: UTF-8.

    Raises ValueError for a file that is too large, is no text in its encoding, or no table.
    """
    text, encoding, mark = read_text(path, encoding)
    if "\0" in text:
        raise ValueError(f"{path} holds a zero byte, which no text has; is it a table of text?")
    return Delimited(path, text, separator or _separator(path, text), encoding, mark)


def _separator(path: Path, text: str) -> str:
    """The separator of a table: by its name, or the one by which lines have equally many cells,
    and most of them; a comma if none is.
    """
    if {".tsv", ".tab"} & set(path.suffixes):
        return "\t"
    best, most = SEPARATORS[0], 1
    for separator in SEPARATORS:
        counts = _counts(text, separator, path)
        if counts and min(counts) == max(counts) > most:
            best, most = separator, counts[0]
    return best


def _counts(text: str, separator: str, path: Path) -> list[int]:
    """How many cells the first lines have by a separator; nothing if they cannot be read so."""
    try:
        read = records(text, separator, path)
        first = [record for record, _ in zip(read, range(SNIFFED), strict=False)]
    except ValueError:
        return []
    return [len(record.cells) for record in first if record.cells != [""]]
