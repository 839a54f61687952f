"""Texts as ids of words, and ids as texts.

A text is read as words in lower case, without punctuation; under a vocabulary of single characters
it is read character by character.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import END, UNKNOWN, Modality
from polymodal.distributions.tokens import END_ID

UNKNOWN_ID = 1
MOST_WORDS = 10_000  # of a vocabulary that is made of a user's texts
WORD = re.compile(rf"{UNKNOWN}|[^\W_]+(?:['’][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text.

    >>> words_of("A small, long-billed bird; the bird's eye <unk>.")
    ['a', 'small', 'long', 'billed', 'bird', 'the', "bird's", 'eye', '<unk>']
    """
    return WORD.findall(text.lower())


def vocabulary_of(
    texts: Iterable[str], at_least: int = 1, most: int = MOST_WORDS
) -> tuple[str, ...]:
    """<end>, <unk>, and the words that occur `at_least` so many times, the most frequent first.

    >>> vocabulary_of(["a red bird", "a bird", "a nest"], at_least=2)
    ('<end>', '<unk>', 'a', 'bird')
    """
    counts = Counter(word for text in texts for word in words_of(text))
    counts.pop(UNKNOWN, None)
    frequent = [(-n, word) for word, n in counts.items() if n >= at_least]
    return (END, UNKNOWN, *(word for _, word in sorted(frequent)[:most]))


def is_of_characters(modality: Modality) -> bool:
    """Whether a vocabulary is one of single characters."""
    return all(len(word) == 1 for word in modality.vocabulary[2:])


def tokens(text: str, modality: Modality) -> list[str]:
    """The words or characters of a text, whether the vocabulary has them or not."""
    return list(text) if is_of_characters(modality) else words_of(text)


def ids_of(texts: Sequence[str], modality: Modality) -> Tensor:
    """Texts as ids (N, L) in the default float, 0 after the end; what the vocabulary has not is
    <unk>, and what is longer than L is cut.

    >>> m = Modality("x", (4,), "tokens", vocabulary=("<end>", "<unk>", "a", "bird"))
    >>> ids_of(["a red bird", "A bird."], m)
    tensor([[2., 1., 3., 0.],
            [2., 3., 0., 0.]])
    """
    place = {word: i for i, word in enumerate(modality.vocabulary)}
    (length,) = modality.shape
    ids = np.full((len(texts), length), END_ID, np.int64)
    for row, text in zip(ids, texts, strict=True):
        found = [place.get(word, UNKNOWN_ID) for word in tokens(text, modality)[:length]]
        row[: len(found)] = found
    return torch.from_numpy(ids).to(torch.get_default_dtype())


def texts_of(ids: Tensor, modality: Modality) -> list[str]:
    """Ids (N, L) as texts, up to the first <end>.

    >>> m = Modality("x", (3,), "tokens", vocabulary=("<end>", "<unk>", "a", "bird"))
    >>> texts_of(torch.tensor([[2.0, 3.0, 0.0]]), m)
    ['a bird']
    """
    between = "" if is_of_characters(modality) else " "
    texts = []
    for row in ids.long().tolist():
        end = row.index(END_ID) if END_ID in row else len(row)
        texts.append(between.join(modality.vocabulary[i] for i in row[:end]))
    return texts


def remarks(texts: Sequence[str], modality: Modality) -> list[str]:
    """What `ids_of` loses of texts, one sentence each."""
    known, (length,) = set(modality.vocabulary), modality.shape
    split = [tokens(text, modality) for text in texts]
    said = []
    if unknown := sorted({word for words in split for word in words} - known):
        few = ", ".join(repr(word) for word in unknown[:10])
        said.append(
            f"Words of {modality.name!r} that are not among the {len(modality.vocabulary) - 2} of"
            f" the vocabulary are read as {UNKNOWN}: {few}{', ...' if len(unknown) > 10 else ''}."
        )
    if cut := sum(len(words) > length for words in split):
        said.append(
            f"Texts of {modality.name!r} of more than {length} words are cut there: {cut} of"
            f" {len(texts)}."
        )
    return said


def holds_words(x: Any) -> bool:
    """Whether an array or list holds texts."""
    if isinstance(x, np.ndarray):
        return x.dtype.kind == "U"
    return isinstance(x, list | tuple) and bool(x) and all(isinstance(text, str) for text in x)
