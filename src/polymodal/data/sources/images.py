"""A folder of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import FileName, Group, shown
from polymodal.data.readers.decoded import decoded
from polymodal.data.readers.pictures import is_picture, picture_header, read_picture, resized
from polymodal.data.sources.named_files import files_by_stem, named_files
from polymodal.data.sources.source import Place, Samples, Source, register

USUAL = 64  # height and width, unless all pictures have one of those below
KEPT = (28, 32)
SKIP = "or write skip: true into the description to leave such pictures out"
Size = Annotated[int, Ge(8), Le(512)]


class ImagesEntry(Group):
    """A folder of pictures.

    Args:
        column: of the table, with the names of the files, with or without their ending; None: the
            name of a file, without its ending, is the key of the sample.
        folder: in which they lie; a name in the column may lead into folders below it.
        size: height and width to which they are resized; None: 64, or 28 or 32 if all have it.
        fit: stretch them, or crop the middle, where they are not square.
        skip: leave out pictures that are damaged: samples lack them.
        file: the table; None: the main one.
        key: the column of that table that names the samples; None: that of the description.
    """

    column: str | None = None
    folder: FileName = "."
    size: Size | None = None
    fit: Literal["stretch", "crop"] = "stretch"
    skip: bool = False
    file: FileName | None = None
    key: str | None = None


class KeyedEntry(ImagesEntry):
    """Pictures of new rows, named after the cells of the key column, which may all be absent."""


@dataclass
class Pictures(Samples):
    """Pictures in files.

    Args:
        folder: in which they lie.
        files: None where there is none.
        entry: what the description says.
        keys: of the samples.
        absent: the first name without a file, and the number of such names; None: all are there.
    """

    folder: Path
    files: Sequence[Path | None]
    entry: ImagesEntry
    keys: Sequence[str] | None = None
    absent: tuple[str, int] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        """Grey if all pictures are; of the size that all have, if it is one of `KEPT`."""
        size, channels = self._look()
        shape = (channels, size, size)
        return Modality(name, shape, link="sigmoid", kind="image", scale=None)

    def _look(self) -> tuple[int, int]:
        """The size and the number of channels. Looks at no more headers than needed."""
        sizes: set[tuple[int, int]] = set()
        is_grey = True
        for height, width, grey in self._headers():
            sizes.add((height, width))
            is_grey &= grey
            if not is_grey and (self.entry.size or len(sizes) > 1):
                break
        kept = [size for size in KEPT if sizes == {(size, size)}]
        return self.entry.size or (kept or [USUAL])[0], 1 if is_grey else 3

    def _headers(self) -> Iterator[tuple[int, int, bool]]:
        for file in self.files:
            if file is None:
                continue
            try:
                yield picture_header(file)
            except ValueError as error:
                if not self.entry.skip:
                    raise _or_skip(error) from None

    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        """Bytes, channels-last in memory, decoded once into a file that is mapped."""
        channels, height, width = modality.shape
        if not any(self.files):
            nothing = torch.zeros(len(self), dtype=torch.bool)
            return torch.zeros(len(self), *modality.shape, dtype=torch.uint8), nothing, []
        shape = (len(self), 1 + height * width * channels)  # the first byte: is it there
        stored = decoded(
            lambda k: self._decode(k, modality), shape, self.folder, "images", self._how(modality)
        )
        there = stored[:, 0] > 0
        x = stored[:, 1:].reshape(len(self), height, width, channels)
        notes = list(self._notes(modality, there))
        return torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(there), notes

    def _decode(self, k: int, modality: Modality) -> np.ndarray:
        """1 and the bytes of a picture; zeros if there is none."""
        channels, height, width = modality.shape
        out = np.zeros(1 + height * width * channels, np.uint8)
        file = self.files[k]
        if file is None:
            return out
        try:
            pixels = read_picture(file, file, over_white=True)
        except ValueError as error:
            if self.entry.skip:
                return out
            raise _or_skip(error) from None
        out[0] = 1
        out[1:] = resized(pixels, (channels, height, width), self.entry.fit == "crop").ravel()
        return out

    def _how(self, modality: Modality) -> str:
        """In what the bytes of one folder can differ: the files, and how they are decoded."""
        told = hashlib.sha256(f"{modality.shape} {self.entry.fit} {self.entry.skip}".encode())
        for file in self.files:
            stat = None if file is None else file.stat()
            told.update(f"{file} {stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
        return told.hexdigest()

    def _notes(self, modality: Modality, there: np.ndarray) -> Iterator[str]:
        name, count = modality.name, len(self)
        if self.absent is not None:
            first, number = self.absent
            yield (
                f"{number:,} of {count:,} pictures of {name!r} are not in {self.folder} (first:"
                f" {shown(first)}); those samples lack {name!r}."
            )
        damaged = [f for f, ok in zip(self.files, there, strict=True) if f is not None and not ok]
        if damaged:
            yield (
                f"{len(damaged):,} of {count:,} pictures of {name!r} cannot be read (first:"
                f" {damaged[0]}); those samples lack {name!r} (skip: true)."
            )


def _or_skip(error: ValueError) -> ValueError:
    return ValueError(f"{str(error).removesuffix('.')}, {SKIP}.")


@register
class ImagesSource(Source):
    """`source: images`: a folder of pictures of any size, grey or in colours."""

    name = "images"
    Entry = ImagesEntry

    def read(self, name: str, entry: ImagesEntry, place: Place) -> Samples:
        folder = place.path(entry.folder)
        if entry.column is not None and _has_none(entry, folder, place):
            keys = place.keys(place.table(entry.file), entry.key)
            return Pictures(folder, [None] * len(place.table(entry.file)), entry, keys)
        if not folder.is_dir():
            raise ValueError(
                f"There is no folder {folder} for the pictures of {name!r}; write folder: into the"
                " description, relative to it."
            )
        if entry.column is None:
            return _by_name(name, entry, folder)
        table, words = place.table(entry.file), _words(entry, place)
        files = _files(words, entry.column, folder)
        lost = [w for w, f in zip(words, files, strict=True) if w is not None and f is None]
        if not any(files) and not isinstance(entry, KeyedEntry):
            raise ValueError(
                f"None of the {len(lost):,} pictures that the column {entry.column!r} names is in"
                f" {folder} (first: {shown(lost[0]) if lost else 'none'}); write folder: into the"
                f" description of {name!r}."
            )
        absent = (lost[0], len(lost)) if lost else None
        return Pictures(folder, files, entry, place.keys(table, entry.key), absent)

    def taken(self, entry: ImagesEntry) -> Sequence[str]:
        return () if entry.column is None else (entry.column,)

    def by_column(self, entry: ImagesEntry, key: str | None) -> ImagesEntry:
        """Pictures that are named after the key are looked up by that column."""
        return entry if entry.column else KeyedEntry(**entry.model_dump() | {"column": key})


def _words(entry: ImagesEntry, place: Place) -> list[str | None]:
    """The cells of the column of an entry, None where they are empty."""
    cells = place.table(entry.file).cells(str(entry.column), place.empty, as_words=True)
    return cells.as_words()


def _has_none(entry: ImagesEntry, folder: Path, place: Place) -> bool:
    """Whether no cell of the column names a picture."""
    if isinstance(entry, KeyedEntry):
        return not folder.is_dir()
    return all(word is None for word in _words(entry, place))


def _files(words: Sequence[str | None], column: str, folder: Path) -> list[Path | None]:
    """The pictures that words name; see `named_files`."""
    return named_files(words, column, folder, is_picture, "pictures")


def stems(folder: Path) -> dict[str, Path]:
    """The pictures that lie in a folder, by their names without endings; the first of each name."""
    return {stem: files[0] for stem, files in files_by_stem(folder, is_picture).items()}


def _by_name(name: str, entry: ImagesEntry, folder: Path) -> Pictures:
    """All pictures of a folder, whose names are keys."""
    pictures = stems(folder)
    everything = [path for files in files_by_stem(folder, is_picture).values() for path in files]
    if not everything:
        raise ValueError(
            f"There is no picture in {folder} (.png, .jpg, ...); write folder: into the description"
            f" of {name!r}, or column: with their names."
        )
    twice = [path for path in everything if pictures[path.stem] != path]
    if twice:
        raise ValueError(
            f"{pictures[twice[0].stem]} and {twice[0]} have one key, {shown(twice[0].stem)}; remove"
            " one of them, or name the files by a column of a table (column: NAME)."
        )
    return Pictures(folder, everything, entry, list(pictures))
