"""Arrays in .npz and .npy files, whose sizes are looked at before they are read."""

from __future__ import annotations

import io
import math
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from polymodal.checks import FilePath
from polymodal.checks.files import regular
from polymodal.data.readers.files import DamageError, reading

MAX_GB = 1.0
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
HEADER = 2**16  # bytes in which a header must end
ARCHIVE, ARRAY = b"PK", b"\x93NUMPY"  # how the files begin
REMEDY = "write it again as an .npz file with an array of numbers for each modality"


def read_arrays(
    file: Path, max_gb: float = MAX_GB, smaller: str = "give fewer samples"
) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name, or that of an .npy file under the name "", in the
    machine's byte order; long doubles become float64.

    Args:
        max_gb: what the arrays may take in memory.
        smaller: what to do if they take more, for the sentence.

    Raises ValueError if the file is truncated, damaged, too large or no regular file, has a name
    twice or holds Python objects.
    """
    limit = max_gb * 2**30
    with reading(regular(file), REMEDY), file.open("rb") as stream:
        start = stream.read(len(ARRAY))
        if start == ARRAY:
            _check_size(_size(start + stream.read(HEADER), "its array"), limit, smaller)
            stream.seek(0)
            return {"": _array(stream)}
        if not start.startswith(ARCHIVE):
            raise DamageError("it holds no array")
        with zipfile.ZipFile(stream) as archive:
            return _read(archive, limit, smaller)


def is_arrays(path: FilePath) -> bool:
    """Whether a file holds arrays, by its name."""
    return str(path).lower().endswith((".npz", ".npy"))


def samples_in(arrays: Mapping[str, np.ndarray]) -> int:
    """How many samples arrays have: the length of most of those of two and more axes, of equally
    many the larger one; 0 if there are none.
    """
    lengths = Counter(len(x) for x in arrays.values() if x.ndim > 1)
    return max(lengths, key=lambda n: (lengths[n], n), default=0)


def lists_in(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays (N,) that say one thing of each sample, such as labels and names."""
    n = samples_in(arrays)
    return {name: x for name, x in arrays.items() if x.shape == (n,)}


def array_for(file: Path, name: str) -> np.ndarray:
    """The array `name` of a file, or the only one if it has no name. Raises ValueError as
    `read_arrays`, or if there is no such array.
    """
    arrays = read_arrays(file)
    if name in arrays:
        return arrays[name]
    if len(arrays) == 1 and not arrays.keys().isdisjoint({"", "arr_0"}):
        return next(iter(arrays.values()))
    raise ValueError(f"{file} holds {', '.join(arrays) or 'nothing'}; name the array {name!r}.")


def _read(archive: zipfile.ZipFile, limit: float, smaller: str) -> dict[str, np.ndarray]:
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DamageError(f"it holds {twice[0]!r} twice")
    sizes = []
    for member, name in zip(members, names, strict=True):
        with archive.open(member) as stream:
            sizes.append(_size(stream.read(HEADER), repr(name)))
        _check_size(sum(sizes), limit, smaller)
    arrays = {}
    for member, name in zip(members, names, strict=True):
        with archive.open(member) as stream:
            arrays[name] = _array(stream)
    return arrays


def _size(content: bytes, what: str) -> int:
    """The bytes that an array takes by its header."""
    if not content.startswith(ARRAY):
        raise DamageError(f"{what} is no array")
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise DamageError(f"{what} holds no numbers")
    shape, _, dtype = HEADERS[version](stream)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise DamageError(f"{what} holds Python objects or a negative size, not numbers")
    return math.prod(shape) * max(1, dtype.itemsize)


def _check_size(size: int, limit: float, smaller: str) -> None:
    if size > limit:
        raise DamageError(
            f"its arrays take {size / 2**30:.1f} GB, more than {limit / 2**30:g} GB", smaller
        )


def _array(stream: IO[bytes]) -> np.ndarray:
    x = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1):
        raise DamageError("an array has more values than its shape says")
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        return x.astype(np.float64)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


# Writing.


def archive(arrays: Mapping[str, Any]) -> bytes:
    """An .npz file of arrays by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:  # numpy.savez takes no array named "file"
        for name, x in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(x))
    return content.getvalue()
