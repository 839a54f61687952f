"""A user's own arrays: one .npz file, one array for each modality, and what each modality is, read
from its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset, Splits
from polymodal.data.kinds import kind_of, kind_of_array
from polymodal.data.readers.files import read_npz

PARTS = ("train", "val", "test")
HELD = 0.1  # share of validation and of test where the file does not say


def _split_keys(arrays: Mapping[str, np.ndarray], file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by part; a file without prefixes is one part, "train"."""
    prefixed = {
        name: name.split("_", 1)[0]
        for name in arrays
        if name.split("_", 1)[0] in PARTS and "_" in name
    }
    if not prefixed:
        return {"train": dict(arrays)}
    if loose := [name for name in arrays if name not in prefixed]:
        raise ValueError(
            f"{file} has arrays with a prefix ({next(iter(prefixed))!r}) and without ({loose});"
            f" give all of them one of {[p + '_' for p in PARTS]}, or none."
        )
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name, part in prefixed.items():
        parts.setdefault(part, {})[name.split("_", 1)[1]] = arrays[name]
    names = {part: sorted(_values(found)) for part, found in parts.items()}
    if "train" not in parts or any(names[part] != names["train"] for part in parts):
        raise ValueError(
            f"{file} needs the same modalities in every part and a train part, got {names}."
        )
    return parts


def _values(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        n: x
        for n, x in arrays.items()
        if n not in ("label", "labels") and not n.endswith("_present")
    }


def _describe(name: str, parts: list[np.ndarray], file: Path) -> Modality:
    """The modality whose values are `parts`, by its kind. Raises ValueError if shapes differ."""
    shapes = [x.shape[1:] for x in parts]
    if len(set(shapes)) > 1:
        raise ValueError(f"{name!r} in {file} must have one shape in all parts, got {shapes}.")
    try:
        return kind_of_array(parts[0]).describe(name, parts)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from None


def _present(
    name: str, x: np.ndarray, arrays: Mapping[str, np.ndarray], nan_is_missing: bool
) -> Tensor | None:
    mask = None
    if (given := arrays.get(f"{name}_present")) is not None:
        if given.shape != (len(x),) or not np.isin(given, (0, 1)).all():
            raise ValueError(
                f"{name}_present must hold {len(x)} zeros and ones, a row each, got shape"
                f" {given.shape}."
            )
        mask = torch.from_numpy(given.astype(bool))
    if nan_is_missing and x.dtype.kind == "f":
        there = torch.from_numpy(~np.isnan(x.reshape(len(x), -1)).all(1))
        mask = there if mask is None else mask & there
    return None if mask is None or mask.all() else mask


def _dataset(
    arrays: Mapping[str, np.ndarray], modalities: list[Modality], nan_is_missing: bool
) -> Dataset:
    label = arrays.get("label", arrays.get("labels"))
    if label is not None and (label.ndim != 1 or label.dtype.kind not in "biu"):
        raise ValueError(
            f"Labels must be whole numbers, one a sample, got {label.dtype} of shape {label.shape}."
        )
    present = {m.name: _present(m.name, arrays[m.name], arrays, nan_is_missing) for m in modalities}
    return Dataset(
        modalities,
        {m.name: kind_of(m).table(arrays[m.name], m) for m in modalities},
        present={m: mask for m, mask in present.items() if mask is not None},
        label=None if label is None else torch.from_numpy(label.astype(np.int64)),
    )


def _cut(data: Dataset, sizes: list[int], generator: torch.Generator) -> list[Dataset]:
    """Random parts with tables of their own, so that each can move to a device alone."""
    parts = []
    for rows in torch.randperm(len(data), generator=generator).split(sizes):
        part = data.take(rows)
        tables = {m: t[rows] for m, t in data.tables.items()}
        parts.append(Dataset(data.modalities, tables, present=part.present, label=part.label))
    return parts


def own_arrays(path: str | Path, *, seed: int = 0, nan_is_missing: bool = False) -> Splits:
    """The data in an .npz file: one array (N, ...) for each modality, in the file's order.

    `label` or `labels` (N,) are whole numbers for evaluation; `<modality>_present` (N,) says which
    samples have that modality. Names may begin with `train_`, `val_` and `test_`; a part the file
    does not name is split off the training part at random (seeded), a tenth each.

    What a modality is follows from its values: 0 and 1 alone: bernoulli; uint8 images (N, H, W) or
    (N, H, W, C) or (N, C, H, W): normal around a sigmoid, read as x / 255; all else: normal, as it
    stands (nothing is standardised: scale it yourself, and keep the scale for reading results). A
    last size of 1, 3 or 4 of four is taken for channels.

    Raises:
        ValueError: for a file that is no .npz of numbers, parts or shapes that do not fit, or
            values that are NaN or infinite where present. With `nan_is_missing` a sample whose
            values are all NaN is missing that modality.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ValueError(f"There is no file {file}.")
    arrays = _split_keys(read_npz(file), file)
    names = list(_values(arrays["train"]))
    if not names:
        raise ValueError(
            f"{file} holds no modality; write one array for each with numpy.savez(file, name=array,"
            " ...)."
        )
    if empty := [
        f"{part}: {name}"
        for part, found in arrays.items()
        for name in names
        if not found[name].size
    ]:
        raise ValueError(
            f"{file} holds arrays without any value ({empty}); a data set needs at least one"
            " sample."
        )
    kinds = [_describe(name, [found[name] for found in arrays.values()], file) for name in names]
    parts = {part: _dataset(found, kinds, nan_is_missing) for part, found in arrays.items()}
    lacking = [part for part in ("val", "test") if part not in parts]
    if lacking:
        held = max(1, round(HELD * len(parts["train"])))
        sizes = [len(parts["train"]) - held * len(lacking), *[held] * len(lacking)]
        if sizes[0] < 1:
            raise ValueError(
                f"{file} has {len(parts['train'])} samples, too few to be split into parts."
            )
        parts["train"].check()  # here, so that what is wrong is named by its row in the file
        cut = _cut(parts["train"], sizes, torch.Generator().manual_seed(seed))
        parts |= dict(zip(("train", *lacking), cut, strict=True))
    return Splits(parts["train"], parts["val"], parts["test"], file.stem)
