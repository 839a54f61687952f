"""A modality of single cells, in a file of anndata or mudata."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import Count, FileName, Group, check_name, shown
from polymodal.data.kinds import KINDS
from polymodal.data.mapped import as_table
from polymodal.data.readers.cells import is_cells, read_cells
from polymodal.data.readers.mapped import Room, kept
from polymodal.data.sources.array import described_by, observed
from polymodal.data.sources.source import Place, Samples, Source, register
from polymodal.data.variable import most_variable

MAX_DENSE = 2.0  # GB of a modality in memory
VALUES = 2**22  # that are made dense at a time
FEW, RARELY = 10, 0.01  # counts are below FEW in more than that share


class CellsEntry(Group):
    """A modality of a file of cells.

    Args:
        file: an .h5ad or .h5mu file; None: the main one.
        modality: of an .h5mu file; None: the only one.
        layer: of the values; None: X.
        obsm: values that are kept as arrays beside X, such as X_pca, instead of it.
        features: use that many features, those that vary most in the training part; None: all.
        counts: whether the values are counts; None: whether they look like counts.
        batch_key: the column of the main table that says in which batch a cell was measured, which
            the networks of the modality are told; None: they are told nothing.
    """

    file: FileName | None = None
    modality: str | None = None
    layer: str | None = None
    obsm: str | None = None
    features: Count | None = None
    counts: bool | None = None
    batch_key: str | None = None


@dataclass(kw_only=True)
class CellValues(Samples):
    """Values of cells.

    Args:
        path: the file, or the data in words.
        x: (n, p), an array or a sparse matrix in rows.
        features: their names; None: they have none.
        used: how many of them are used; None: all.
        counts: whether the values are counts; None: whether they look like counts.
        notes: sentences on the names.
        keys: the names of the cells.
        room: values that it does not hold are written, dense, into a file; None: they are refused
            above `MAX_DENSE`.
        how: in what the values of one file differ.
    """

    path: Path | str
    x: Any
    features: Sequence[str] | None
    used: int | None
    counts: bool | None
    notes: Sequence[str]
    keys: Sequence[str] | None
    room: Room | None = None
    how: str = ""

    def __len__(self) -> int:
        return self.x.shape[0]

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        """Counts, yes and no, or other numbers, which are standardised.

        Raises ValueError for counts that are no whole numbers.
        """
        taken = np.arange(self.x.shape[1])
        counts = is_counts(self.x) if self.counts is None else self.counts
        if counts and not is_whole(self.x):
            raise ValueError(
                f"The values of {name!r} in {self.path} are not all whole numbers of 0 and more;"
                " write counts: false into its description, or layer: NAME for the layer of counts."
            )
        if self.used is not None and self.used < len(taken):
            taken = most_variable(self.x[np.asarray(rows)], self.used, counts)
        x = self._dense(taken, name)
        names = None if self.features is None else tuple(self.features[k] for k in taken)
        kind = "counts" if counts else "vector"
        modality = replace(KINDS[kind].describe(name, [x]), kind=kind, names=names)
        return described_by(modality, torch.from_numpy(x), rows)

    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        """Features that the modality has and the file does not are holes."""
        place = {name: k for k, name in enumerate(self.features or ())}
        names = modality.names
        taken = np.arange(self.x.shape[1])
        if names is not None and self.features is not None:
            taken = np.array([place.get(name, -1) for name in names])
        if len(taken) != modality.shape[0]:
            raise ValueError(
                f"{self.path} has {len(taken):,} values of {modality.name!r} for a cell, and"
                f" {modality.shape[0]:,} are expected."
            )
        x = self._dense(taken, modality.name)
        table = as_table(x, modality, modality.name)
        return table, observed(table), [*self.notes, *self._notes(modality, taken)]

    def _dense(self, taken: np.ndarray, name: str) -> np.ndarray:
        """Some columns, float32; NaN for those of the place -1. In a file, if they are large."""
        size = len(self) * len(taken) * 4
        if self.room is None and size > MAX_DENSE * 2**30:
            raise ValueError(
                f"{len(self):,} cells by {len(taken):,} features of {name!r} take"
                f" {size / 2**30:.1f} GB in memory, more than {MAX_DENSE:g} GB; write features:"
                " 2000 into its description to use those that vary most."
            )
        if self.room is None or self.room.holds(size) or not isinstance(self.path, Path):
            return self._rows(slice(None), taken)
        some = max(1, VALUES // len(taken))
        how = f"{self.how} {hashlib.sha256(taken.tobytes()).hexdigest()}"
        parts = (self._rows(slice(k, k + some), taken) for k in range(0, len(self), some))
        shape = (len(self), len(taken))
        return kept(self.path, how, shape, np.dtype(np.float32), lambda: parts)

    def _rows(self, rows: slice, taken: np.ndarray) -> np.ndarray:
        """Some rows of these columns, float32."""
        x = self.x[rows][:, np.maximum(taken, 0)]
        dense = np.asarray(x.toarray() if hasattr(x, "toarray") else x, np.float32)
        if (taken < 0).any():
            dense = np.where(taken < 0, np.float32(np.nan), dense)
        return np.ascontiguousarray(dense)

    def _notes(self, modality: Modality, taken: np.ndarray) -> Sequence[str]:
        lacking, count = int((taken < 0).sum()), self.x.shape[1]
        if lacking:
            return [
                f"{lacking:,} of {len(taken):,} features of {modality.name!r} are not in"
                f" {self.path}; they are read as holes."
            ]
        if len(taken) < count:
            return [self._left_out(modality, taken)]
        return []

    def _left_out(self, modality: Modality, taken: np.ndarray) -> str:
        """A sentence on the features that are not used."""
        count = self.x.shape[1]
        total = np.nan_to_num(np.asarray(self.x.sum(0), np.float64)).ravel()
        share = ""
        if modality.kind == "counts" and total.sum() > 0:
            share = f", which hold {1 - total[taken].sum() / total.sum():.0%} of the counts"
        return (
            f"{len(taken):,} of {count:,} features of {modality.name!r} are used, those that vary"
            f" most in the training part (features:); {count - len(taken):,} are left out{share}."
        )


def is_whole(x: Any) -> bool:
    """Whether all numbers of an array or sparse matrix, but NaN, are whole and none is negative."""
    seen = _seen(x)
    return bool(seen.size and (seen >= 0).all() and (seen == np.round(seen)).all())


def is_counts(x: Any) -> bool:
    """Whether numbers look like counts: whole ones, some of them small. Those of an array of which
    hardly one is below 10 are measured.

    >>> is_counts(np.array([[0.0, 3.0, 60197.0]])), is_counts(np.array([[373.0, 60197.0]]))
    (True, False)
    """
    if not is_whole(x):
        return False
    stored = _seen(x)
    zeros = math.prod(x.shape) - stored.size if hasattr(x, "toarray") else 0
    return bool(zeros + (stored < FEW).sum() >= RARELY * (zeros + stored.size))


def _seen(x: Any) -> np.ndarray:
    """The numbers that are stored and no NaN."""
    stored = x.data if hasattr(x, "toarray") else x
    return stored[~np.isnan(stored)] if stored.dtype.kind == "f" else stored


def feature_names(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of features as a modality can have them, all different, and sentences on those that
    were changed.

    >>> feature_names(["chr1:5-9", "A", "A"])[0]
    ['chr1-5-9', 'A', 'A_2']
    """
    taken: set[str] = set()
    names = []
    for name in given:
        bare = own = _bare(str(name))
        number = 1
        while own in taken:
            number += 1
            own = f"{bare}_{number}"
        taken.add(own)
        names.append(own)
    changed = [k for k, name in enumerate(names) if name != str(given[k])]
    if not changed:
        return names, []
    first = changed[0]
    return names, [
        f"{len(changed):,} features have other names here, since names come once and have no"
        f" comma or colon (first: {shown(names[first])} for {shown(str(given[first]))})."
    ]


def _bare(name: str) -> str:
    """A name without what separates names."""
    kept = "".join("-" if c in ",:" else c for c in name if c.isprintable()).strip()
    return f"_{kept}" if kept[:1] in ("", "-") else kept


@register
class CellsSource(Source):
    """`source: cells`: a modality of an .h5ad or .h5mu file."""

    name = "cells"
    Entry = CellsEntry

    def read(self, name: str, entry: CellsEntry, place: Place) -> Samples:
        file = entry.file or place.file
        if file is None or not is_cells(file):
            raise ValueError(
                f"{name!r} is read from an .h5ad or .h5mu file, got {shown(file)}; write file: into"
                " its description."
            )
        path = place.path(file)
        values = cell_values(read_cells(path).modalities, entry, name, path)
        how = f"{entry.modality} {entry.layer} {entry.obsm}"
        return replace(values, room=place.room, how=how)


def cell_values(
    held: Mapping[str, Any], entry: CellsEntry, name: str, path: Path | str
) -> CellValues:
    """The values of a modality.

    Args:
        held: objects of anndata by name.
        path: of the file, or the data in words.

    Raises ValueError for values that are no numbers or not there, and cells that come twice.
    """
    x, keys, features = _values(held, entry, name, path)
    if x.dtype.kind not in "biuf":
        raise ValueError(f"The values of {name!r} in {path} must be numbers, got {x.dtype}.")
    if len(set(keys)) < len(keys):
        twice = Counter(keys).most_common(1)[0][0]
        raise ValueError(
            f"{path} has the cell {shown(twice)} twice in {name!r}; make the names of cells"
            " unique (obs_names_make_unique)."
        )
    named, notes = (None, []) if features is None else feature_names(features)
    return CellValues(
        path=path,
        x=x,
        features=named,
        used=entry.features,
        counts=entry.counts,
        notes=notes,
        keys=keys,
    )


def _values(
    held: Mapping[str, Any], entry: CellsEntry, name: str, path: Path | str
) -> tuple[Any, list[str], list[str] | None]:
    """The values (n, p), the names of the cells, and those of the features, if they have some."""
    data = modality_in(held, entry.modality, name, path)
    keys = [str(key) for key in data.obs_names]
    if entry.obsm is not None:
        check_name(entry.obsm, data.obsm, "obsm", f" of {name!r} in {path}")
        x = data.obsm[entry.obsm]
        columns = [str(c) for c in x.columns] if hasattr(x, "columns") else None
        return _as_matrix(x.to_numpy() if columns else x), keys, columns
    if entry.layer is not None:
        check_name(entry.layer, data.layers, "layer", f" of {name!r} in {path}")
    x = data.X if entry.layer is None else data.layers[entry.layer]
    if x is None or 0 in x.shape:
        raise ValueError(
            f"{path} has no values of {name!r} (X is empty); write layer: or obsm: into its"
            " description."
        )
    return _as_matrix(x), keys, [str(feature) for feature in data.var_names]


def _as_matrix(x: Any) -> Any:
    """An array, or a sparse matrix in rows."""
    return x.tocsr() if hasattr(x, "tocsr") else np.asarray(x)


def modality_in(held: Mapping[str, Any], modality: str | None, name: str, path: Path | str) -> Any:
    """The object of anndata of one modality. Raises ValueError if there is none."""
    if modality is None and len(held) == 1:
        return next(iter(held.values()))
    if modality is None:
        raise ValueError(
            f"{path} holds the modalities {sorted(held)}; write modality: NAME into the description"
            f" of {name!r}."
        )
    if list(held) == [""]:
        raise ValueError(f"{path} holds one modality; leave modality: {modality} out.")
    check_name(modality, held, "modality", f" in {path}")
    return held[modality]
