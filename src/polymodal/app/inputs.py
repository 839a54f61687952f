"""What a person gives of one modality, as a value that a model reads."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import CODED, Column, Modality
from polymodal.checks import check_name, shown, unknown
from polymodal.checks.files import check_expanded, check_file
from polymodal.data.kinds import kind_of
from polymodal.data.kinds.kind import Asked
from polymodal.data.kinds.named_values import value_of_words
from polymodal.data.readers.pictures import read_picture, resized, shares
from polymodal.data.tables.cells import Places, cells_of_text
from polymodal.data.tables.coding import DATE, decoded, numbers_of
from polymodal.data.tables.delimited import digits
from polymodal.data.words import ids_of, remarks
from polymodal.imputation.columns import columns_of

MAX_MB = 5.0  # of a file that is given
EXPANDED_MB = 50.0  # of one that is compressed, once it is expanded
MOST_FIELDS = 60  # columns that are asked for one by one
MOST_LETTERS = 10_000  # of a text that is given
CHANNELS = (1, 3)  # of a picture
SWITCH = {"0": "no", "1": "yes"}  # how zeros and ones are called


class Value(NamedTuple):
    """A value (1, *shape) with NaN in its holes, and sentences on how it was read."""

    x: Tensor
    notes: list[str]


@dataclass(frozen=True)
class Field:
    """One cell that can be given.

    Args:
        name: of the column.
        choices: what can be chosen: (what is shown, the word that stands for it); none: it is
            typed.
        hint: what can be typed.
    """

    name: str
    choices: tuple[tuple[str, str], ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class Input:
    """How one modality is given: `form`, and `fields` where it is given cell by cell.

    Args:
        modality: which.
        usual: means over the training data (d,), which stand for entries that are not given where
            the model knows no holes; None: not known.
    """

    modality: Modality
    usual: Sequence[float] | None = None

    @property
    def form(self) -> Asked:
        m, asked = self.modality, kind_of(self.modality).asked
        if asked == "picture":
            is_seen = m.shape[0] in CHANNELS and kind_of(m).are_shares(m)
            return "picture" if is_seen else "file"
        if asked == "cells":
            return "cells" if 0 < len(self.fields) <= MOST_FIELDS else "file"
        return asked

    @property
    def fields(self) -> tuple[Field, ...]:
        if self.is_choice:
            return (Field(self.modality.name, tuple((c, c) for c in self.classes)),)
        return tuple(_field(column) for column in columns_of(self.modality))

    @property
    def is_choice(self) -> bool:
        """Whether a value is one of several classes."""
        return self.modality.likelihood == "categorical" and len(self.modality.shape) == 1

    @property
    def classes(self) -> Sequence[str]:
        """The classes of a choice."""
        return self.modality.names or [str(k) for k in range(self.modality.shape[0])]

    @property
    def has_holes(self) -> bool:
        """Whether single entries can be left out."""
        return bool(self.modality.columns) or self.modality.holes

    def read(self, raw: Any) -> Value | None:
        """A value of what a person gives; None if that is nothing.

        Args:
            raw: by form: an array (H, W) or (H, W, 3) of bytes, a picture's file or its content; a
                text; {column: word or number}; a file.

        Raises ValueError in one sentence for what cannot be read, and what is too large.
        """
        if raw is None or (isinstance(raw, str) and not raw.strip()):
            return None
        read = {
            "picture": self._picture,
            "text": self._text,
            "cells": self._cells,
            "file": self._file,
        }[self.form](raw)
        if read is not None:
            kind_of(self.modality).check(read.x, self.modality, f"{self.modality.name!r}")
        return read

    # Pictures.

    def _picture(self, raw: Any) -> Value:
        """Pixels as the model reads them: cut in the middle and scaled if the size is another."""
        pixels = self._pixels(raw)
        m, (channels, height, width) = self.modality, self.modality.shape
        notes: list[str] = []
        if pixels.shape[:2] != (height, width):
            if not isinstance(raw, bytes):  # of a drawing nobody asks
                notes.append(_scaled_text(m.name, pixels.shape[:2], (height, width)))
            pixels = resized(pixels, (channels, height, width), crop=True)
        return Value(kind_of(m).fit(shares(pixels), m, Path(m.name)), notes)

    def _pixels(self, raw: Any) -> np.ndarray:
        """An array (H, W) or (H, W, 3)."""
        name = self.modality.name
        if isinstance(raw, str | Path):
            check_file(Path(raw), MAX_MB)
            return read_picture(Path(raw), Path(raw).name)
        size = len(raw) if isinstance(raw, bytes) else np.asarray(raw).nbytes
        if size > MAX_MB * 1e6:
            raise ValueError(
                f"{name!r} must have at most {MAX_MB:g} MB, got {size / 1e6:.0f}; make the picture"
                " smaller."
            )
        if isinstance(raw, bytes):
            return read_picture(io.BytesIO(raw), f"The picture of {name!r}", over_white=True)
        pixels = np.asarray(raw)
        if pixels.dtype != np.uint8 or not _is_plane(pixels.shape):
            raise ValueError(
                f"{name!r} must be a picture (H, W) or (H, W, 3) of bytes, got {pixels.dtype} of"
                f" shape {pixels.shape}."
            )
        return pixels

    # Texts and files.

    def _text(self, raw: Any) -> Value:
        text = str(raw)
        if len(text) > MOST_LETTERS:
            raise ValueError(
                f"{self.modality.name!r} must have at most {MOST_LETTERS:,} letters, got"
                f" {len(text):,}; shorten it."
            )
        return Value(ids_of([text], self.modality), remarks([text], self.modality))

    def _file(self, raw: Any) -> Value:
        """The first sample in a file."""
        path, m = Path(raw), self.modality
        check_file(path, MAX_MB)
        check_expanded(path, EXPANDED_MB)
        x = kind_of(m).read(path, m)
        notes = [f"{m.name}: the first of {len(x)} samples in {path.name}."] if len(x) > 1 else []
        return Value(x[:1], notes)

    # Cells.

    def _cells(self, raw: Any) -> Value | None:
        """A row of the cells that are given; None if there is none."""
        if not isinstance(raw, Mapping):
            raise ValueError(
                f"{self.modality.name!r} must be a mapping such as {{column: value}}, got"
                f" {shown(raw)}."
            )
        names = [each.name for each in self.fields]
        for name in raw:
            check_name(name, names, "column", f" of {self.modality.name!r}")
        words = {name: "" if v is None else str(v).strip() for name, v in raw.items()}
        given = {name: word for name, word in words.items() if word}
        if not given:
            return None
        if self.is_choice:
            return Value(self._one_hot(given[self.modality.name]), [])
        columns = columns_of(self.modality)
        row = [_number(given.get(c.name, ""), c) for c in columns]
        x = torch.tensor([row])
        if bool(x.isnan().all()):
            return None
        if self.has_holes or not bool(x.isnan().any()):
            return Value(x, [])
        return self._with_usual(dict(zip((c.name for c in columns), row, strict=True)))

    def words(self, x: Tensor) -> dict[str, str]:
        """A row (1, d) as the cells that `read` reads, without its holes."""
        if self.is_choice:
            return {self.modality.name: self.classes[int(x[0].argmax())]}
        columns, row = columns_of(self.modality), x[0].double().tolist()
        return {
            c.name: digits(decoded([v], c)[0]) for c, v in zip(columns, row, strict=True) if v == v
        }

    def _one_hot(self, word: str) -> Tensor:
        classes = list(self.classes)
        if word not in classes:
            raise unknown(f"class {word!r} of {self.modality.name!r}", word, classes)
        return torch.eye(len(classes))[[classes.index(word)]]

    def _with_usual(self, row: Mapping[str, float]) -> Value:
        """A row whose holes have the usual value, of a model that knows no holes.

        Raises ValueError if the usual values are not known.
        """
        if self.modality.names is None:
            left = [name for name, v in row.items() if v != v]
            raise ValueError(
                f"{self.modality.name!r} needs all {len(row)} values, because the model was trained"
                f" without holes; not given: {', '.join(left[:5])}."
            )
        text = ",".join(f"{name}:{v!r}" for name, v in row.items() if v == v)
        x, note = value_of_words(text, self.modality, self.usual)
        return Value(x, [note])


def inputs_of(
    modalities: Sequence[Modality], usual: Mapping[str, Sequence[float]]
) -> Iterator[Input]:
    """How each modality is given; see `Input`."""
    for m in modalities:
        yield Input(m, usual.get(m.name))


def _field(column: Column) -> Field:
    """What can be given of a column."""
    if column.type in CODED:
        named = SWITCH if is_switch(column) else {}
        return Field(column.name, tuple((named.get(c, c), c) for c in column.categories))
    if column.dtype.startswith("date"):
        return Field(column.name, (), f"a date such as {_example(column)}")
    hints = {
        "positive": "a positive number",
        "count": "a whole number from 0",
        "bounded": f"a number from {column.low:g} to {column.high:g}",
    }
    return Field(column.name, (), hints.get(column.type, "a number"))


def is_switch(column: Column) -> bool:
    """Whether a column holds zeros and ones that stand for no and yes."""
    return column.type == "boolean" and column.categories == tuple(SWITCH)


def _example(column: Column) -> str:
    return str(decoded([19_900.0], column)[0])


def _number(text: str, column: Column) -> float:
    """A word as a number of a column, NaN for nothing.

    Raises ValueError for what the column cannot have.
    """
    as_words = column.type in CODED and column.dtype == "str"
    date_format = column.dtype[len(DATE) : -1] if column.dtype.startswith(DATE) else None
    try:
        cells = cells_of_text(
            column.name, [text], Places(), as_words=as_words, date_format=date_format
        )
        values, unseen = numbers_of(cells, column)
    except ValueError:
        hint = _field(column).hint or "one of its categories"
        raise ValueError(f"{column.name!r} must be {hint}, got {shown(text)}.") from None
    if unseen:
        word = next(iter(unseen))
        raise unknown(f"category {word!r} of {column.name!r}", word, column.categories)
    return float(values[0])


def _is_plane(shape: Sequence[int]) -> bool:
    """Whether an array of this shape is a picture with pixels."""
    return 0 not in shape and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))


def _scaled_text(name: str, size: tuple[int, ...], new: tuple[int, int]) -> str:
    """How a picture of one (height, width) became one of another.

    >>> _scaled_text("a", (64, 64), (32, 32))
    'a: the picture of 64 × 64 pixels was scaled to 32 × 32.'
    """
    (h, w), (height, width) = size, new
    cut = "" if h * width == w * height else "cut in the middle and "
    return f"{name}: the picture of {w} × {h} pixels was {cut}scaled to {width} × {height}."
