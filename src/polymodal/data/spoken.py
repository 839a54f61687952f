"""Spoken digits: the Free Spoken Digit Dataset, beside MNIST."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from polymodal.batch import Modality
from polymodal.checks import Depth, FilePath
from polymodal.data.digits import matched_splits
from polymodal.data.readers.archives import read_arrays
from polymodal.data.readers.digits import Part, idx_digits
from polymodal.data.readers.files import DamageError, data_folder, find, log, reading, sha256_of
from polymodal.data.readers.sound import read_wav
from polymodal.data.spectrogram import RATE, fit_length, log_mel
from polymodal.data.splits import Splits

MELS, FRAMES = 32, 32  # 0.62 s
PACKED, RECORDINGS = "fsdd.npz", "recordings"
FOLDERS = ("fsdd", "free-spoken-digit-dataset", ".")
NAMED = re.compile(r"(\d)_(\w+)_(\d+)\.wav")  # digit, speaker, take
TEST_TAKES = 5  # the official test part: takes 0 to 4


@dataclass(frozen=True)
class _Clips:
    """Sounds of any length at RATE, and of each its digit, speaker and take."""

    waves: Sequence[np.ndarray]
    digit: np.ndarray
    speaker: Sequence[str]
    take: np.ndarray

    def rows(self, where: np.ndarray) -> np.ndarray:
        """Those of `where` (N,) bool, ordered by take, speaker and digit."""
        order = np.lexsort((self.digit, np.asarray(self.speaker), self.take))
        return order[where[order]]


def _recorded(folder: Path) -> _Clips:
    """The clips of a folder of `{digit}_{speaker}_{take}.wav`."""
    named = [(file, NAMED.fullmatch(file.name)) for file in sorted(folder.iterdir())]
    found = [(file, match) for file, match in named if match]
    return _Clips(
        [read_wav(file, RATE) for file, _ in found],
        np.array([int(match[1]) for _, match in found], np.int64),
        [match[2] for _, match in found],
        np.array([int(match[3]) for _, match in found], np.int64),
    )


def _packed(file: Path) -> _Clips:
    """The clips of an .npz file: `audio` (all clips, int16), `offsets`, `labels`, `speaker`, `take`
    and `sample_rate`.
    """
    arrays = read_arrays(file)
    with reading(file, "copy it again"):
        log.info("%s has sha256 %s", file, sha256_of(file))
        if int(arrays["sample_rate"]) != RATE:
            raise DamageError(f"its rate is {arrays['sample_rate']}, not {RATE}")
        audio = arrays["audio"].astype(np.float32) / 2**15
        waves = np.split(audio, arrays["offsets"][1:-1])
        labels, take = arrays["labels"].astype(np.int64), arrays["take"].astype(np.int64)
        if not len(waves) == len(labels) == len(take) == len(arrays["speaker"]):
            raise DamageError("its arrays have different lengths")
        return _Clips(waves, labels, [str(k) for k in arrays["speaker"]], take)


def _clips(folder: Path) -> _Clips:
    if recordings := find(folder, FOLDERS, RECORDINGS):
        return _recorded(recordings)
    if packed := find(folder, FOLDERS, PACKED):
        return _packed(packed)
    raise ValueError(
        f"The spoken digits are not in {folder}; put the folder recordings of"
        " github.com/Jakobovski/free-spoken-digit-dataset there."
    )


def _part(clips: _Clips, rows: np.ndarray) -> Part:
    """Spectrograms (N, 1, 32, 32) and digits (N,)."""
    waves = [fit_length(torch.from_numpy(clips.waves[i]), FRAMES) for i in rows]
    return log_mel(torch.stack(waves), MELS), torch.from_numpy(clips.digit[rows])


def spoken_digits(path: FilePath | None = None) -> dict[str, Part]:
    """The "train" and "test" parts of the Free Spoken Digit Dataset: spectrograms (N, 1, 32, 32)
    and digits (N,), in the order of takes.

    In this order of preference: the official folder `recordings` of
    `{digit}_{speaker}_{take}.wav`, or the packed `fsdd.npz`. The split is the official one: takes 0
    to 4 are for testing.

    Raises ValueError for files that are absent or damaged.
    """
    clips = _clips(data_folder(path))
    test = clips.take < TEST_TAKES
    if test.all() or not test.any():
        raise ValueError(
            "Spoken digits need recordings {digit}_{speaker}_{take}.wav of takes 0 to 4, for"
            f" testing, and of others, got {len(test)} recordings of takes"
            f" {sorted(set(clips.take.tolist()))[:10]}."
        )
    return {"train": _part(clips, clips.rows(~test)), "test": _part(clips, clips.rows(test))}


def mnist_audio(
    *,
    path: FilePath | None = None,
    matchings: Depth = 20,
    val: float = 0.1,
    fresh: bool = True,
    seed: int = 0,
) -> Splits:
    """MNIST digits and spoken digits (Free Spoken Digit Dataset) of equal label.

    The modalities are `mnist` (1, 28, 28) and `audio` (1, 32, 32), log-mel spectrograms of 0.62 s
    of sound (kind `audio`), both normal around a sigmoid. The 2,700 and 300 recordings of 6
    speakers are split officially by take: each speaker is in all parts. `val` is the share of the
    training recordings, the last takes, held out for validation. Each recording is paired with
    `matchings` digits, which are drawn anew each time (`fresh`, see `match`), so that more of
    MNIST is used.
    """
    modalities = [
        Modality("mnist", (1, 28, 28), link="sigmoid"),
        Modality("audio", (1, MELS, FRAMES), link="sigmoid", kind="audio"),
    ]
    digits = [idx_digits("mnist", path), spoken_digits(path)]
    return matched_splits("mnist-audio", modalities, digits, val, matchings, fresh, seed)
