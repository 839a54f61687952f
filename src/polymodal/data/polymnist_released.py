"""PolyMNIST from the files that its authors released."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from polymodal.batch import Modality
from polymodal.checks import BelowOne, FilePath
from polymodal.data.dataset import Dataset
from polymodal.data.polymnist import SIDE, view
from polymodal.data.readers.decoded import decoded
from polymodal.data.readers.files import data_folder, find
from polymodal.data.readers.pictures import colours, read_picture
from polymodal.data.splits import Splits

# The archive unpacks to MMNIST: README and mmnist/ of github.com/thomassutter/MoPoE.
FOLDERS = ("PolyMNIST", "polymnist", ".")
ROOT = "MMNIST"
NAMED = re.compile(r"(\d+)\.(\d)\.png")  # number among the digit's pictures, digit
Name = tuple[int, int]


def polymnist_released(*, path: FilePath | None = None, val: BelowOne = 0.1) -> Splits:
    """PolyMNIST (Sutter et al. 2021) as released: 60,000 and 10,000 tuples of five pictures.

    The modalities m0, m1, ... (3, 28, 28) and their likelihood are those of `polymnist`, which
    rebuilds the data over other backgrounds. The folder (or its subfolder PolyMNIST) holds
    `MMNIST/train/m0/<number>.<digit>.png`, ..., and the same for `test`; pictures of one name are a
    tuple. `val` is the share of each digit's training tuples, the last ones, held out for
    validation; a digit of MNIST can be in both, in different modalities, since the released tuples
    were matched before. Pictures are decoded once, and kept in the cache directory.

    Raises ValueError for files that are absent, damaged or not aligned.
    """
    if not val > 0:
        raise ValueError(f"val must be above 0 and below 1, got {val}.")
    folder = data_folder(path)
    root = find(folder, FOLDERS, ROOT)
    if root is None:
        raise ValueError(
            f"PolyMNIST as released is not in {folder}; unpack PolyMNIST.zip of"
            " github.com/thomassutter/MoPoE there (MMNIST/train/m0/0.0.png, ...), or load"
            " polymnist, which is rebuilt from MNIST."
        )
    whole, test = _part(root / "train"), _part(root / "test")
    if whole.names != test.names:
        raise ValueError(f"{root} has the views {whole.names} in train and {test.names} in test.")
    held = _last(whole, val)
    train, validation = (whole.take(rows.nonzero().squeeze(1)) for rows in (~held, held))
    return Splits(train, validation, test, "polymnist-released")


def _last(data: Dataset, share: float) -> torch.Tensor:
    """Which tuples (N,) bool are the last `share` of their digit; at least one of each."""
    assert data.label is not None
    held = torch.zeros(len(data), dtype=torch.bool)
    for digit in data.label.unique():
        rows = (data.label == digit).nonzero().squeeze(1)
        held[rows[-max(1, round(share * len(rows))) :]] = True
    return held


def _part(folder: Path) -> Dataset:
    """The tuples of one part, ordered by number and digit."""
    views = _views(folder)
    names = _names(views[0])
    for other in views[1:]:
        if set(_names(other)) != set(names):
            raise ValueError(
                f"{other} must hold pictures of the same names as {views[0]}; unpack both again."
            )
    tables, shape = {}, (len(names), SIDE, SIDE, 3)
    for place in views:
        picture = partial(_picture, place, names)
        pixels = decoded(picture, shape, place, f"polymnist-{folder.name}-{place.name}", "")
        tables[place.name] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    modalities: list[Modality] = [view(m) for m in tables]
    return Dataset(modalities, tables, label=torch.tensor([digit for _, digit in names]))


def _views(folder: Path) -> list[Path]:
    """The folders m0, m1, ... of a part. Raises ValueError for fewer than two."""
    views: list[Path] = []
    while (place := folder / f"m{len(views)}").is_dir():
        views.append(place)
    if len(views) < 2:
        raise ValueError(
            f"{folder} must hold the folders m0, m1, ..., got {[v.name for v in views]}; unpack it"
            " again."
        )
    return views


def _names(place: Path) -> list[Name]:
    """(number, digit) of the pictures in a folder, sorted. Raises ValueError if there are none."""
    matches = (NAMED.fullmatch(file.name) for file in place.iterdir())
    names = sorted((int(match[1]), int(match[2])) for match in matches if match)
    if not names:
        raise ValueError(f"{place} must hold pictures <number>.<digit>.png, got none.")
    return names


def _picture(place: Path, names: Sequence[Name], i: int) -> np.ndarray:
    number, digit = names[i]
    file = place / f"{number}.{digit}.png"
    pixels = colours(read_picture(file, file))
    if pixels.shape != (SIDE, SIDE, 3):
        raise ValueError(f"{file} must have {SIDE} x {SIDE} pixels, got {pixels.shape[:2]}.")
    return pixels
