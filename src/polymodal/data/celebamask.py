"""CelebAMask-HQ: faces, where their parts are, and their attributes, from the released files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from polymodal.batch import Modality
from polymodal.checks import FilePath, Size
from polymodal.data.celeba import ATTRIBUTES
from polymodal.data.dataset import consecutive
from polymodal.data.readers.decoded import decoded
from polymodal.data.readers.files import (
    DamageError,
    data_folder,
    find,
    log,
    reading,
    sha256_of,
)
from polymodal.data.readers.pictures import colours, read_picture
from polymodal.data.splits import Splits

FOLDERS = ("CelebAMask-HQ", "celebamask-hq", ".")
IMAGES, MASKS = "CelebA-HQ-img", "CelebAMask-HQ-mask-anno"
ANNOTATIONS, MAPPING = "CelebAMask-HQ-attribute-anno.txt", "CelebA-HQ-to-CelebA-mapping.txt"
PER_FOLDER = 2000  # samples in each of the numbered folders of masks
# In the order of the release's g_mask.py, later parts over earlier ones.
PARTS = tuple(
    "skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip hair hat ear_r neck_l"
    " neck cloth".split()
)
# The 18 attributes of Wesego and Rooshenas (2024), by the configs.py of their code.
CHOSEN = tuple(
    "Bald Bangs Black_Hair Blond_Hair Brown_Hair Bushy_Eyebrows Eyeglasses Gray_Hair Heavy_Makeup"
    " Male Mouth_Slightly_Open Mustache Pale_Skin Receding_Hairline Smiling Straight_Hair Wavy_Hair"
    " Wearing_Hat".split()
)
# By the release's g_partition.py: from these places in CelebA on a face is for validation, testing.
VAL, TEST = 162_771, 182_638


@dataclass(frozen=True)
class _Files:
    """The released files; faces are numbered 0, 1, ...

    Args:
        attributes: (N, 40) of 0 and 1.
        order: (N,) numbers of faces: those for training, validation and testing.
        sizes: how many there are for each.
    """

    images: Path
    masks: Path
    attributes: np.ndarray
    order: np.ndarray
    sizes: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    @property
    def key(self) -> str:
        """Words that differ for another order."""
        return sha256(self.order.tobytes()).hexdigest()[:16]


def _files(folder: Path) -> _Files:
    """Finds the files, and checks that the tables fit each other."""
    found = {name: find(folder, FOLDERS, name) for name in (IMAGES, MASKS, ANNOTATIONS, MAPPING)}
    if lacking := [name for name, place in found.items() if place is None]:
        raise ValueError(
            f"CelebAMask-HQ needs {', '.join(lacking)} in {folder}; fetch it from"
            " github.com/switchablenorms/CelebAMask-HQ, and unpack it there."
        )
    images, masks, annotations, mapping = (Path(str(place)) for place in found.values())
    log.info("%s has sha256 %s", annotations, sha256_of(annotations))
    attributes, part = _attributes(annotations), np.digitize(_places(mapping), (VAL, TEST))
    sizes = np.bincount(part, minlength=3).tolist()
    if len(part) != len(attributes) or min(sizes) < 1:
        raise ValueError(
            f"{mapping} has {sizes} faces for training, validation and testing, and {annotations}"
            f" has {len(attributes)} in all; fetch both again."
        )
    order = np.argsort(part, kind="stable")
    return _Files(images, masks, attributes, order, sizes)


def _attributes(file: Path) -> np.ndarray:
    """(N, 40) of 0 and 1 in the order of ATTRIBUTES, from a line with N, one with the names, and
    one for each face, `0.jpg` first, of -1 and 1.
    """
    with reading(file, "fetch it again"):
        lines = file.read_text().splitlines()
        count, names, *rows = [line.split() for line in lines if line.strip()]
        values = np.array([row[1:] for row in rows], int)
        right = [row[0] for row in rows] == [f"{i}.jpg" for i in range(int(count[0]))]
        if sorted(names) != sorted(ATTRIBUTES) or not right or not np.isin(values, (-1, 1)).all():
            raise DamageError(
                "it is no table of -1 and 1 for CelebA's 40 attributes and for 0.jpg, 1.jpg, ..."
            )
        columns = [names.index(name) for name in ATTRIBUTES]
    return (values[:, columns] > 0).astype(np.uint8)


def _places(file: Path) -> np.ndarray:
    """(N,) places in CelebA: after a line of headings, lines of a number 0, 1, ..., the place, and
    CelebA's file name.
    """
    with reading(file, "fetch it again"):
        rows = [line.split() for line in file.read_text().splitlines()[1:] if line.strip()]
        numbers = np.array([row[:2] for row in rows], int).reshape(-1, 2)
        if not np.array_equal(numbers[:, 0], np.arange(len(numbers))):
            raise DamageError("its faces are not numbered 0, 1, ...")
    return numbers[:, 1]


def _face(files: _Files, size: int, i: int) -> np.ndarray:
    """Face i in the order of parts, (size, size, 3): antialiased."""
    from PIL import Image

    file = files.images / f"{files.order[i]}.jpg"
    picture = Image.fromarray(colours(read_picture(file, file)))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))


def _mask(files: _Files, size: int, kind: str, i: int) -> np.ndarray:
    """Where the parts of face i are, (size, size, 18), or their union without the skin (size, size,
    1): 255 where at least half of a pixel's area belongs to a part, else 0. A part without a file
    is absent.
    """
    i = int(files.order[i])
    folder = files.masks / str(i // PER_FOLDER)
    masks = np.zeros((size, size, len(PARTS)), np.uint8)
    for k, part in enumerate(PARTS):
        file = folder / f"{i:05d}_{part}.png"
        if file.exists():
            masks[..., k] = _shrunk(read_picture(file, file), size)
    if not masks.any():
        raise ValueError(f"{folder} has no mask of face {i:05d}; fetch the masks again.")
    return masks if kind == "parts" else masks[..., 1:].max(-1, keepdims=True)


def _shrunk(mask: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    inside = (colours(mask)[..., 0] > 0).astype(np.uint8) * 255
    shares = Image.fromarray(inside).resize((size, size), Image.Resampling.BOX)
    return np.where(np.asarray(shares) >= 128, 255, 0).astype(np.uint8)


def celebamask(
    *,
    path: FilePath | None = None,
    size: Size = 128,
    masks: Literal["union", "parts"] = "union",
    attributes: Literal["chosen", "all"] = "chosen",
) -> Splits:
    """CelebAMask-HQ (Lee et al. 2020): faces, masks of their parts, and their attributes.

    The modalities are `image` (3, size, size), `mask`, and `attributes`, 0 and 1. `mask` is the
    union (1, size, size) of all parts but the skin, as in the code of Wesego and Rooshenas (2024),
    or the 18 parts (18, size, size) in the order of `PARTS`. `attributes` are the 18 that they
    chose, `CHOSEN`, or all 40. The folder (or its subfolder CelebAMask-HQ) holds the released
    `CelebA-HQ-img`, `CelebAMask-HQ-mask-anno`, `CelebAMask-HQ-attribute-anno.txt` and
    `CelebA-HQ-to-CelebA-mapping.txt`. Faces are split as in CelebA, by the release's rule (24,183,
    2,993 and 2,824). Images and masks are resized once, and kept in the cache directory.

    Raises ValueError for files that are absent or damaged.
    """
    if not 16 <= size <= 512:
        raise ValueError(f"size must be from 16 to 512 pixels, got {size}.")
    files = _files(data_folder(path))
    shape, channels = (len(files), size, size), len(PARTS) if masks == "parts" else 1
    face, mask = partial(_face, files, size), partial(_mask, files, size, masks)
    images = decoded(face, (*shape, 3), files.images, f"celebahq{size}", f"bilinear {files.key}")
    where = decoded(
        mask, (*shape, channels), files.masks, f"celebamask{size}", f"{masks} {files.key}"
    )
    names = ATTRIBUTES if attributes == "all" else CHOSEN
    return _splits(files, images, where, [ATTRIBUTES.index(name) for name in names])


def _splits(files: _Files, images: np.ndarray, mask: np.ndarray, columns: Sequence[int]) -> Splits:
    size, attributes = images.shape[1], files.attributes[files.order][:, columns]
    names = tuple(ATTRIBUTES[column] for column in columns)
    modalities = [
        Modality("image", (3, size, size), link="sigmoid"),
        Modality("mask", (mask.shape[-1], size, size), "bernoulli", kind="mask"),
        Modality("attributes", (len(columns),), "bernoulli", names=names),
    ]
    tables = {
        "image": torch.from_numpy(images).permute(0, 3, 1, 2),
        "mask": torch.from_numpy(mask).permute(0, 3, 1, 2),
        "attributes": torch.from_numpy(attributes).to(torch.get_default_dtype()),
    }
    train, val, test = consecutive(modalities, tables, None, files.sizes)
    return Splits(train, val, test, "celebamask")
