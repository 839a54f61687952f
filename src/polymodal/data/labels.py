"""Labels: whole numbers or words, mapped once to the classes 0, 1, ..."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import in_words

Class = int | str


def mapped(label: Any) -> tuple[Tensor, tuple[Class, ...]]:
    """Labels (N,) as their places (N,) among the sorted different ones, and these.

    Raises ValueError for labels that are neither whole numbers nor words, one for each sample.

    >>> mapped(["b", "a", "b"]), mapped(np.array([-100.0, 0.0]))
    ((tensor([1, 0, 1]), ('a', 'b')), (tensor([0, 1]), (-100, 0)))
    """
    values = _array(label)
    if values.ndim != 1 or values.dtype.kind not in "biufUS":
        raise ValueError(
            "Labels must be whole numbers or words, one for each sample, got"
            f" {in_words(values.dtype)} of shape {values.shape}."
        )
    if values.dtype.kind == "S":
        values = np.array([v.decode("utf-8", "backslashreplace") for v in values.tolist()], str)
    classes, places = np.unique(values, return_inverse=True)
    device = label.device if isinstance(label, Tensor) else None
    return torch.from_numpy(places.astype(np.int64)).to(device), tuple(map(_class, classes))


def _array(label: Any) -> np.ndarray:
    if isinstance(label, Tensor):
        label = label.detach().cpu()
        label = (label.double() if label.is_floating_point() else label).numpy()
    try:
        values = np.asarray(label)
        return np.array(values.tolist()) if values.dtype.kind == "O" else values
    except ValueError:  # lists of different lengths
        return np.empty((), object)


def _class(value: Any) -> Class:
    """A label as Python's number or word."""
    if isinstance(value, str):
        return str(value)
    if not float(value).is_integer():
        raise ValueError(f"Labels must be whole numbers or words, got {value}.")
    return int(value)


def with_classes(label: Any, classes: Sequence[Class]) -> tuple[Tensor, tuple[Class, ...]]:
    """The labels as places among `classes`, if they are that already; else `mapped`."""
    if classes and isinstance(label, Tensor) and label.dtype == torch.int64 and len(label):
        if 0 <= int(label.min()) and int(label.max()) < len(classes):
            return label, tuple(classes)
    return mapped(label)


def united(parts: Iterable[Sequence[Class]]) -> tuple[Class, ...]:
    """All classes of several parts of a data set, sorted. Raises ValueError if some are numbers and
    some are words.
    """
    classes = {c for part in parts for c in part}
    if len({type(c) for c in classes}) > 1:
        raise ValueError(
            "The labels of all parts must be whole numbers, or words in all of them, got"
            f" {sorted(map(str, classes))[:10]}."
        )
    return tuple(sorted(classes))  # type: ignore[type-var]


def moved(label: Tensor, old: Sequence[Class], new: Sequence[Class]) -> Tensor:
    """Places among `old` as places among `new`."""
    place = {c: k for k, c in enumerate(new)}
    return torch.tensor([place[c] for c in old], device=label.device)[label]
