"""The files of MNIST, Fashion-MNIST and SVHN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.checks import FilePath
from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.files import (
    DamageError,
    check_md5,
    data_folder,
    fetch,
    find,
    reading,
    unpacked,
)

# Folder, address and md5 of the files' decompressed content (gzip wrappers differ between mirrors).
IDX = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
    ),
}
# Both sets give their files the same names, so only one of them may lie in the folder itself.
IDX_FOLDERS = {
    "mnist": ("mnist", "MNIST/raw", "."),
    "fashion-mnist": ("fashion-mnist", "FashionMNIST/raw"),
}
SVHN_URL = "http://ufldl.stanford.edu/housenumbers/"
SVHN = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
PACKED_SVHN = "svhn_test_first10000.npz"

Part = tuple[Tensor, Tensor]  # images (N, C, H, W) uint8, labels (N,) int64


def read_idx(file: Path, md5: str | None = None) -> np.ndarray:
    """The uint8 array in an IDX file (`.gz` or not): zero, zero, type, rank, big-endian sizes,
    values.

    Raises ValueError if the file is truncated or damaged, or the md5 of its decompressed content is
    not `md5`.
    """
    with reading(file, "delete it and fetch it again"):
        content = unpacked(file, file.read_bytes())
        shape, values = _idx_header(content)
        if md5:
            check_md5(content, md5)
        return np.frombuffer(bytearray(content), np.uint8, offset=values).reshape(shape)


def _idx_header(content: bytes) -> tuple[np.ndarray, int]:
    """The shape in the header of an IDX file, and where the values begin."""
    if content[:3] != b"\0\0\x08":
        raise DamageError("it is no IDX file of unsigned bytes")
    rank = content[3]
    begin = 4 + 4 * rank
    shape = np.frombuffer(content, ">u4", rank, 4).astype(int)
    if len(content) != begin + shape.prod():
        raise DamageError(
            f"it should hold {shape.prod()} bytes of values and holds {len(content) - begin}"
        )
    return shape, begin


def read_mat(file: Path) -> dict[str, Any]:
    """The variables of a MATLAB 5 file. Raises ValueError if it is truncated or damaged."""
    from scipy.io import loadmat

    with reading(file, "delete it and fetch it again"):
        return loadmat(file)


def _images(nhwc: np.ndarray, labels: np.ndarray) -> Part:
    """Images (N, C, H, W), channels-last in memory, and labels."""
    images = torch.from_numpy(np.ascontiguousarray(nhwc)).permute(0, 3, 1, 2)
    return images, torch.from_numpy(labels.astype(np.int64))


def idx_digits(name: str, path: FilePath | None = None) -> dict[str, Part]:
    """The "train" and "test" parts of "mnist" or "fashion-mnist", from IDX files; fetched if
    they are absent.
    """
    url, hashes = IDX[name]
    folder = data_folder(path)
    arrays = []
    for stem, md5 in hashes.items():
        packed = stem + ".gz"
        file = find(folder, IDX_FOLDERS[name], packed, stem)
        file = file or fetch(url + packed, folder / name / packed, md5)
        arrays.append(read_idx(file, md5))
    train, train_labels, test, test_labels = arrays
    return {
        "train": _images(train[..., None], train_labels),
        "test": _images(test[..., None], test_labels),
    }


def svhn_digits(path: FilePath | None = None) -> tuple[dict[str, Part], bool]:
    """The "train" and "test" parts of SVHN (cropped digits), and whether they come from the packed
    10,000 images.

    In this order of preference: the official `train_32x32.mat` and `test_32x32.mat`;
    `svhn_test_first10000.npz`, the first 10,000 official test images, of which 8,000 serve for
    training and the last 2,000 for testing (contiguous: neighbours are digits of one house); the
    official files, fetched.
    """
    folder = data_folder(path)
    files = {name: find(folder, ("svhn", "SVHN", "."), name) for name in SVHN}
    packed = find(folder, ("svhn", "."), PACKED_SVHN)
    if packed and not all(files.values()):
        return _packed_svhn(packed), True
    parts = {}
    for name, md5 in SVHN.items():
        file = files[name] or fetch(SVHN_URL + name, folder / "svhn" / name, md5)
        parts[name.split("_")[0]] = _official_svhn(file)
    return parts, False


def _packed_svhn(file: Path) -> dict[str, Part]:
    arrays = read_arrays(file)
    with reading(file, "delete it and copy it again"):
        images, labels = _images(arrays["images"], arrays["labels"])
    return {"train": (images[:8000], labels[:8000]), "test": (images[8000:], labels[8000:])}


def _official_svhn(file: Path) -> Part:
    """A file of images (32, 32, 3, N) and labels 1, ..., 10, where 10 is the digit 0."""
    arrays = read_mat(file)
    with reading(file, "delete it and fetch it again"):
        return _images(arrays["X"].transpose(3, 0, 1, 2), arrays["y"].ravel() % 10)
