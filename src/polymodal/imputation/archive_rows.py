"""Rows of an .npz file of a user, with an array for each modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality, as_mask
from polymodal.data import Dataset, kind_of
from polymodal.data.npz import MASK
from polymodal.data.readers.archives import archive, read_arrays
from polymodal.data.words import holds_words, texts_of
from polymodal.imputation.completion import Completion
from polymodal.imputation.conformal import Calibration
from polymodal.imputation.rows import Rows, Values
from polymodal.runs.files import write_output
from polymodal.runs.run import Run

BYTES = 255


class ArchiveRows(Rows):
    """The rows of arrays: NaN is a hole, and `<modality>_present` says which rows have a modality.

    A modality without an array is absent, and not added. Raises ValueError for arrays that do not
    fit the run.
    """

    endings = (".npz",)

    def __init__(self, run: Run, path: Path) -> None:
        self.path, self.modalities = path, run.modalities
        self.arrays = read_arrays(path)
        self.known = {m.name: m for m in run.modalities if m.name in self.arrays}
        if not self.known:
            raise ValueError(
                f"{path} holds none of the run's modalities"
                f" {', '.join(m.name for m in run.modalities)}; it holds"
                f" {', '.join(self.arrays) or 'nothing'}."
            )
        absent = [m.name for m in run.modalities if m.name not in self.known]
        self.notes = [f"{path} has no array {m!r}; it is absent in all rows." for m in absent]
        self.data = self._dataset()
        self.holes = {m: self._holes(m) for m in self.known}

    @property
    def targets(self) -> list[str]:
        return list(self.known)

    def _dataset(self) -> Dataset:
        sizes = {m: len(self.arrays[m]) for m in self.known}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"The arrays of {self.path} must have one row for each sample, got {sizes}."
            )
        (size, *_) = sizes.values()
        tables, present = {}, {}
        for modality in self.modalities:
            m = modality.name
            if m in self.known:
                tables[m], present[m] = self._values(modality), self._present(m, size)
            else:
                tables[m] = torch.zeros(size, *modality.shape)
                present[m] = torch.zeros(size, dtype=torch.bool)
        return Dataset(self.modalities, tables, present=present)

    def _values(self, modality: Modality) -> Tensor:
        """The values (N, *shape) of a modality."""
        x = self.arrays[modality.name]
        x = x[:, None] if x.ndim == 1 and modality.shape == (1,) else x
        return kind_of(modality).fit(x, modality, self.path)

    def _present(self, m: str, size: int) -> Tensor:
        mask = self.arrays.get(m + MASK)
        if mask is None:
            return torch.ones(size, dtype=torch.bool)
        return as_mask(mask, size, f"{m}{MASK} of {self.path}")

    def _holes(self, m: str) -> np.ndarray:
        """Which entries of an array are filled, of its shape."""
        x = self.arrays[m]
        absent = ~self.data.is_present(m).numpy()
        holes = np.broadcast_to(absent.reshape(-1, *[1] * (x.ndim - 1)), x.shape)
        return holes | np.isnan(x) if x.dtype.kind == "f" else holes.copy()

    def counts(self) -> dict[str, int]:
        counts = {m: int(holes.sum()) for m, holes in self.holes.items()}
        return {m: count for m, count in counts.items() if count}

    def lacking(self) -> int:
        rows = [holes.reshape(len(holes), -1).any(1) for holes in self.holes.values()]
        return int(np.any(rows, axis=0).sum())

    def write(self, path: Path, completion: Completion, values: Values) -> None:
        arrays = dict(self.arrays)
        for m, value in values.items():
            arrays[m] = self._with(m, completion, value)
            if m + MASK in arrays:
                arrays[m + MASK] = np.ones_like(arrays[m + MASK])
        write_output(path, archive(arrays))

    def _with(self, m: str, completion: Completion, value: Tensor) -> np.ndarray:
        """An array with values in its holes."""
        x, holes = self.arrays[m], self.holes[m]
        rows = completion.rows.numpy()
        filled = as_array(value, self.known[m], x[rows])
        if x.dtype.kind == "U":
            x = x.astype(np.promote_types(x.dtype, filled.dtype))
        written = x.copy()
        written[rows] = np.where(holes[rows], filled, x[rows])
        return written

    def write_bounds(
        self, path: Path, completion: Completion, calibration: Calibration | None
    ) -> None:
        """`<modality>_lower` and `<modality>_upper`, or `<modality>_probability` of zeros and ones,
        of the arrays' shapes, NaN where nothing was filled.
        """
        arrays: dict[str, np.ndarray] = {}
        for m, filled in completion.filled.items():
            modality = self.known[m]
            if modality.vocabulary:
                continue
            if modality.likelihood == "bernoulli":
                share = _surer(filled.center, modality, completion.whole[m], calibration)
                arrays[f"{m}_probability"] = self._bounds(m, completion, share)
                continue
            bounds = completion.bounds(modality, calibration)
            for name, bound in zip(("lower", "upper"), bounds, strict=True):
                arrays[f"{m}_{name}"] = self._bounds(m, completion, bound)
        write_output(path, archive(arrays))

    def _bounds(self, m: str, completion: Completion, value: Tensor) -> np.ndarray:
        rows, holes = completion.rows.numpy(), self.holes[m]
        bounds = np.full(holes.shape, np.nan, np.float32)
        shape = np.empty((len(rows), *holes.shape[1:]), np.float32)
        found = as_array(value, self.known[m], shape)
        bounds[rows] = np.where(holes[rows], found, np.nan)
        return bounds


def _surer(
    share: Tensor, modality: Modality, whole: Tensor, calibration: Calibration | None
) -> Tensor:
    """The probability of the likelier of two values, of the probabilities (R, *shape) of the second
    one, tempered by a calibration.

    Args:
        whole: (R,) bool, the samples that lack the modality.
    """
    both = torch.stack([1 - share, share], -1)
    if calibration is not None:
        both = calibration.tempered(both, modality.name, whole)
    return both.amax(-1)


def as_array(x: Tensor, modality: Modality, like: np.ndarray) -> np.ndarray:
    """Values (R, *shape) as an array of the shape and type of `like`, (R, ...): bytes that stand
    for shares are 255 times as large, and the axes of images are where they were.
    """
    if modality.vocabulary and holds_words(like):
        return np.array(texts_of(x, modality), dtype=str)
    values = x.detach().cpu().numpy()
    if values.ndim == 4 and values.shape != like.shape and like.ndim == 4:
        values = np.moveaxis(values, 1, -1)
    values = values.reshape(like.shape)
    if like.dtype == np.uint8 and kind_of(modality).are_shares(modality):
        values = values * BYTES
    if like.dtype.kind in "iu":
        span = np.iinfo(like.dtype)
        values = values.round().clip(span.min, span.max)
    return values.astype(like.dtype)
