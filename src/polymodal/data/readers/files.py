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

from polymodal.checks import FilePath
from polymodal.checks.files import atomic

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
            check_md5(unpacked(target, temporary.read_bytes()), md5)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = type(error).__name__ if isinstance(error, OSError) else str(error)
        raise ValueError(
            f"{target.name} is not in {target.parent} and could not be fetched from {url} ({why});"
            " put the file there yourself, or say where it lies (path=, --data, $POLYMODAL_DATA)."
        ) from error
    return target


def unpacked(file: Path, stored: bytes) -> bytes:
    """The bytes of a file, decompressed if its name ends in .gz."""
    if file.suffix != ".gz":
        return stored
    return gzip.GzipFile(fileobj=io.BytesIO(stored)).read(MAX_BYTES)
