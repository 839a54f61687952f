"""Pictures decoded once: kept as one array in the cache directory, from which they are mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from polymodal.checks.files import atomic
from polymodal.data.readers.files import cache_folder, log


def decoded(
    decode: Callable[[int], np.ndarray], shape: Sequence[int], source: Path, name: str, how: str
) -> np.ndarray:
    """The values decode(0), decode(1), ..., each uint8 of shape[1:], as an array of this shape.

    They are decoded in threads, and kept until the source changes its size or time; a cache that
    cannot be written costs only time.

    Args:
        decode: reads value i.
        source: the file or folder in which they lie.
        name: the first word of the file's name in the cache.
        how: in what else the values of one source can differ.
    """
    target = _cache_file(source, shape[0], name, how)
    if target.is_file():
        return np.load(target, mmap_mode="c")
    log.warning("Decoding %d images of %s once, into %s", shape[0], source, target)
    try:
        with atomic(target) as temporary:
            mapped = np.lib.format.open_memmap(temporary, "w+", np.uint8, tuple(shape))
            _fill(mapped, decode)
            mapped.flush()
        return np.load(target, mmap_mode="c")
    except OSError as error:
        log.warning("%s cannot be written (%s); decoding in memory.", target, error)
        out = np.empty(tuple(shape), np.uint8)
        _fill(out, decode)
        return out


def _cache_file(source: Path, count: int, name: str, how: str) -> Path:
    """The file for a source of this size and time of change."""
    stat = source.stat()
    described = f"{source.resolve()} {stat.st_size} {stat.st_mtime_ns} {count} {how}"
    key = hashlib.sha256(described.encode()).hexdigest()
    return cache_folder() / "decoded" / f"{name}-{key[:16]}.npy"


def _fill(out: np.ndarray, decode: Callable[[int], np.ndarray]) -> None:
    """Decodes all values into `out`."""

    def put(i: int) -> None:
        out[i] = decode(i)

    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        for _ in pool.map(put, range(len(out)), chunksize=64):
            pass
