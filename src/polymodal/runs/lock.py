"""One writer at a time: the lock of a run directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from polymodal.checks.files import disk_errors
from polymodal.runs.files import LOCK


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Inside, no other process writes into the run directory. The system frees the lock of a
    process that ends, however it ends.

    Raises ValueError in one sentence if another process holds the lock.
    """
    lock = FileLock(directory / LOCK)
    with disk_errors(directory, "written"):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"Another process writes into {directory}; wait until it has ended, or give another"
                " directory (--out)."
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            (directory / LOCK).unlink()  # who has opened it in the meantime takes a new file
        lock.release()
