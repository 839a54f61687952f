"""Files of text: packed or not, in any encoding that is named."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Sequence
from pathlib import Path

from polymodal.checks import shown
from polymodal.checks.files import check_file, read_bytes
from polymodal.data.tables.user_table import MAX_MB

PACKED = ".gz"
UTF8 = "utf-8"
GZIP = 31  # zlib's number for the format of gzip


def read_text(path: Path, encoding: str | None) -> tuple[str, str, bytes]:
    """The text of a file, unpacked if its name ends in .gz; its encoding, and the mark in front.

    Args:
        encoding: None: UTF-8.

    Raises ValueError for a file that is too large, damaged, or not in this encoding.
    """
    return _decoded(path, _unpacked(path), encoding)


def _unpacked(path: Path) -> bytes:
    """The bytes of a file, decompressed if its name ends in .gz; at most `MAX_MB`."""
    content = read_bytes(path, MAX_MB)
    if path.suffix != PACKED:
        return content
    limit = max(check_file(path, MAX_MB), int(MAX_MB * 1e6))
    try:
        unpacked = _gunzip(content, limit)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); pack it again.") from None
    if len(unpacked) > limit:
        raise ValueError(f"{path} holds more than {limit / 1e6:,.0f} MB when it is unpacked.")
    return unpacked


def _gunzip(content: bytes, limit: int) -> bytes:
    """The first limit + 1 bytes of what is packed. Raises EOFError for a file that is cut."""
    unpacked = b""
    while content and len(unpacked) <= limit:
        member = zlib.decompressobj(GZIP)
        unpacked += member.decompress(content, limit + 1 - len(unpacked))
        if not member.eof and len(unpacked) <= limit:
            raise EOFError("it ends too early")
        content = member.unused_data.lstrip(b"\0")
    return unpacked


def _decoded(path: Path, content: bytes, encoding: str | None) -> tuple[str, str, bytes]:
    """The text, its encoding, and the mark in front of it."""
    chosen = encoding or UTF8
    try:
        chosen = codecs.lookup(chosen).name
        mark = next((m for m in _marks(chosen) if content.startswith(m)), b"")
        chosen = _without_mark(chosen, mark)
        return content[len(mark) :].decode(chosen), chosen, mark
    except LookupError:
        raise ValueError(
            f"There is no encoding {shown(encoding)}; write utf-8 or latin-1."
        ) from None
    except UnicodeDecodeError as error:
        where = content.count(b"\n", 0, error.start) + 1
        likely = (
            "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
        )
        remedy = (
            f"or write encoding: {likely} into the description if it is that"
            if (encoding is None)
            else "or correct encoding: in the description"
        )
        raise ValueError(
            f"{path} is not text in {chosen} (line {where}); save it in UTF-8, {remedy}."
        ) from None


def _marks(encoding: str) -> Sequence[bytes]:
    """The marks that may stand in front of text in an encoding."""
    if encoding.startswith("utf-8"):
        return (codecs.BOM_UTF8,)
    if encoding.startswith("utf-16"):
        return codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
    return ()


def _without_mark(encoding: str, mark: bytes) -> str:
    """The encoding of the text behind a mark."""
    if encoding == "utf-8-sig":
        return UTF8
    if encoding == "utf-16" and mark:
        return "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    return encoding
