"""A folder of sounds that a column names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Ge, Le
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import FileName, Group, shown
from polymodal.data.readers.sound import read_wav
from polymodal.data.sources.named_files import named_files
from polymodal.data.sources.source import Place, Samples, Source, register
from polymodal.data.spectrogram import RATE, fit_length, log_mel

SKIP = "or write skip: true into the description to leave such sounds out"


class SoundsEntry(Group):
    """A folder of .wav files.

    Args:
        column: of the table, with the names of the files, with or without their ending.
        folder: in which they lie; a name in the column may lead into folders below it.
        mels, frames: of the spectrograms; 32 frames are .66 seconds.
        skip: leave out sounds that are damaged: samples lack them.
        file: the table; None: the main one.
        key: the column of that table that names the samples; None: that of the description.
    """

    column: str
    folder: FileName = "."
    mels: Annotated[int, Ge(4), Le(128)] = 32
    frames: Annotated[int, Ge(2), Le(1024)] = 32
    skip: bool = False
    file: FileName | None = None
    key: str | None = None


def is_sound(path: Path) -> bool:
    """Whether a file is a sound, by its name.

    >>> is_sound(Path("a.WAV")), is_sound(Path("a.mp3"))
    (True, False)
    """
    return path.suffix.lower() == ".wav" and not path.name.startswith(".")


@dataclass
class Sounds(Samples):
    """Sounds in files, None where there is none.

    Args:
        entry: what the description says.
        keys: of the samples.
        absent: the names without a file.
    """

    files: Sequence[Path | None]
    entry: SoundsEntry
    keys: Sequence[str] | None = None
    absent: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.files)

    def describe(self, name: str, rows: Sequence[int]) -> Modality:
        shape = (1, self.entry.mels, self.entry.frames)
        return Modality(name, shape, link="sigmoid", kind="audio", scale=None)

    def values(self, modality: Modality) -> tuple[Tensor, Tensor, list[str]]:
        """Spectrograms of the middle of each sound, with silence around shorter ones."""
        x, damaged = torch.zeros(len(self), *modality.shape), []
        there = torch.tensor([file is not None for file in self.files])
        for k, file in enumerate(self.files):
            if file is None:
                continue
            try:
                wave = torch.from_numpy(read_wav(file, RATE))
            except ValueError as error:
                if not self.entry.skip:
                    raise ValueError(f"{str(error).removesuffix('.')}, {SKIP}.") from None
                damaged.append(file)
                there[k] = False
                continue
            _, mels, frames = modality.shape
            x[k] = log_mel(fit_length(wave, frames)[None], mels)[0]
        return x, there, self._notes(modality.name, damaged)

    def _notes(self, name: str, damaged: Sequence[Path]) -> list[str]:
        lacking = ((self.absent, "are not in the folder"), (damaged, "cannot be read"))
        return [
            f"{len(which):,} of {len(self):,} sounds of {name!r} {why} (first:"
            f" {shown(str(which[0]))}); those samples lack {name!r}."
            for which, why in lacking
            if which
        ]


@register
class SoundsSource(Source):
    """`source: sounds`: a folder of .wav files of any rate and length."""

    name = "sounds"
    Entry = SoundsEntry

    def read(self, name: str, entry: SoundsEntry, place: Place) -> Samples:
        folder = place.path(entry.folder)
        if not folder.is_dir():
            raise ValueError(
                f"There is no folder {folder} for the sounds of {name!r}; write folder: into the"
                " description, relative to it."
            )
        table = place.table(entry.file)
        words = table.cells(entry.column, place.empty, as_words=True).as_words()
        files = named_files(words, entry.column, folder, is_sound, "sounds")
        lost = [w for w, f in zip(words, files, strict=True) if w is not None and f is None]
        if not any(files):
            raise ValueError(
                f"None of the {len(lost):,} sounds that the column {entry.column!r} names is in"
                f" {folder} (first: {shown(lost[0]) if lost else 'none'}); write folder: into the"
                f" description of {name!r}."
            )
        return Sounds(files, entry, place.keys(table, entry.key), lost)

    def taken(self, entry: SoundsEntry) -> Sequence[str]:
        return (entry.column,)
