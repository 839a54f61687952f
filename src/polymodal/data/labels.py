"""Labels: whole numbers or words, mapped once to the classes 0, 1, ..."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.checks import shown

Class = int | str


def mapped(label: Any) -> tuple[Tensor, tuple[Class, ...]]:
    """Labels (N,) as their places (N,) among the sorted different ones, and these.

    Raises ValueError for labels that are neither whole numbers nor words, one for each sample.

    >>> mapped(["b", "a", "b"]), mapped(np.array([-100.0, 0.0]))
    ((tensor([1, 0, 1]), ('a', 'b')), (tensor([0, 1]), (-100, 0)))
    """
    values = _listed(label)
    try:
        different: Iterable[Any] = dict.fromkeys(values)
    except TypeError:  # what cannot be hashed is no label either
        different = values
    known = {value: _class(value) for value in different}
    classes = united([known.values()])
    place = {c: k for k, c in enumerate(classes)}
    places = [place[known[v]] for v in values]
    device = label.device if isinstance(label, Tensor) else None
    return torch.tensor(places, dtype=torch.int64, device=device), classes


def _listed(label: Any) -> Sequence[Any]:
    """The labels one by one, as they are given."""
    values = label.tolist() if hasattr(label, "tolist") else label
    is_time = isinstance(label, np.ndarray) and label.dtype.kind in "mM"
    if is_time or isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise _refusal(label)
    return values


def _class(value: Any) -> Class:
    """A label as Python's number or word."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, str):
        return str(value)
    is_whole = isinstance(value, Integral) or (isinstance(value, Real) and value % 1 == 0)
    if not is_whole:
        raise _refusal(value)
    return int(value)


def _refusal(value: Any) -> ValueError:
    return ValueError(
        f"Labels must be whole numbers or words, one for each sample, got {shown(value)}."
    )


def with_classes(label: Any, classes: Sequence[Class]) -> tuple[Tensor, tuple[Class, ...]]:
    """The labels as places among `classes`, if they are that already; else `mapped`."""
    if classes and isinstance(label, Tensor) and label.dtype == torch.int64 and len(label):
        if 0 <= int(label.min()) and int(label.max()) < len(classes):
            return label, tuple(classes)
    return mapped(label)


def united(parts: Iterable[Iterable[Class]]) -> tuple[Class, ...]:
    """All classes of the parts of a data set, sorted. Raises ValueError if some are numbers and
    some are words.
    """
    classes = {c for part in parts for c in part}
    if len({type(c) for c in classes}) > 1:
        raise ValueError(
            "All labels must be whole numbers, or all of them words, got"
            f" {sorted(map(str, classes))[:10]}."
        )
    return tuple(sorted(classes))  # type: ignore[type-var]


def moved(label: Tensor, old: Sequence[Class], new: Sequence[Class]) -> Tensor:
    """Places among `old` as places among `new`."""
    place = {c: k for k, c in enumerate(new)}
    return torch.tensor([place[c] for c in old], device=label.device)[label]
