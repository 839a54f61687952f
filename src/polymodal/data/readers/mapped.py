"""Files that are mapped into memory: the system reads the pages that are touched, and drops them
when it needs the memory.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from polymodal.checks.files import atomic, disk_errors
from polymodal.data.readers.files import DamageError, cache_folder, log

Shape = Sequence[int]


@dataclass(frozen=True)
class Room:
    """Where values are kept: in memory, or in files if they take more than `limit` bytes.

    Args:
        folder: of temporary files; None: the system's.
    """

    limit: float = math.inf
    folder: Path | None = None

    def holds(self, size: float) -> bool:
        """Whether values of so many bytes are kept in memory."""
        return size <= self.limit

    def empty(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor to be written: on `device`, or of a temporary file that vanishes with it.

        Raises ValueError if the disk has no space for it.
        """
        size = math.prod(shape) * dtype.itemsize
        if self.holds(size):
            return torch.empty(tuple(shape), dtype=dtype, device=device)
        folder = Path(self.folder or tempfile.gettempdir())
        with disk_errors(folder, "written"), tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):  # or a full disk ends the process later
                os.posix_fallocate(file.fileno(), 0, size)
            raw = np.memmap(file, np.uint8, "r+", 0, (size,))
        return torch.from_numpy(raw).view(dtype).view(tuple(shape))


def kept(
    source: Path,
    how: str,
    shape: Shape,
    dtype: np.dtype,
    arrays: Callable[[], Iterable[np.ndarray]],
) -> np.ndarray:
    """An array in a file of the cache, written once by one process, mapped.

    Args:
        arrays: its parts, in order.
    """
    target = cache_file(source, f"{how} {tuple(shape)} {dtype}")
    with disk_errors(target, "written"), once(target):
        if not target.is_file():
            size = math.prod(shape) * dtype.itemsize
            log.warning("Writing %.3g GB of %s once, into %s", size / 1e9, source, target)
            _write(target, shape, dtype, arrays())
    return np.load(target, mmap_mode="c")


@contextmanager
def once(target: Path) -> Iterator[None]:
    """Inside, no other process writes `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(f".{target.name}.lock")
    with FileLock(lock):
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()  # who has opened it in the meantime takes a new file


def cache_file(source: Path, how: str, suffix: str = ".npy") -> Path:
    """The file of the cache for what is made of a source of this size and time of change."""
    stat = source.stat()
    described = f"{source.resolve()} {stat.st_size} {stat.st_mtime_ns} {how}"
    key = hashlib.sha256(described.encode()).hexdigest()
    return cache_folder() / "tables" / f"{source.stem}-{key[:16]}{suffix}"


def _write(target: Path, shape: Shape, dtype: np.dtype, arrays: Iterable[np.ndarray]) -> None:
    with atomic(target) as beside, open(beside, "wb") as file:
        about = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": tuple(shape),
        }
        np.lib.format.write_array_header_2_0(file, about)
        begin = file.tell()
        for array in arrays:
            file.write(np.ascontiguousarray(array).view(np.uint8).data)
        if (size := file.tell() - begin) != math.prod(shape) * dtype.itemsize:
            raise DamageError(f"it has {size:,} bytes of {math.prod(shape) * dtype.itemsize:,}")
