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
UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# How files that are no tables of text begin, what they are, and what to do.
FOREIGN = (
    (b"PK\x03\x04", "a spreadsheet or a zip archive", "save the sheet as CSV, or unpack it"),
    (b"\x1f\x8b", "packed by gzip", "give it the ending .csv.gz"),
    (b"PAR1", "a Parquet file", "give it the ending .parquet"),
    (b"ARROW1", "a Feather file", "give it the ending .feather"),
    (b"\x89HDF", "an HDF5 file", "give it the ending .h5ad or .h5mu if it is of anndata"),
    (b"\x93NUMPY", "an array of NumPy", "give it the ending .npy"),
    (b"\x89PNG", "a picture", "name it in a column of a table"),
    (b"\xff\xd8\xff", "a picture", "name it in a column of a table"),
    (b"%PDF", "a PDF file", "save the table as CSV"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself: git lfs pull"),
    (b"<!doctype", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"<?xml", "an XML file", "save the table as CSV"),
    (b"[{", "a JSON file", "save the table as CSV"),
    (b'{"', "a JSON file", "save the table as CSV"),
)


def read_text(path: Path, encoding: str | None) -> tuple[str, str, bytes]:
    """The text of a file, unpacked if its name ends in .gz; its encoding, and the mark in front.

    Args:
        encoding: None: UTF-8.

    Raises ValueError for a file that is too large, damaged, or not in this encoding.
    """
    content = _unpacked(path)
    start = content[:200].lstrip().lower()
    for mark, what, remedy in FOREIGN:
        if start.startswith(mark.lower()):
            raise ValueError(f"{path} is {what}, not a table of text; {remedy}.")
    return _decoded(path, content, encoding)


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
    unpacked = bytearray()
    while content and len(unpacked) <= limit:
        member = zlib.decompressobj(GZIP)
        unpacked += member.decompress(content, limit + 1 - len(unpacked))
        if not member.eof and len(unpacked) <= limit:
            raise EOFError("it ends too early")
        content = member.unused_data.lstrip(b"\0")
    return bytes(unpacked)


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
        remedy = (
            f"or write encoding: {_likely(content, error.start)} into the description if it is that"
            if (encoding is None)
            else "or correct encoding: in the description"
        )
        raise ValueError(
            f"{path} is not text in {chosen} (line {where}); save it in UTF-8, {remedy}."
        ) from None


def _likely(content: bytes, wrong: int) -> str:
    """The encoding of a text that is not UTF-8, by its mark or the byte that is wrong."""
    if content.startswith(UTF32):
        return "utf-32"
    if content.startswith(UTF16):
        return "utf-16"
    return "cp1252" if 0x80 <= content[wrong] < 0xA0 else "latin-1"


def _marks(encoding: str) -> Sequence[bytes]:
    """The marks that may stand in front of text in an encoding."""
    if encoding.startswith("utf-8"):
        return (codecs.BOM_UTF8,)
    if encoding.startswith("utf-16"):
        return UTF16
    return ()


def _without_mark(encoding: str, mark: bytes) -> str:
    """The encoding of the text behind a mark."""
    if encoding == "utf-8-sig":
        return UTF8
    if encoding == "utf-16" and mark:
        return "utf-16-le" if mark == codecs.BOM_UTF16_LE else "utf-16-be"
    return encoding
