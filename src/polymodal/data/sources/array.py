"""An array in an .npz or .npy file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import FileName, Group, check_name, shown
from polymodal.data.dataset import Dataset
from polymodal.data.kinds import KINDS, kind_of_array
from polymodal.data.mapped import as_table
from polymodal.data.readers.archives import read_arrays
from polymodal.data.rows import in_parts, scan_holes
from polymodal.data.sources.source import Place, Samples, Source, register
from polymodal.data.units import standardised_modality

SMALLER = "write fewer samples into it, or smaller types"


class ArrayEntry(Group):
    """An array (N, ...) of numbers.

    Args:
        file: an .npz or .npy file; None: the main one.
        array: its name in the file; None: the only one.
        key: the array of that file that names the samples; None: value i is that of row i.
        counts: whether the numbers are counts of cells.
        batch_key: the column of the main table that says in which batch a sample was measured,
            which the networks of the modality are told; None: they are told nothing.
    """

    file: FileName | None = None
    array: str | None = None
    key: str | None = None
    counts: bool = False
    batch_key: str | None = None


@dataclass
class Values(Samples):
    """Numbers x (N, ...) in the file `path`, of which NaN are holes; they may be mapped. `counts`:
    of cells.
    """

    x: np.ndarray
    keys: Sequence[str] | None = None
    names: Sequence[str] | None = None
    counts: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        """Standardised by `rows`, as arrays without a description are by their training part."""
        kind = KINDS["counts"] if self.counts else kind_of_array(self.x)
        modality = kind.describe(name, [self.x])
        modality = replace(modality, names=None if self.names is None else tuple(self.names))
        return described_by(modality, self.values(modality)[0], rows)

    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        x = as_table(self.x, modality, modality.name)
        if x.shape[1:] != modality.shape:
            raise ValueError(
                f"Modality {modality.name!r} has the shape {modality.shape}, got values of the"
                f" shape {tuple(x.shape[1:])}."
            )
        return x, observed(x), []


def described_by(modality: Modality, x: Tensor, rows: Sequence[int]) -> Modality:
    """The modality with its scale learned, standardised by some rows of x (N, *shape), and with
    its holes.
    """
    chosen = torch.as_tensor(rows, dtype=torch.int64)
    train = Dataset([modality], {modality.name: x}, {modality.name: chosen})
    holes = modality.name in (train.holes or ()) and _has_partial(x, chosen)
    return replace(standardised_modality(modality, train), holes=holes)


def _has_partial(x: Tensor, rows: Tensor) -> bool:
    """Whether one of the rows of x (N, *shape) has some entries that are holes, and others."""
    shares = (some.isnan().flatten(1).double().mean(1) for _, some in in_parts(x, rows))
    return any(((share > 0) & (share < 1)).any() for share in shares)


def observed(x: Tensor) -> Tensor:
    """Which values (N, *shape) have an entry that is no hole, (N,) bool."""
    return scan_holes(x, torch.arange(len(x)))[0]


@register
class ArraySource(Source):
    """`source: array`: an array in an .npz or .npy file."""

    name = "array"
    Entry = ArrayEntry

    def read(self, name: str, entry: ArrayEntry, place: Place) -> Samples:
        file = entry.file or place.file
        if file is None:
            raise ValueError(f"{name!r} names no file; write file: into its description.")
        path = place.path(file)
        arrays = place.arrays.get(path) or read_arrays(path, smaller=SMALLER, room=place.room)
        x = _chosen(arrays, entry.array, file, name)
        if x.dtype.kind not in "biuf":
            raise ValueError(
                f"The array of {name!r} in {path} must hold numbers, got {x.dtype}; write words as"
                " a column of a table."
            )
        if entry.key is None:
            return Values(x, counts=entry.counts)
        keys = [str(key) for key in _chosen(arrays, entry.key, file, name).tolist()]
        if len(keys) != len(x) or len(set(keys)) < len(keys):
            raise ValueError(
                f"The keys {entry.key!r} in {path} must be {len(x)} different words, one for each"
                f" value of {name!r}, got {len(keys)}, {len(set(keys))} of them different."
            )
        return Values(x, keys, counts=entry.counts)


def _chosen(
    arrays: Mapping[str, np.ndarray], array: str | None, file: str, modality: str
) -> np.ndarray:
    """The array of this name, or the only one."""
    if array is None and len(arrays) == 1:
        return next(iter(arrays.values()))
    if array is None:
        raise ValueError(
            f"{file} holds {shown(sorted(arrays))}; write array: NAME into the description of"
            f" {modality!r}."
        )
    check_name(array, arrays, "array", f" in {file}")
    return arrays[array]
