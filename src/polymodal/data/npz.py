"""Arrays of a user: one .npz file with an array for each modality, which its values describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality, as_mask, check_masks
from polymodal.checks import AUTO, Memory, Positive, permitted
from polymodal.data.dataset import Dataset
from polymodal.data.kinds import kind_of_array
from polymodal.data.mapped import as_table, is_mapped
from polymodal.data.readers.archives import MAX_GB, read_arrays
from polymodal.data.readers.mapped import Room
from polymodal.data.splits import PARTS, Splits
from polymodal.data.units import standardised

LABELS, MASK = ("label", "labels"), "_present"
HELD_OUT = 0.1  # share of validation and of test if the file does not name them


Arrays = Mapping[str, np.ndarray]


def _split(arrays: Arrays, file: Path | str) -> dict[str, dict[str, np.ndarray]]:
    """Arrays by part; a file without prefixes is one part, "train"."""
    prefixed = [name for name in arrays if _part_of(name)]
    if not prefixed:
        return {"train": dict(arrays)}
    if loose := [name for name in arrays if name not in prefixed]:
        raise ValueError(
            f"{file} has arrays with a prefix ({_part_of(prefixed[0])!r}) and without ({loose});"
            f" give all of them one of {[p + '_' for p in PARTS]}, or none."
        )
    parts: dict[str, dict[str, np.ndarray]] = {}
    for name in prefixed:
        part = _part_of(name)
        parts.setdefault(part, {})[name.removeprefix(f"{part}_")] = arrays[name]
    _check_parts(parts, file)
    return parts


def _check_parts(parts: Mapping[str, Arrays], file: Path | str) -> None:
    """Raises ValueError unless all parts have the same modalities and one is for training."""
    names = {part: sorted(_names(arrays)) for part, arrays in parts.items()}
    if "train" not in names or any(held != names["train"] for held in names.values()):
        raise ValueError(
            f"{file} needs the same modalities in every part and a train part, got {names}."
        )


def _part_of(name: str) -> str:
    """The part that an array's name begins with, or ""."""
    part, separator, _ = name.partition("_")
    return part if separator and part in PARTS else ""


def _names(arrays: Arrays) -> list[str]:
    """The names of modalities: of all arrays but labels and masks."""
    return [n for n in arrays if n not in LABELS and not n.endswith(MASK)]


def _describe(name: str, parts: list[np.ndarray]) -> Modality:
    """The modality whose values are `parts`, by its kind. Raises ValueError if shapes differ."""
    shapes = [x.shape[1:] for x in parts]
    if len(set(shapes)) > 1:
        raise ValueError(f"{name!r} must have one shape in all parts, got {shapes}.")
    return kind_of_array(parts[0]).describe(name, parts)


def _present(name: str, arrays: Arrays) -> Tensor | None:
    """Which samples have a modality, (N,) bool; None if all have it."""
    given = arrays.get(name + MASK)
    if given is None:
        return None
    present = as_mask(given, len(arrays[name]), name + MASK)
    return None if present.all() else present


def _label(arrays: Arrays) -> Any:
    """The labels as they are given. Raises ValueError if they are given twice."""
    given = [arrays[name] for name in LABELS if name in arrays]
    if len(given) > 1:
        raise ValueError("There are labels under 'label' and 'labels'; keep one of them.")
    return given[0] if given else None


def _dataset(arrays: Arrays, modalities: list[Modality], part: str) -> Dataset:
    """One part, from its arrays; streamed if some are mapped."""
    masks_given = [name.removesuffix(MASK) for name in arrays if name.endswith(MASK)]
    check_masks(masks_given, [m.name for m in modalities], "{}" + MASK)
    tables = {m.name: as_table(arrays[m.name], m, f"{part} {m.name}") for m in modalities}
    masks = {m.name: _present(m.name, arrays) for m in modalities}
    present = {m: mask for m, mask in masks.items() if mask is not None}
    data = Dataset(modalities, tables, present=present, label=_label(arrays))
    return data.stream() if any(is_mapped(x) for x in arrays.values()) else data


def _cut(data: Dataset, sizes: list[int], generator: torch.Generator) -> list[Dataset]:
    """Random parts; with separate tables, so that one part can be moved to a device, unless they
    are streamed.
    """
    parts = []
    for rows in torch.randperm(len(data), generator=generator).split(sizes):
        part = data.take(rows)
        if not data.streamed:
            part = replace(part, tables={m: t[rows] for m, t in data.tables.items()}, index={})
        parts.append(part)
    return parts


def _complete(parts: dict[str, Dataset], seed: int) -> dict[str, Dataset]:
    """All three parts: those that the file lacks are split off its training part at random."""
    lacking = [part for part in ("val", "test") if part not in parts]
    if not lacking:
        return parts
    train = parts["train"]
    held_out = max(1, round(HELD_OUT * len(train)))
    sizes = [len(train) - held_out * len(lacking), *[held_out] * len(lacking)]
    if sizes[0] < 1:
        raise ValueError(f"it has {len(train)} samples, too few to be split into parts.")
    train.check()  # before the split, so that errors name rows of the file
    cut = _cut(train, sizes, torch.Generator().manual_seed(seed))
    return parts | dict(zip(("train", *lacking), cut, strict=True))


def npz_file(
    path: str | Path, *, seed: int = 0, max_gb: Positive = MAX_GB, memory: Memory = AUTO
) -> Splits:
    """The data in an .npz file: one array (N, ...) for each modality, in the file's order.

    `label` or `labels` (N,) are whole numbers or words for evaluation; `<modality>_present` (N,)
    says which samples have that modality. Names may begin with `train_`, `val_` and `test_`; a part
    that the file does not name is split off the training part at random (seeded), a tenth each.

    A modality's likelihood follows from its values. Only 0 and 1: bernoulli; uint8 images (N, H, W)
    or (N, H, W, C) or (N, C, H, W): normal around a sigmoid, read as x / 255; all else: normal,
    whose networks read and give standardised values (see `standardised`). Scales of normal
    likelihoods are learned. NaN is a hole, an entry that was not observed.
    If the last of four sizes is 1, 3 or 4, it is the number of channels.

    Args:
        path: the file.
        seed: seed of the random split.
        max_gb: what packed arrays of the file may take, unpacked.
        memory: what all arrays may take in memory, in GB; larger ones stay in files that are
            mapped (see `Dataset.streamed`); "auto": a quarter of what is available.

    Raises:
        ValueError: for a file that is no .npz of numbers, parts or shapes that do not fit, or
            values that are NaN or infinite where present.
    """
    file = Path(path).expanduser()
    room = Room(permitted(memory))
    remedy = "raise data.max_gb if the memory holds them"
    read = read_arrays(file, max_gb, remedy, room)
    if "" in read:
        raise ValueError(
            f"{file} holds one array without a name; write it into an .npz file under a name"
            f" (savez of NumPy), or describe it: {{source: array, file: {file.name}}}."
        )
    return of_arrays(read, file, seed)


def of_arrays(given: Arrays, file: Path | str, seed: int) -> Splits:
    """The data in arrays, named as in an .npz file.

    Args:
        file: where they come from, for sentences.
        seed: of the random split.

    Raises ValueError as `npz_file`.
    """
    arrays = _split(given, file)
    names = _names(arrays["train"])
    if not names:
        raise ValueError(f"{file} holds no modality; write one array for each under its name.")
    try:
        modalities = [_describe(n, [held[n] for held in arrays.values()]) for n in names]
        parts = {part: _dataset(held, modalities, part) for part, held in arrays.items()}
        parts = _complete(parts, seed)
        splits = Splits(parts["train"], parts["val"], parts["test"], Path(file).stem)
        return standardised(splits)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
