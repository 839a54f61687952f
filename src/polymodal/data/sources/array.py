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
from polymodal.data.kinds import kind_of, kind_of_array
from polymodal.data.readers.archives import read_arrays
from polymodal.data.sources.source import Place, Samples, Source, register
from polymodal.data.units import standardised_modality

SMALLER = "write fewer samples into it, or smaller types"


class ArrayEntry(Group):
    """An array (N, ...) of numbers.

    Args:
        file: an .npz or .npy file.
        array: its name in the file; None: the only one.
        key: the array of that file that names the samples; None: value i is that of row i.
    """

    file: FileName
    array: str | None = None
    key: str | None = None


@dataclass
class Values(Samples):
    """Numbers x (N, ...), of which NaN are holes."""

    x: np.ndarray
    keys: Sequence[str] | None = None
    names: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.x)

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        """Standardised by `rows`, as arrays without a description are by their training part."""
        modality = kind_of_array(self.x).describe(name, [self.x])
        modality = replace(modality, names=None if self.names is None else tuple(self.names))
        return described_by(modality, self.values(modality)[0], rows)

    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        x = kind_of(modality).table(self.x, modality)
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
    chosen, present = x[list(rows)], observed(x)[list(rows)]
    train = Dataset([modality], {modality.name: chosen}, present={modality.name: present})
    holes = chosen.is_floating_point() and bool(chosen[present].isnan().any())
    return replace(standardised_modality(modality, train), holes=holes)


def observed(x: Tensor) -> Tensor:
    """Which values (N, *shape) have an entry that is no hole, (N,) bool."""
    if not x.is_floating_point():
        return torch.ones(len(x), dtype=torch.bool)
    return ~x.isnan().flatten(1).all(1)


@register
class ArraySource(Source):
    """`source: array`: an array in an .npz or .npy file."""

    name = "array"
    Entry = ArrayEntry

    def read(self, name: str, entry: ArrayEntry, place: Place) -> Samples:
        path = place.path(entry.file)
        arrays = place.arrays.get(path) or read_arrays(path, smaller=SMALLER)
        x = _chosen(arrays, entry.array, entry.file, name)
        if x.dtype.kind not in "biuf":
            raise ValueError(
                f"The array of {name!r} in {path} must hold numbers, got {x.dtype}; write words as"
                " a column of a table."
            )
        if entry.key is None:
            return Values(x)
        keys = [str(key) for key in _chosen(arrays, entry.key, entry.file, name).tolist()]
        if len(keys) != len(x) or len(set(keys)) < len(keys):
            raise ValueError(
                f"The keys {entry.key!r} in {path} must be {len(x)} different words, one for each"
                f" value of {name!r}, got {len(keys)}, {len(set(keys))} of them different."
            )
        return Values(x, keys)


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
