"""Finding, fetching and reading data files. A file gets its name only when it is complete."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from polymodal.checks.files import atomic

log = logging.getLogger("polymodal")
# Whether files that are not there are downloaded.
downloads: ContextVar[bool] = ContextVar("downloads", default=True)

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


def cache_folder() -> Path:
    """The user's cache directory for polymodal."""
    import pooch

    return Path(pooch.os_cache("polymodal"))


def data_folder(path: str | os.PathLike[str] | None = None) -> Path:
    """The folder of data files: `path`, else $POLYMODAL_DATA, else the user's cache directory.

    Raises ValueError for a `path` that is no folder.
    """
    named = path or os.environ.get("POLYMODAL_DATA")
    if named is None:
        return cache_folder()
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"There is no folder {folder}; create it or give another (path=, --data,"
            " $POLYMODAL_DATA)."
        )
    return folder


def find(folder: Path, subfolders: Sequence[str], *names: str) -> Path | None:
    """The first of `names` that lies in one of `subfolders` ("." is `folder` itself)."""
    places = [folder / sub / name for name in names for sub in subfolders]
    return next((place for place in places if place.exists()), None)


# The errors of truncated and damaged files.
DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error, zipfile.BadZipFile)


@contextlib.contextmanager
def reading(file: Path, remedy: str) -> Iterator[None]:
    """Turns every error of a truncated or damaged file into a ValueError of one sentence."""
    try:
        yield
    except DAMAGE as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{file} is truncated or damaged ({why}); {remedy}.") from error


def _check_md5(content: bytes, md5: str) -> None:
    """Raises ValueError unless the content has this md5."""
    computed = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if computed != md5:
        raise ValueError(f"its content has md5 {computed}, the published file {md5}")


def fetch(url: str, target: Path, md5: str) -> Path:
    """Downloads `url` to `target`; `md5` is that of the decompressed content, checked before the
    file gets its name.

    Raises ValueError, saying which file to put where, when it cannot be downloaded or is not the
    published one.
    """
    import pooch

    if not downloads.get():
        raise ValueError(
            f"{target.name} is not in {target.parent}, which the run names, and nothing is"
            " downloaded there; say where it lies (--data)."
        )
    log.warning("Downloading %s to %s", url, target)
    try:
        with atomic(target) as temporary:
            pooch.HTTPDownloader(timeout=30)(url, str(temporary), None)
            _check_md5(_content(target, temporary.read_bytes()), md5)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = type(error).__name__ if isinstance(error, OSError) else str(error)
        raise ValueError(
            f"{target.name} is not in {target.parent} and could not be fetched from {url} ({why});"
            " put the file there yourself, or say where it lies (path=, --data, $POLYMODAL_DATA)."
        ) from error
    return target


def read_idx(file: Path, md5: str | None = None) -> np.ndarray:
    """The uint8 array in an IDX file (`.gz` or not): zero, zero, type, rank, big-endian sizes,
    values.

    Raises ValueError if the file is truncated or damaged, or the md5 of its decompressed content is
    not `md5`.
    """
    with reading(file, "delete it and fetch it again"):
        content = _content(file, file.read_bytes())
        shape, values = _idx_header(content)
        if md5:
            _check_md5(content, md5)
        return np.frombuffer(bytearray(content), np.uint8, offset=values).reshape(shape)


def _content(file: Path, stored: bytes) -> bytes:
    """The bytes of a file, decompressed if its name ends in .gz."""
    return gzip.decompress(stored) if file.suffix == ".gz" else stored


def _idx_header(content: bytes) -> tuple[np.ndarray, int]:
    """The shape in the header of an IDX file, and where the values begin."""
    if content[:3] != b"\0\0\x08":
        raise ValueError("it is no IDX file of unsigned bytes")
    rank = content[3]
    begin = 4 + 4 * rank
    shape = np.frombuffer(content, ">u4", rank, 4).astype(int)
    if len(content) != begin + shape.prod():
        raise ValueError(
            f"it should hold {shape.prod()} bytes of values and holds {len(content) - begin}"
        )
    return shape, begin


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file. Raises ValueError if it is truncated, damaged or holds Python
    objects.
    """
    remedy = "write it again with numpy.savez and arrays of numbers"
    with reading(file, remedy), np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_mat(file: Path) -> dict[str, Any]:
    """The variables of a MATLAB 5 file. Raises ValueError if it is truncated or damaged."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    with reading(file, "delete it and fetch it again"):
        try:
            return loadmat(file)
        except MatReadError as error:
            raise ValueError(str(error)) from error


def _images(nhwc: np.ndarray, labels: np.ndarray) -> Part:
    """Images (N, C, H, W), channels-last in memory, and labels."""
    images = torch.from_numpy(np.ascontiguousarray(nhwc)).permute(0, 3, 1, 2)
    return images, torch.from_numpy(labels.astype(np.int64))


def idx_digits(name: str, path: str | os.PathLike[str] | None = None) -> dict[str, Part]:
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


def svhn_digits(path: str | os.PathLike[str] | None = None) -> tuple[dict[str, Part], bool]:
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
    arrays = read_npz(file)
    with reading(file, "delete it and copy it again"):
        images, labels = _images(arrays["images"], arrays["labels"])
    return {"train": (images[:8000], labels[:8000]), "test": (images[8000:], labels[8000:])}


def _official_svhn(file: Path) -> Part:
    """A file of images (32, 32, 3, N) and labels 1, ..., 10, where 10 is the digit 0."""
    arrays = read_mat(file)
    with reading(file, "delete it and fetch it again"):
        return _images(arrays["X"].transpose(3, 0, 1, 2), arrays["y"].ravel() % 10)
