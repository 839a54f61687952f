"""Finding and fetching data files, and errors in words. A file gets its name only when it is
complete.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock

from polymodal.checks import FilePath
from polymodal.checks.files import atomic
from polymodal.data.readers.download import download

log = logging.getLogger("polymodal")
# Whether files that are not there are downloaded.
downloads: ContextVar[bool] = ContextVar("downloads", default=True)

MAX_BYTES = 2**29  # that a packed file can have, unpacked


def cache_folder() -> Path:
    """The user's cache directory for polymodal."""
    import pooch

    return Path(pooch.os_cache("polymodal"))


def data_folder(path: FilePath | None = None) -> Path:
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


class DamageError(ValueError):
    """What is wrong with a file, in words.

    Args:
        remedy: what to do instead of what `reading` says.
    """

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy


@contextlib.contextmanager
def reading(file: Path | str, remedy: str) -> Iterator[None]:
    """Turns every error of a file that is truncated or damaged into a ValueError of one
    sentence, whose reason is that of `DamageError` or of the system.
    """
    try:
        yield
    except DamageError as error:
        remedy = error.remedy or remedy
        raise ValueError(f"{file} cannot be read, since {error}; {remedy}.") from None
    except Exception as error:  # libraries raise all kinds of errors
        why = ""
        if isinstance(error, OSError) and error.strerror:
            why = f" ({error.strerror}: {error.filename})"
        raise ValueError(f"{file} is truncated or damaged{why}; {remedy}.") from error


def check_md5(content: bytes, md5: str) -> None:
    """Raises `DamageError` unless the content has this md5."""
    computed = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if computed != md5:
        raise DamageError(f"its content has md5 {computed}, the published file {md5}")


def sha256_of(file: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch(url: str, target: Path, md5: str = "", sha256: str = "") -> Path:
    """Downloads `url` to `target`, which gets its name only when it is complete and checked.

    Until then it is `<target>.part`, which a later call resumes. One process downloads; others wait
    for it.

    Args:
        md5: that of the decompressed content; "": unknown.
        sha256: that of the file as it is served; "": unknown.

    Raises ValueError, saying which file to put where, when it cannot be downloaded or is not the
    published one.
    """
    if not downloads.get():
        raise ValueError(
            f"{target.name} is not in {target.parent}, which the run names, and nothing is"
            " downloaded there; say where it lies (--data)."
        )
    if not (md5 or sha256):
        raise ValueError(f"A download of {target.name} needs its md5 or sha256, to be checked.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not target.exists():  # another process may have fetched it
                _fetch(url, target, md5, sha256)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{target.name} is not in {target.parent} and could not be fetched from {url}, since"
            f" {why}; put the file there yourself, or say where it lies (path=, --data,"
            " $POLYMODAL_DATA)."
        ) from error
    return target


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Inside, no other process fetches `target`."""
    lock = target.with_name(f".{target.name}.lock")
    with FileLock(lock):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.unlink()  # who has opened it in the meantime takes a new file


def _fetch(url: str, target: Path, md5: str, sha256: str) -> None:
    """Downloads and checks; a file that was resumed and is wrong is fetched once more from its
    beginning. What is wrong is removed.
    """
    part = target.with_name(f"{target.name}.part")
    log.warning("Downloading %s to %s", url, target)
    for resumed in (True, False) if part.exists() else (False,):
        download(url, part)
        try:
            _check(part, target, md5, sha256)
        except (DamageError, OSError, EOFError, zlib.error):
            part.unlink()
            if not resumed:
                raise
            continue
        with atomic(target) as beside:
            os.replace(part, beside)
        return


def _check(part: Path, target: Path, md5: str, sha256: str) -> None:
    """Raises an error unless what was downloaded is the published file."""
    if sha256 and (computed := sha256_of(part)) != sha256:
        raise DamageError(f"it has sha256 {computed}, the published file {sha256}")
    if md5:
        check_md5(unpacked(target, part.read_bytes()), md5)


def unpacked(file: Path, stored: bytes) -> bytes:
    """The bytes of a file, decompressed if its name ends in .gz."""
    if file.suffix != ".gz":
        return stored
    return gzip.GzipFile(fileobj=io.BytesIO(stored)).read(MAX_BYTES)
