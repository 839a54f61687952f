"""Files: looked at before they are read, and written whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LIMIT = "POLYMODAL_MAX_MB"  # the environment variable that raises the sizes that are read
PERMISSION = "permission is denied; give a directory that you may write to"
ADVICE = {
    errno.ENOSPC: (
        "there is no space left on the disk; free some, or give another --out (the old file stays)"
    ),
    errno.EDQUOT: (
        "the disk quota is used up; free some, or give another --out (the old file stays)"
    ),
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: "the file system is read-only; give another --out",
}


def file_error(error: OSError, path: Path, action: str) -> ValueError:
    """The error of the operating system in one sentence, with advice.

    Args:
        action: the verb, as in "cannot be written".
    """
    reason = ADVICE.get(error.errno or 0, str(error.strerror or error).lower())
    return ValueError(f"{path} cannot be {action}: {reason}.")


@contextmanager
def disk_errors(path: Path, action: str) -> Iterator[None]:
    """Inside, an error of the operating system is raised as a `file_error`."""
    try:
        yield
    except OSError as error:
        raise file_error(error, path, action) from error


def damaged(
    path: Path, reason: object, remedy: str = "restore it, or train the run again"
) -> ValueError:
    """The error of a file whose contents cannot be used."""
    text = " ".join(str(reason).split()).removesuffix(".")
    text = text if len(text) < 300 else f"{text[:300]} ..."
    return ValueError(f"{path} is damaged ({text}); {remedy}.")


# Reading.


def regular(path: Path) -> Path:
    """The path itself. Raises ValueError if there is nothing, or a folder or a device."""
    if not os.path.exists(path):  # also of names that no file can have
        raise ValueError(f"There is no file {path}.")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"{path} is {kind}; give a file.")
    return path


def check_file(path: Path, most: float) -> int:
    """The number of bytes that may be read of a file; looks at it without opening it.

    Args:
        most: MB; $POLYMODAL_MAX_MB raises it.

    Raises ValueError in one sentence unless `path` is a regular file of at most this size.
    """
    limit = max(most, float(os.environ.get(LIMIT) or 0))
    with disk_errors(path, "read"):
        size = regular(path).stat().st_size
    if size > limit * 1e6:
        raise ValueError(
            f"{path} has {size / 1e6:,.0f} MB, and at most {limit:,.0f} MB of such a file"
            f" are read; set {LIMIT} in the environment to read it."
        )
    return int(limit * 1e6)


def check_expanded(path: Path, most: float) -> None:
    """Raises ValueError if a file is a zip archive, such as .npz, whose files have more than `most`
    MB together once they are expanded.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(each.file_size for each in archive.infolist())
    if size > most * 1e6:
        raise ValueError(
            f"{path.name} expands to {size / 1e6:,.0f} MB, and at most {most:,.0f} MB are read;"
            " give a file of fewer values."
        )


def read_bytes(path: Path, most: float) -> bytes:
    """The bytes of a file of at most `most` MB. Raises ValueError as `check_file` does."""
    limit = check_file(path, most)
    with disk_errors(path, "read"), open(path, "rb") as file:
        return file.read(limit)


# Writing.


@contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to. At the end of the block it is forced to disk and renamed
    to `target`, so that a reader sees the old file or the new one; if the block raises, it is
    removed. So is what writers of `target` that were killed have left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_left(target)
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield beside
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, target)
        if os.name == "posix":
            _sync_directory(target.parent)
    finally:
        with suppress(OSError):
            beside.unlink()


def write(path: Path, data: bytes) -> None:
    """Writes `data` to `path` completely or not at all, whenever the process or the machine stops.

    Raises ValueError in one sentence if there is no space or no permission; the old file then
    stays.
    """
    with disk_errors(path, "written"), atomic(path) as beside, open(beside, "wb") as file:
        file.write(data)


def remove_left(target: Path) -> None:
    """Removes what killed writers of `target` have left beside it."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        if not _is_running(left.name.split(".")[-2]):
            with suppress(OSError):
                left.unlink()


def _is_running(process: str) -> bool:
    """Whether there may be a process of this number."""
    if os.name != "posix" or not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _sync_directory(path: Path) -> None:
    """Forces a renaming inside the directory to disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_directory(path: Path) -> None:
    """Makes the directory `path` and its parents if they are missing.

    Raises ValueError in one sentence if it cannot be made.
    """
    with disk_errors(path, "made"):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file; give a directory.")
        path.mkdir(parents=True, exist_ok=True)
