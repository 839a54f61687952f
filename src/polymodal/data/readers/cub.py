"""The files of Caltech-UCSD Birds 200-2011 and of the captions of Reed et al. (2016)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.decoded import decoded
from polymodal.data.readers.files import DamageError, find, reading, unpacked
from polymodal.data.readers.pictures import colours, read_picture

SIZE = 64
PACKED = "cub31_images64.npz"
PACKED_CAPTIONS, PACKED_ATTRIBUTES = "captions.jsonl.gz", "class_attributes.npz"
PACKED_FOLDERS = ("cub-captions", "cub", ".")
OFFICIAL_FOLDERS = ("CUB_200_2011", "cub/CUB_200_2011", "cub", ".")
# Where the folder of captions lies beside the official files; in each there is a folder for every
# class and in that a .txt file for every image, one caption a line.
CAPTION_FOLDERS = ("cvpr2016_cub", "cub/cvpr2016_cub", "cub", "CUB_200_2011", ".")
CAPTIONS, ATTRIBUTES = "text_c10", "attributes/class_attribute_labels_continuous.txt"
AGAIN = "fetch it again"


@dataclass(frozen=True)
class Birds:
    """Pictures of birds with captions.

    Args:
        images: (N, 64, 64, 3) uint8.
        captions: the captions of each image.
        classes: the name of each image's class.
        is_train: (N,) bool, the official split.
        species: (N,) rows of `attributes`.
        attributes: (classes, 312) float32 in [0, 1], the share of a class's images that show an
            attribute; None if there is no file of them.
    """

    images: np.ndarray
    captions: Sequence[Sequence[str]]
    classes: Sequence[str]
    is_train: np.ndarray
    species: np.ndarray
    attributes: np.ndarray | None


def packed_birds(folder: Path) -> Birds | None:
    """1,781 images of 31 classes, cut to the birds and packed; None if they are not there."""
    images = find(folder, PACKED_FOLDERS, PACKED)
    captions = find(folder, PACKED_FOLDERS, PACKED_CAPTIONS)
    if images is None or captions is None:
        return None
    arrays = read_arrays(images)
    lines = _packed_captions(captions)
    attributes = find(folder, PACKED_FOLDERS, PACKED_ATTRIBUTES)
    with reading(images, "copy it again"):
        names, species = arrays["names"].tolist(), arrays["class_id"].astype(np.int64) - 1
        if set(names) - set(lines):
            raise DamageError(f"{captions} has no captions of some of its images")
        return Birds(
            arrays["images"],
            [lines[name] for name in names],
            arrays["class_names"][species].tolist(),
            arrays["cub_train_split"].astype(bool),
            species,
            None if attributes is None else _shares(*read_arrays(attributes).values()),
        )


def _packed_captions(file: Path) -> dict[str, list[str]]:
    """The captions by the name of the image."""
    with reading(file, "copy it again"):
        lines = unpacked(file, file.read_bytes()).decode().splitlines()
        entries = map(json.loads, lines)
        return {entry["name"]: entry["captions"] for entry in entries}


def _shares(percent: np.ndarray) -> np.ndarray:
    return (percent / 100).astype(np.float32).clip(0, 1)


def official_birds(folder: Path, crop: bool) -> Birds | None:
    """The official files, with the captions beside them; None if they are not there.

    Args:
        crop: whether images are cut to the bounding box of the bird; else the whole photograph.
    """
    images = find(folder, OFFICIAL_FOLDERS, "images.txt")
    captions = find(folder, CAPTION_FOLDERS, CAPTIONS)
    if images is None or captions is None:
        return None
    home = images.parent
    paths = [words[0] for words in _table(images)]
    count = len(paths)
    boxes = _numbers(home / "bounding_boxes.txt", count, 4) if crop else None

    def image(i: int) -> np.ndarray:
        return _image(home / "images" / paths[i], None if boxes is None else boxes[i])

    species = _numbers(home / "image_class_labels.txt", count, 1)[:, 0].astype(np.int64) - 1
    names = [words[0] for words in _table(home / "classes.txt")]
    attributes = home / ATTRIBUTES
    return Birds(
        decoded(image, (count, SIZE, SIZE, 3), images, f"cub{SIZE}", "cut" if crop else "whole"),
        [_captions((captions / path).with_suffix(".txt")) for path in paths],
        [names[i] for i in species],
        _numbers(home / "train_test_split.txt", count, 1)[:, 0] == 1,
        species,
        _shares(_matrix(attributes)) if attributes.is_file() else None,
    )


def _table(file: Path) -> list[list[str]]:
    """The words of each line after its number, which must be 1, 2, 3, ..."""
    with reading(file, AGAIN):
        lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
        if [line[0] for line in lines] != [str(i + 1) for i in range(len(lines))]:
            raise DamageError("its lines are not numbered 1, 2, 3, ...")
        return [line[1:] for line in lines]


def _numbers(file: Path, rows: int, columns: int) -> np.ndarray:
    """The numbers (rows, columns) of each line after its number."""
    table = _table(file)
    with reading(file, AGAIN):
        return np.array(table, float).reshape(rows, columns)


def _matrix(file: Path) -> np.ndarray:
    with reading(file, AGAIN):
        return np.loadtxt(file, ndmin=2)


def _captions(file: Path) -> list[str]:
    """The lines of a file of captions."""
    with reading(file, AGAIN):
        lines = [line.strip() for line in file.read_text(errors="replace").splitlines()]
        if not any(lines):
            raise DamageError("it holds no caption")
        return [line for line in lines if line]


def _image(file: Path, box: np.ndarray | None) -> np.ndarray:
    """One image (64, 64, 3): the box (left, top, width, height) or all of it, squeezed."""
    from PIL import Image

    image = Image.fromarray(colours(read_picture(file, file)))
    if box is not None:
        left, top, width, height = box
        right, bottom = min(left + width, image.width), min(top + height, image.height)
        image = image.crop((round(left), round(top), round(right), round(bottom)))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
