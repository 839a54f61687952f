"""Arrays in .npz and .npy files, whose sizes are looked at before they are read."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from polymodal.checks import FilePath
from polymodal.checks.files import regular
from polymodal.data.readers.files import DamageError, reading
from polymodal.data.readers.mapped import Room, kept

MAX_GB = 1.0
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
HEADER = 2**16  # bytes in which a header must end
LOCAL = 30  # bytes before the name of a member of an archive
PART = 2**22  # bytes that are unpacked at a time
ARCHIVE, ARRAY = b"PK", b"\x93NUMPY"  # how the files begin
REMEDY = "write it again as an .npz file with an array of numbers for each modality"


@dataclass(frozen=True)
class _Header:
    """What is said at the beginning of an array.

    Args:
        begin: bytes before its numbers.
    """

    shape: tuple[int, ...]
    in_columns: bool
    dtype: np.dtype
    begin: int

    @property
    def size(self) -> int:
        """The bytes of its numbers."""
        return math.prod(self.shape) * max(1, self.dtype.itemsize)

    @property
    def is_table(self) -> bool:
        """Whether it can be a large modality: numbers of more than one axis."""
        return len(self.shape) > 1 and self.dtype.kind in "biuf" and self.dtype.itemsize <= 8

    @property
    def in_memory(self) -> int:
        """The bytes of a table of it: bytes stay bytes, all else is of four."""
        return math.prod(self.shape) * (1 if self.dtype == np.uint8 else 4)


def read_arrays(
    file: Path,
    max_gb: float = MAX_GB,
    smaller: str = "give fewer samples",
    room: Room | None = None,
) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by name, or that of an .npy file under the name "", in the
    machine's byte order; long doubles become float64.

    Args:
        max_gb: what packed arrays may take, unpacked.
        smaller: what to do if they take more, for the sentence.
        room: if it does not hold all arrays, those of numbers with more than one axis stay in the
            file, which is mapped (and in the byte order of the file), packed ones in a file of the
            cache, into which they are unpacked once. None: all are read.

    Raises ValueError if the file is truncated, damaged, too large or no regular file, has a name
    twice or holds Python objects.
    """
    limit = max_gb * 2**30
    with reading(regular(file), REMEDY), file.open("rb") as stream:
        start = stream.read(len(ARRAY))
        if start == ARRAY:
            header = _header(start + stream.read(HEADER), "its array")
            _check_whole(header, file.stat().st_size)
            if header.is_table and room is not None and not room.holds(header.in_memory):
                return {"": _mapped(file, header, 0)}
            stream.seek(0)
            return {"": _array(stream)}
        if not start.startswith(ARCHIVE):
            raise DamageError("it holds no array")
        with zipfile.ZipFile(stream) as archive:
            return _read(file, archive, limit, smaller, room)


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


def _read(
    file: Path, archive: zipfile.ZipFile, limit: float, smaller: str, room: Room | None
) -> dict[str, np.ndarray]:
    headers = _headers(archive, limit, smaller)
    is_large = room is not None and not room.holds(sum(h.in_memory for h in headers.values()))
    arrays = {}
    for member, (name, header) in zip(archive.infolist(), headers.items(), strict=True):
        if not (is_large and header.is_table):
            with archive.open(member) as stream:
                arrays[name] = _array(stream)
        elif _is_packed(member):
            arrays[name] = _unpacked(file, name, header, archive, member)
        else:
            arrays[name] = _mapped(file, header, _begin(archive, member))
    return arrays


def _headers(archive: zipfile.ZipFile, limit: float, smaller: str) -> dict[str, _Header]:
    """The headers of all arrays by name. Raises DamageError for those that cannot be read."""
    members = archive.infolist()
    names = [member.filename.removesuffix(".npy") for member in members]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DamageError(f"it holds {twice[0]!r} twice")
    headers, packed = {}, 0
    for member, name in zip(members, names, strict=True):
        with archive.open(member) as stream:
            header = headers[name] = _header(stream.read(HEADER), repr(name))
        if _is_packed(member):
            packed += header.size
            _check_size(packed, limit, smaller)
        else:
            _check_whole(header, member.file_size)
    return headers


def _is_packed(member: zipfile.ZipInfo) -> bool:
    return member.compress_type != zipfile.ZIP_STORED


def _header(content: bytes, what: str) -> _Header:
    """The header of an array. Raises DamageError if it is no array of numbers or words."""
    if not content.startswith(ARRAY):
        raise DamageError(f"{what} is no array")
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in HEADERS:
        raise DamageError(f"{what} holds no numbers")
    shape, in_columns, dtype = HEADERS[version](stream)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise DamageError(f"{what} holds Python objects or a negative size, not numbers")
    return _Header(shape, in_columns, dtype, stream.tell())


def _check_size(size: int, limit: float, smaller: str) -> None:
    if size > limit:
        raise DamageError(
            f"its arrays take {size / 2**30:.1f} GB, more than {limit / 2**30:g} GB", smaller
        )


def _check_whole(header: _Header, size: int) -> None:
    """Raises DamageError if an array of `size` bytes, which is not packed, is longer than that."""
    if header.begin + header.size > size:
        raise DamageError("an array has fewer values than its shape says")


def _array(stream: IO[bytes]) -> np.ndarray:
    x = np.lib.format.read_array(stream, allow_pickle=False)
    if stream.read(1):
        raise DamageError("an array has more values than its shape says")
    if x.dtype.kind == "f" and x.dtype.itemsize > 8:
        return x.astype(np.float64)
    return x.astype(x.dtype.newbyteorder("="), copy=False)


# Arrays that stay in files.


def _mapped(file: Path, header: _Header, begin: int) -> np.ndarray:
    """An array that begins at a byte of the file; what is written to it does not reach the file."""
    order: Any = "F" if header.in_columns else "C"
    return np.memmap(file, header.dtype, "c", begin + header.begin, header.shape, order)


def _begin(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """The byte of the file at which a member that is not packed begins."""
    stream = archive.fp
    assert stream is not None
    stream.seek(member.header_offset)
    local = stream.read(LOCAL)
    return member.header_offset + LOCAL + sum(struct.unpack("<HH", local[-4:]))


def _unpacked(
    file: Path, name: str, header: _Header, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> np.ndarray:
    """An array unpacked into a file of the cache."""
    shape = header.shape[::-1] if header.in_columns else header.shape

    def parts() -> Iterator[np.ndarray]:
        with archive.open(member) as stream:
            stream.read(header.begin)
            while content := stream.read(PART):
                yield np.frombuffer(content, np.uint8)

    x = kept(file, name, shape, header.dtype, parts)
    return x.T if header.in_columns else x


# Writing.


def archive(arrays: Mapping[str, Any]) -> bytes:
    """An .npz file of arrays by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:  # numpy.savez takes no array named "file"
        for name, x in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(x))
    return content.getvalue()
