"""Covariates of counts and vectors: a column that says, for example, in which batch each cell was
measured.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Covariate
from polymodal.checks import shown
from polymodal.data.tables import UserTable

MOST = 100  # categories
USUAL = re.compile(
    r"(.*[_. :-])?(batch|donor|sample|lane|library|plate|patient|individual)([_. -]?(id|key|nr))?",
    re.IGNORECASE,
)


def covariate_of(column: str, words: Sequence[str | None], rows: np.ndarray, m: str) -> Covariate:
    """The covariate in a column, with the categories of the training part.

    Args:
        words: of all samples, None where there is none.
        rows: the training part.
        m: the modality that it is to be told of.

    Raises ValueError for fewer than 2 and more than `MOST` categories.
    """
    counts = Counter(words[row] for row in rows.tolist())
    counts.pop(None, None)
    if not 2 <= len(counts) <= MOST:
        raise ValueError(
            f"batch_key of {m!r} needs a column of 2 to {MOST} categories in the training part, and"
            f" {column!r} has {len(counts)}; name another column, or leave batch_key out."
        )
    categories = sorted(word for word in counts if word is not None)
    shares = tuple(counts[word] / sum(counts.values()) for word in categories)
    return Covariate(column, tuple(categories), shares)


def places_of(
    covariate: Covariate, words: Sequence[str | None], m: str
) -> tuple[Tensor, list[str]]:
    """The places (N,) of the categories of samples, and a sentence on those that have none."""
    places = torch.tensor(covariate.places(words), dtype=torch.int64)
    lacking = places < 0
    if not lacking.any():
        return places, []
    count = f"{int(lacking.sum()):,} of {len(places):,} samples"
    others = {word for word in words if word is not None} - set(covariate.categories)
    named = f" ({', '.join(map(shown, sorted(others)[:3]))})" if others else ""
    return places, [
        f"{count} have no category of training in {covariate.column!r}{named}; for {m!r} they are"
        " read as the average of the categories."
    ]


def hint(table: UserTable, columns: Iterable[str], modalities: Sequence[str]) -> str | None:
    """A sentence for who may want to name a covariate; None if no column looks like one.

    Args:
        columns: of the table, that have no other use.
        modalities: that could be told a covariate.
    """
    found = next((c for c in columns if _looks_like_one(table, c)), None)
    if found is None or not modalities:
        return None
    return (
        f"Column {found!r} looks like a batch of measurement. It is not used; if the latent is to"
        f" be free of it, write batch_key: {found} into the description of {modalities[0]!r}."
    )


def _looks_like_one(table: UserTable, column: str) -> bool:
    if USUAL.fullmatch(column) is None:
        return False
    words = set(table.cells(column).as_words()) - {None}
    return 2 <= len(words) <= MOST
