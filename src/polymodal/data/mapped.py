"""Tables of a user's arrays, in files that are mapped into memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import AUTO, Memory, permitted
from polymodal.data.kinds import kind_of
from polymodal.data.readers.mapped import kept
from polymodal.data.rows import is_channels_last
from polymodal.data.splits import Splits

BYTES = 2**24  # of an array that are converted at a time
LARGE = 1e8  # bytes


def is_mapped(x: np.ndarray) -> bool:
    """Whether an array is that of a file, mapped."""
    return isinstance(x, np.memmap)


def as_table(x: np.ndarray, modality: Modality, name: str) -> Tensor:
    """The table (N, *shape) of an array (N, ...). Of one that is mapped: the array itself if it is
    stored as tables are; else it is converted once, into the cache.

    Args:
        name: of the array, by which those of a file differ.
    """
    kind = kind_of(modality)
    if not isinstance(x, np.memmap) or x.filename is None:
        return kind.table(x, modality)
    first = kind.table(x[:1], modality)
    if x.dtype.isnative and first.dtype in (torch.uint8, torch.get_default_dtype()):
        shared = _shared(x[:1])
        if kind.table(shared, modality).data_ptr() == shared.data_ptr():
            return kind.table(_shared(x), modality)
    size = max(1, BYTES // max(1, x[:1].nbytes))
    parts = (kind.table(x[k : k + size], modality) for k in range(0, len(x), size))
    how = f"{name} {x.offset} {x.shape} {x.strides} {modality.shape} {modality.kind}"
    return converted(Path(x.filename), how, len(x), first, parts)


def _shared(x: np.ndarray) -> Tensor:
    """A tensor of the same memory, also of an array that cannot be written: no table is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(x)


def converted(source: Path, how: str, count: int, like: Tensor, parts: Iterable[Tensor]) -> Tensor:
    """A table (N, *shape) whose parts are written once into a file of the cache, which is mapped,
    until the source changes its size or time.

    Args:
        how: in what the tables of one source differ.
        count: N.
        like: some rows of it; images that are channels-last in memory are so in the file.
        parts: (n, *shape) each; not looked at if the file is there.

    Raises ValueError if the file cannot be written.
    """
    last = is_channels_last(like)
    stored = like.permute(0, 2, 3, 1) if last else like
    shape = (count, *stored.shape[1:])

    def arrays() -> Iterable[np.ndarray]:
        for part in parts:
            yield (part.permute(0, 2, 3, 1) if last else part).contiguous().numpy()

    array = kept(source, how, shape, stored.numpy().dtype, arrays)
    x = torch.from_numpy(array)
    return x.permute(0, 3, 1, 2) if last else x


# Where data are.


def size_of(splits: Splits) -> int:
    """The bytes of all tables, each counted once."""
    tables = {t.data_ptr(): t for data in splits.parts.values() for t in data.tables.values()}
    return sum(t.numel() * t.element_size() for t in tables.values())


def within(splits: Splits, memory: Memory) -> Splits:
    """The splits, streamed if they take more than a size that the user gave."""
    if memory == AUTO or size_of(splits) <= permitted(memory):
        return splits
    return splits.map(lambda part, data: data.stream())


def is_worth_saying(splits: Splits) -> bool:
    """Whether a user cares where data are: on disk, or large."""
    return splits.train.streamed or size_of(splits) > LARGE


def where(splits: Splits, memory: Memory) -> str:
    """Where data are, in a sentence."""
    size = size_of(splits) / 1e9
    limit = f"data.memory: {memory}, {permitted(memory) / 1e9:.3g} GB"
    if splits.train.streamed:
        return f"The data ({size:.3g} GB) stay where they are, and are read ahead ({limit})."
    return f"The data ({size:.3g} GB) are held in memory ({limit})."
