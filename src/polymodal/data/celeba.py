"""CelebA: 64 x 64 faces and their 40 binary attributes, from the official files or from the packed
first 10,000 images.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polymodal.batch import Modality
from polymodal.checks import FilePath
from polymodal.data.dataset import consecutive
from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.decoded import decoded
from polymodal.data.readers.files import data_folder, find, reading
from polymodal.data.readers.pictures import colours, read_picture
from polymodal.data.splits import Splits

SIZE = 64
PACKED = "celeba10k_jpeg_attr.npz"
PACKED_SPLIT = (8000, 1000, 1000)
FOLDERS = ("celeba", "CelebA", "celeba-10k", ".")
ATTRIBUTES = tuple(
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose"
    " Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee"
    " Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard"
    " Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair"
    " Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie"
    " Young".split()
)


def _face(jpeg: bytes, name: str) -> np.ndarray:
    """(64, 64, 3): the centre square of 148 / 178 of the width (148 of 178 x 218, 74 of 89 x 109),
    antialiased.
    """
    from PIL import Image

    image = Image.fromarray(colours(read_picture(io.BytesIO(jpeg), name)))
    side = round(image.width * 148 / 178)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Not resize(box=...), which would use pixels outside the square.
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def _decoded(count: int, read: Callable[[int], bytes], source: Path) -> np.ndarray:
    """All faces (count, 64, 64, 3), decoded once and then mapped from the cache directory."""

    def decode(i: int) -> np.ndarray:
        with reading(source, f"image {i} cannot be read: fetch it again"):
            content = read(i)
        return _face(content, f"Image {i} of {source}")

    return decoded(decode, (count, SIZE, SIZE, 3), source, f"celeba{SIZE}", "bilinear")


@dataclass(frozen=True)
class _Faces:
    """Faces (N, 64, 64, 3) uint8, attributes (N, 40) of 0 and 1, and the sizes of the parts."""

    images: np.ndarray
    attributes: np.ndarray
    sizes: Sequence[int]


def _packed(file: Path) -> _Faces:
    arrays = read_arrays(file)
    with reading(file, "copy it again"):
        jpeg, offsets, attributes = arrays["jpeg"], arrays["offsets"], arrays["attr"]

    if len(offsets) != len(attributes) + 1:
        raise ValueError(f"{file} holds {len(offsets)} offsets for {len(attributes)} images.")

    def read(i: int) -> bytes:
        return jpeg[offsets[i] : offsets[i + 1]].tobytes()

    return _Faces(_decoded(len(attributes), read, file), attributes, PACKED_SPLIT)


def _table(file: Path, skip: int) -> tuple[list[str], np.ndarray]:
    """File names and integers of one of CelebA's text files, after `skip` header lines."""
    with reading(file, "fetch it again"):
        lines = [line.split() for line in file.read_text().splitlines()[skip:] if line.strip()]
        return [line[0] for line in lines], np.array([line[1:] for line in lines], int)


def _official(source: Path, attributes: Path, partition: Path) -> _Faces:
    names, values = _table(attributes, 2)
    _, part = _table(partition, 0)
    is_table = part.shape == (len(names), 1) and np.isin(part, (0, 1, 2)).all()
    if not is_table or (np.diff(part[:, 0]) < 0).any():
        raise ValueError(
            f"{partition} does not fit {attributes}: train, validation and test must follow each"
            " other."
        )
    sizes = np.bincount(part[:, 0], minlength=3).tolist()
    return _Faces(_images(source, names), (values > 0).astype(np.uint8), sizes)


def _images(source: Path, names: Sequence[str]) -> np.ndarray:
    """The decoded images of these names in a folder or .zip file."""
    if source.is_dir():
        return _decoded(len(names), lambda i: (source / names[i]).read_bytes(), source)
    with reading(source, "fetch it again"), zipfile.ZipFile(source) as archive:
        inside = [f"img_align_celeba/{name}" for name in names]
        return _decoded(len(names), lambda i: archive.read(inside[i]), source)


def celeba(*, path: FilePath | None = None) -> Splits:
    """CelebA (Liu et al. 2015): faces and their 40 binary attributes.

    The modalities are `image` (3, 64, 64) and `attributes` (40,) of 0 and 1, in the order of
    `ATTRIBUTES`. The folder (or its subfolder celeba) holds either the official `img_align_celeba`
    (folder or .zip), `list_attr_celeba.txt` and `list_eval_partition.txt`, with the official split;
    or the packed `celeba10k_jpeg_attr.npz` (first 10,000 images at half resolution, split
    8,000/1,000/1,000). Images are cropped to 148 of 178 x 218 and resized once, then kept in the
    cache directory. The likelihoods are those of Senellart et al. (2023), appendix D.2: a normal of
    scale 1 around a sigmoid, and bernoulli, both with weight 1.

    Raises ValueError for files that are absent or damaged.
    """
    folder = data_folder(path)
    source = find(folder, FOLDERS, "img_align_celeba", "img_align_celeba.zip")
    attributes = find(folder, FOLDERS, "list_attr_celeba.txt")
    partition = find(folder, FOLDERS, "list_eval_partition.txt")
    if source and attributes and partition:
        return _splits(_official(source, attributes, partition))
    if packed := find(folder, FOLDERS, PACKED):
        return _splits(_packed(packed))
    raise ValueError(
        f"CelebA is not in {folder} and cannot be fetched without an account; put"
        " img_align_celeba.zip, list_attr_celeba.txt and list_eval_partition.txt from"
        " mmlab.ie.cuhk.edu.hk/projects/CelebA.html there."
    )


def _splits(faces: _Faces) -> Splits:
    count, sizes = len(faces.images), list(faces.sizes)
    if sum(sizes) != count or len(faces.attributes) != count or min(sizes) < 1:
        raise ValueError(
            f"CelebA's {count} images and {len(faces.attributes)} attributes cannot be split"
            f" {tuple(sizes)}."
        )
    modalities = [
        Modality("image", (3, SIZE, SIZE), link="sigmoid"),
        Modality("attributes", faces.attributes.shape[1:], "bernoulli", names=ATTRIBUTES),
    ]
    tables = {
        "image": torch.from_numpy(faces.images).permute(0, 3, 1, 2),
        "attributes": torch.from_numpy(faces.attributes).to(torch.get_default_dtype()),
    }
    train, val, test = consecutive(modalities, tables, None, sizes)
    return Splits(train, val, test, "celeba")
