"""One writer at a time: the lock of a run directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from polymodal.checks.files import disk_errors
from polymodal.runs.files import LOCK


class BusyError(ValueError):
    """Another process writes into a directory."""


@contextmanager
def locked(directory: Path, name: str = LOCK, wait: bool = False) -> Iterator[None]:
    """Inside, no other process writes into the run directory. The system frees the lock of a
    process that ends, however it ends.

    Raises BusyError in one sentence if another process holds the lock, the file `name`, unless it
    is to `wait` for it.
    """
    lock = FileLock(directory / name)
    with disk_errors(directory, "written"):
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            raise BusyError(
                f"Another process writes into {directory}; wait until it has ended, or give another"
                " directory (--out)."
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            (directory / name).unlink()  # who has opened it in the meantime takes a new file
        lock.release()
