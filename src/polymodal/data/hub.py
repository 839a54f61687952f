"""Data sets of Hugging Face's package `datasets`, by what they offer: the package is not imported.

Such a data set has `column_names`, `features` and, for a column, a list of values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polymodal.checks import shown
from polymodal.data.readers.pictures import resized

if TYPE_CHECKING:
    import pandas as pd

PARTS = {"train": "train", "validation": "val", "valid": "val", "val": "val", "test": "test"}
SPLIT = "split of the data set"  # the column that is added
USUAL = 64  # height and width of pictures of different sizes


class Read(NamedTuple):
    """The columns of a data set.

    Args:
        frame: of numbers and words, N rows.
        arrays: of pictures and vectors, {column: (N, ...)}.
        split: the column of `frame` that says the part; None: there is none.
    """

    frame: pd.DataFrame
    arrays: dict[str, np.ndarray]
    split: str | None


def is_hub(given: Any) -> bool:
    """Whether data are a data set of `datasets`, or a mapping of its splits."""
    if isinstance(given, Mapping):
        return bool(given) and all(map(is_hub, given.values()))
    return hasattr(given, "column_names") and hasattr(given, "features")


def read_hub(given: Any) -> Read:
    """The columns of a data set, or of splits train, validation and test.

    Class labels become their names, pictures of different sizes are resized to 64 x 64.

    Raises ValueError for other splits, and for columns that are none of numbers, words, pictures
    and equally long vectors.
    """
    import pandas as pd

    splits = dict(given) if isinstance(given, Mapping) else {"train": given}
    if unknown := sorted(splits.keys() - PARTS.keys()):
        raise ValueError(f"The splits must be {', '.join(PARTS)}, got {shown(unknown)}.")
    names = list(next(iter(splits.values())).column_names)
    plain: dict[str, list[Any]] = {}
    arrays: dict[str, np.ndarray] = {}
    for name in names:
        values = list(_values(name, splits.values()))
        first = next((value for value in values if value is not None), None)
        if hasattr(first, "convert") and hasattr(first, "mode"):
            arrays[name] = _pictures(name, values)
        elif isinstance(first, list | tuple | np.ndarray):
            arrays[name] = _vectors(name, values)
        elif isinstance(first, Mapping):
            raise ValueError(
                f"The column {name!r} holds {shown(sorted(map(str, first)))}, which is not read;"
                " leave it out (remove_columns), or give its values as arrays."
            )
        else:
            plain[name] = values
    frame = pd.DataFrame(plain)
    if len(splits) > 1:
        frame[SPLIT] = [PARTS[part] for part, data in splits.items() for _ in range(len(data))]
    return Read(frame, arrays, SPLIT if len(splits) > 1 else None)


def _values(column: str, splits: Any) -> Iterator[Any]:
    """The values of a column in all splits, class labels as their names."""
    for data in splits:
        words: Sequence[str] = getattr(data.features[column], "names", None) or ()
        for value in data[column]:
            if words:  # -1 is no class
                yield words[value] if isinstance(value, int) and value >= 0 else None
            else:
                yield value


def _pictures(name: str, values: Sequence[Any]) -> np.ndarray:
    """Pictures of one size (N, H, W, C), bytes."""
    if any(value is None for value in values):
        raise ValueError(
            f"The column {name!r} lacks some pictures; leave those rows out (filter), or write the"
            " pictures into a folder, where a sample may lack one."
        )
    is_grey = all(value.mode in ("1", "L") for value in values)
    pixels = [np.asarray(value.convert("L" if is_grey else "RGB")) for value in values]
    if len({x.shape for x in pixels}) > 1:
        size = (1 if is_grey else 3, USUAL, USUAL)
        pixels = [resized(x, size) for x in pixels]
    return np.stack(pixels)


def _vectors(name: str, values: Sequence[Any]) -> np.ndarray:
    """Vectors of one length as an array, NaN where there is none."""
    found = [None if value is None else np.asarray(value) for value in values]
    shapes = {x.shape for x in found if x is not None}
    if len(shapes) > 1 or any(x is not None and x.dtype.kind not in "biuf" for x in found):
        raise ValueError(
            f"The column {name!r} must hold lists of numbers of one length, got"
            f" {shown(sorted(shapes)[:3])}; leave it out (remove_columns), or pad it."
        )
    if all(x is not None for x in found):
        return np.stack(found)  # type: ignore[arg-type]
    empty = np.full(next(iter(shapes)), np.nan)
    return np.stack([empty if x is None else x for x in found])
