"""Text: words or characters as ids."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from polymodal.batch import Modality, escaped
from polymodal.checks.files import read_bytes, regular
from polymodal.data.kinds.draws import draws_as_csv
from polymodal.data.kinds.kind import Fault, Kind, Shape, register
from polymodal.data.kinds.lettering import lettered
from polymodal.data.words import (
    holds_words,
    ids_of,
    is_of_characters,
    remarks,
    texts_of,
    vocabulary_of,
    words_of,
)
from polymodal.distributions.likelihoods import likelihood_of
from polymodal.distributions.tokens import LONGEST, after_end

log = logging.getLogger("polymodal")

MAX_MB = 100  # of a file of texts
ARRAYS = (".npy", ".npz")


@register
class Text(Kind):
    """Texts of at most L words, as ids (L,) of a vocabulary; see `polymodal.data.words`."""

    name = "text"
    likelihood = "tokens"
    asked = "text"

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 1

    def claims(self, x: np.ndarray) -> bool:
        """Arrays of words."""
        return x.ndim == 1 and holds_words(x)

    def network(self, modality: Modality) -> str:
        """2d convolutions for words, 1d ones for characters; mlp for texts of more than 128."""
        if modality.shape[0] > LONGEST:
            return "mlp"
        return "text-conv" if is_of_characters(modality) else "sentence-conv"

    def describe(self, name: str, parts: Sequence[np.ndarray]) -> Modality:
        """Texts of at most as many words as the longest, and at most 128; every word of every part
        is in the vocabulary, or the 10,000 most frequent ones.
        """
        texts = [text for part in parts for text in part.tolist()]
        longest = max((len(words_of(text)) for text in texts), default=0)
        vocabulary = vocabulary_of(texts)
        if longest == 0:
            raise ValueError(f"{name!r} must hold texts, and it holds no word.")
        shape = (min(longest + 1, LONGEST),)
        return Modality(name, shape, self.likelihood, kind=self.name, vocabulary=vocabulary)

    def as_table(self, x: Any, modality: Modality, what: str = "") -> Tensor:
        """Texts, or their ids, as ids (N, L)."""
        if modality.vocabulary and holds_words(x):
            return ids_of(np.asarray(x).reshape(-1).tolist(), modality)
        return super().as_table(x, modality, what)

    def faults(self, x: Tensor, modality: Modality) -> Iterator[Fault]:
        """Also words after the end of their text."""
        yield from super().faults(x, modality)
        if likelihood_of(modality).words:
            after = after_end(x) & (x != 0)
            yield after, "after the end (0) of their text", "set them to 0"

    def load(self, file: Path, name: str) -> np.ndarray:
        """A .txt file with one text a line, an array of texts or ids, or a text itself in place of
        the name of a file. Raises ValueError for other files.
        """
        suffix = file.suffix.lower()
        if suffix in ARRAYS:
            return super().load(regular(file), name)
        if suffix == ".txt":
            return np.array(_lines(file))
        if os.path.exists(file):
            raise ValueError(
                f"{name!r} is read from .txt (one text a line), .npy and .npz files, or is the text"
                f" itself, got the file {file}."
            )
        return np.array([str(file)])

    def read(self, file: Path, modality: Modality) -> Tensor:
        """The texts (B, L) in a file, or the text that stands in the place of its name. Unknown
        words and texts that are cut are logged.

        Raises ValueError as `Kind.read`.
        """
        x = self.load(file, modality.name)
        if holds_words(x):
            for sentence in remarks(x.reshape(-1).tolist(), modality):
                log.warning("%s", sentence)
        ids = self.fit(x, modality, file)
        self.check(ids, modality, str(file))
        return ids

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Texts as small pictures of letters."""
        texts = texts_of(x, modality)
        return lettered(texts, modality.shape[0] if is_of_characters(modality) else None)

    def encode(self, x: Tensor, modality: Modality) -> tuple[str, bytes]:
        """One line of a .txt file."""
        (text,) = texts_of(x[None], modality)
        return ".txt", f"{text}\n".encode()

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """`<name>.csv`, the name `escaped`: sample, draw, text."""
        table = draws_as_csv(draws, ["text"], lambda x: [[t] for t in texts_of(x, modality)])
        return {f"{escaped(modality.name)}.csv": table}


def _lines(file: Path) -> list[str]:
    """The lines of a text file. Raises ValueError for other files than of UTF-8."""
    try:
        return read_bytes(file, MAX_MB).decode().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file} must be text in UTF-8; save it as such.") from None
