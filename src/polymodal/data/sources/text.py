"""Texts in a column of a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import FileName, Group
from polymodal.data.kinds.text import Text
from polymodal.data.sources.source import Place, Samples, Source, register
from polymodal.data.words import ids_of, remarks


class TextEntry(Group):
    """A column of texts.

    Args:
        column: its name.
        file: the table; None: the main one.
        key: the column of that table that names the samples; None: that of the description.
    """

    column: str
    file: FileName | None = None
    key: str | None = None


class Texts(Samples):
    """Texts, None where there is none."""

    def __init__(self, texts: Sequence[str | None], keys: Sequence[str] | None) -> None:
        self.texts, self.keys = texts, keys

    def __len__(self) -> int:
        return len(self.texts)

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        """The vocabulary is that of the training part."""
        texts = [text for text in (self.texts[row] for row in rows) if text is not None]
        return Text().describe(name, [np.array(texts, dtype=str)])

    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        present = torch.tensor([text is not None for text in self.texts])
        notes = remarks([text for text in self.texts if text is not None], modality)
        return ids_of([text or "" for text in self.texts], modality), present, notes


@register
class TextSource(Source):
    """`source: text`: a column of texts, one for each row."""

    name = "text"
    Entry = TextEntry

    def read(self, name: str, entry: TextEntry, place: Place) -> Samples:
        table = place.table(entry.file)
        cells = table.cells(entry.column, place.empty, as_words=True)
        return Texts(cells.as_words(), place.keys(table, entry.key))

    def taken(self, entry: TextEntry) -> Sequence[str]:
        return (entry.column,)
