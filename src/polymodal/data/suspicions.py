"""What looks suspicious in a data set, in sentences."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import CODED, Column, Modality
from polymodal.checks import shown
from polymodal.data.dataset import Dataset
from polymodal.data.grid import AT_ONCE, all_values, values_of
from polymodal.data.splits import Splits
from polymodal.data.tables.coding import decoded
from polymodal.data.tables.delimited import digits
from polymodal.data.tables.guess import are_almost_numbers

FAR = 10.0  # interquartile ranges from the median
SENTINELS = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0)
RECURS = 3  # times that a number which stands for nothing occurs
SAME = 0.99999  # correlation of columns that say the same
COMPARED = 300  # columns that are compared with one another
MOST = 2 * 10**8  # numbers of a data set in which copies are looked for


def suspicions(splits: Splits) -> Iterator[str]:
    """Sentences on single columns and on pairs of them."""
    for m in splits.modalities:
        if not m.columns:
            continue
        x = all_values(splits, m).double()
        for k, column in enumerate(m.columns):
            seen = x[:, k][~x[:, k].isnan()]
            yield from _of_words(column)
            if column.type not in CODED and len(seen):
                yield from _of_column(column, seen)
        yield from _same_columns(m, x)


def _of_column(column: Column, seen: Tensor) -> Iterator[str]:
    name = f"Column {column.name!r}"
    if seen.min() == seen.max():
        yield f"{name} is constant: {digits(seen[0].item())}."
        return
    if (number := _sentinel(seen)) is not None:
        remedy = f'if it stands for nothing, write empty: ["{number:g}"]'
        yield f"{_far(column, seen, number)}; {remedy}."
        return
    quarter, median, last = seen.quantile(torch.tensor([0.25, 0.5, 0.75]).double()).tolist()
    far = seen[(seen - median).abs() > FAR * max(last - quarter, 1e-12)]
    if column.type == "real" and last > quarter and len(far):
        furthest = far[(far - median).abs().argmax()].item()
        (shown_value,) = decoded([furthest], column)
        yield (
            f"{name} has {len(far)} values more than {FAR:g} interquartile ranges from its median,"
            f" the furthest {digits(shown_value)}."
        )


def sentinels(data: Dataset) -> Iterator[str]:
    """Sentences on numbers of tables that may stand for nothing, for users of Python."""
    for m in data.modalities:
        x = values_of(data, m).double() if m.columns else torch.zeros(0, 0)
        for k, column in enumerate(m.columns):
            seen = x[:, k][~x[:, k].isnan()]
            if column.type not in CODED and (number := _sentinel(seen)) is not None:
                yield f"{_far(column, seen, number)}; if it stands for nothing, make it NaN."


def _sentinel(seen: Tensor) -> float | None:
    """One of `SENTINELS` that recurs, outside of all other values by more than half their range."""
    for number in SENTINELS:
        is_it = seen == number
        others = seen[~is_it]
        if is_it.sum() < RECURS or not len(others):
            continue
        low, high = others.min().item(), others.max().item()
        if number < low - (high - low) / 2 or number > high + (high - low) / 2:
            return number
    return None


def _far(column: Column, seen: Tensor, number: float) -> str:
    count = int((seen == number).sum())
    return f"Column {column.name!r} has {number:g} in {count} rows, far from all other values"


def _of_words(column: Column) -> Iterator[str]:
    """Categories that differ only in capitals or spaces, and those that are numbers to a reader."""
    if column.dtype == "str" and are_almost_numbers(column.categories):
        yield (
            f"Column {column.name!r} has categories that may be numbers, such as"
            f" {shown(column.categories[0])}; if they are, write only digits and a decimal point."
        )
    alike: dict[str, list[str]] = {}
    for word in column.categories:
        alike.setdefault("".join(word.lower().split()), []).append(word)
    for words in alike.values():
        if len(words) > 1:
            listed = ", ".join(map(shown, words))
            yield f"Column {column.name!r} has categories that differ in little: {listed}."


def _same_columns(m: Modality, x: Tensor) -> Iterator[str]:
    """Pairs of columns that say the same in the rows that have both."""
    import pandas as pd

    numbers = [k for k, c in enumerate(m.columns[:COMPARED]) if c.type not in CODED]
    found = pd.DataFrame(x[:, numbers].numpy()).corr(min_periods=RECURS + 1).to_numpy()
    for i, k in np.argwhere(np.triu(np.abs(found) > SAME, 1)):
        names = f"{m.columns[numbers[i]].name!r} and {m.columns[numbers[k]].name!r}"
        yield f"Columns {names} say the same (correlation {found[i, k]:.5f})."


def duplicates(splits: Splits) -> Iterator[str]:
    """Samples that are equal in all values, within a part and between parts."""
    if _size(splits) > MOST:
        return
    prints = {part: _prints(data) for part, data in splits.parts.items()}
    counts = Counter(p for each in prints.values() for p in each)
    if extra := sum(n - 1 for n in counts.values()):
        yield f"{extra} samples are copies of others."
    train = set(prints["train"])
    for part in ("val", "test"):
        if leaked := sum(p in train for p in prints[part]):
            yield f"{leaked} samples of the {part} part are also in the training part."


def _size(splits: Splits) -> int:
    """The number of all numbers."""
    samples = sum(map(len, splits.parts.values()))
    return samples * sum(math.prod(m.shape) for m in splits.modalities)


def _prints(data: Dataset) -> list[bytes]:
    """A hash of the values of every sample."""
    prints = []
    for rows in torch.arange(len(data)).split(AT_ONCE):
        part = data.take(rows)
        values = [values_of(part, m).float().flatten(1) for m in data.modalities]
        whole = torch.cat(values, 1).nan_to_num(nan=-1.25e30).numpy()
        prints += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in whole]
    return prints
