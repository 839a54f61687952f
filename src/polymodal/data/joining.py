"""Samples of several files as one list, and its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from polymodal.checks import shown
from polymodal.data.description import Split
from polymodal.data.sources import Samples
from polymodal.data.splits import PARTS

ABSENT = -1
WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Joined:
    """N samples of several modalities.

    Args:
        rows: of each modality, the place of every sample among its values, (N,), or `ABSENT`.
        main: the row of every sample in the main table, (N,), or `ABSENT`.
    """

    rows: Mapping[str, np.ndarray]
    main: np.ndarray

    def __len__(self) -> int:
        return len(self.main)


def joined(samples: Mapping[str, Samples], main: Sequence[str] | int | None) -> Joined:
    """The samples of all files: by keys where all have them, those of the main table first; else
    by row.

    Args:
        main: the keys of the main table, or the number of its rows; None: there is no main table.

    Raises ValueError if some have keys and others do not, or numbers of rows differ.
    """
    named = {name for name, each in samples.items() if each.keys is not None}
    by_key = isinstance(main, Sequence)
    if named and (named != samples.keys() or isinstance(main, int)):
        without = sorted(samples.keys() - named) or ["the main table"]
        raise ValueError(
            f"Modalities {sorted(named)} have keys and {without} have none; give all of them one"
            " (key: COLUMN), or none, to pair them by row."
        )
    if by_key or named:
        return _by_key(samples, main if by_key else ())  # type: ignore[arg-type]
    sizes = {name: len(each) for name, each in samples.items()}
    sizes |= {} if main is None else {"the main table": main}  # type: ignore[dict-item]
    if len(set(sizes.values())) > 1:
        raise ValueError(
            "Files without keys are paired by row and need equally many rows, got"
            f" {', '.join(f'{n} of {name}' for name, n in sizes.items())}; name the samples by a"
            " column (key: COLUMN)."
        )
    rows = np.arange(next(iter(sizes.values())))
    return Joined(dict.fromkeys(samples, rows), rows)


def _by_key(samples: Mapping[str, Samples], main: Sequence[str]) -> Joined:
    keys = {key: k for k, key in enumerate(main)}
    for each in samples.values():
        for key in each.keys or ():
            keys.setdefault(key, len(keys))
    rows = {name: np.full(len(keys), ABSENT) for name in samples}
    for name, each in samples.items():
        rows[name][[keys[key] for key in each.keys or ()]] = np.arange(len(each))
    order = np.full(len(keys), ABSENT)
    order[: len(main)] = np.arange(len(main))
    return Joined(rows, order)


def unmatched(samples: Mapping[str, Samples], together: Joined) -> Iterator[str]:
    """Sentences on modalities no sample of which has another one, as where keys are written in
    different ways.
    """
    there = {m: rows != ABSENT for m, rows in together.rows.items()}
    for m, each in samples.items():
        others = [name for name in samples if name != m]
        if others and each.keys and not any((there[m] & there[name]).any() for name in others):
            theirs = samples[others[0]].keys or ("",)
            yield (
                f"No sample of {m!r} has another modality: its keys, such as"
                f" {shown(each.keys[0])}, are none of the others', such as {shown(theirs[0])}."
            )


# Parts.


def parts_by_column(words: Sequence[str | None], column: str) -> dict[str, np.ndarray]:
    """The samples of each part that a column names, of those that it has.

    Raises ValueError for other words than train, val and test, and if none is for training.
    """
    wrong = {word for word in words if word is None or word.lower() not in WORDS}
    if wrong:
        some = "an empty cell" if None in wrong else shown(sorted(map(str, wrong))[0])
        raise ValueError(
            f"The column {column!r} of split: must say {', '.join(PARTS)} for every sample, got"
            f" {some}."
        )
    parts = np.array([WORDS[str(word).lower()] for word in words])
    named = {part: np.flatnonzero(parts == part) for part in PARTS if (parts == part).any()}
    if "train" not in named:
        raise ValueError(f"The column {column!r} of split: names no sample for train.")
    return named


def random_parts(
    count: int, split: Split, seed: int, groups: Sequence[str | None] | None = None
) -> dict[str, np.ndarray]:
    """Random parts of `count` samples, each at least one sample.

    Args:
        groups: samples with the same word stay together; None: there are no groups.

    Raises ValueError for too few samples or groups.

    >>> {part: len(rows) for part, rows in random_parts(20, Split(), 0).items()}
    {'train': 16, 'val': 2, 'test': 2}
    """
    group = np.arange(count) if groups is None else _numbered(groups)
    units = int(group.max()) + 1
    held = {part: max(1, round(share * units)) for part, share in _shares(split).items()}
    left = units - sum(held.values())
    if left < 1:
        what = "samples" if groups is None else "groups"
        raise ValueError(
            f"{units} {what} are too few for a part of {held['val']} for val and {held['test']} for"
            " test; give more, or lower split.val and split.test."
        )
    generator = np.random.default_rng(seed if split.seed is None else split.seed)
    order = generator.permutation(units)
    ends = np.cumsum([left, held["val"]])
    return {
        part: np.flatnonzero(np.isin(group, chosen))
        for part, chosen in zip(PARTS, np.split(order, ends), strict=True)
    }


def _shares(split: Split) -> dict[str, float]:
    return {"val": split.val, "test": split.test}


def _numbered(words: Sequence[str | None]) -> np.ndarray:
    """Words as numbers 0, 1, ...; every empty one is a group of its own."""
    place: dict[object, int] = {}
    return np.array(
        [
            place.setdefault((k,) if word is None else word, len(place))
            for k, word in enumerate(words)
        ]
    )
