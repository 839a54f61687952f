"""Sound as log-mel spectrograms (1, mels, frames)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality, escaped
from polymodal.checks.files import regular
from polymodal.data.kinds.image import Image
from polymodal.data.kinds.kind import Asked, Kind, Shape, register
from polymodal.data.readers.sound import read_wav, wav
from polymodal.data.spectrogram import RATE, fit_length, log_mel, sound

LEAST, MOST = 4, 128  # sizes of mel bands that have bins of their own
WAVES = 64  # sounds that are written


@register
class Audio(Image):
    """Sound of 8 kHz as a spectrogram in [0, 1], the lowest band first, see
    `polymodal.data.spectrogram.log_mel`; read from .wav files and written as such.
    """

    name = "audio"
    asked: Asked = "file"
    by_shape = False

    def holds(self, shape: Shape) -> bool:
        return len(shape) == 3 and shape[0] == 1 and LEAST <= shape[1] <= MOST and shape[2] > 1

    def claims(self, x: np.ndarray) -> bool:
        return False

    def network(self, modality: Modality) -> str:
        """A convolutional network for 32 bands and 32 frames, else mlp."""
        return "svhn-conv" if modality.shape[1:] == (32, 32) else "mlp"

    def read(self, file: Path, modality: Modality) -> Tensor:
        """The sound in a .wav file as one sample (1, 1, mels, frames), its middle if it is longer
        and with silence around it if it is shorter; or arrays of spectrograms.

        Raises ValueError as `Kind.read`.
        """
        if file.suffix.lower() != ".wav":
            return super().read(file, modality)
        _, mels, frames = modality.shape
        wave = torch.from_numpy(read_wav(regular(file), RATE))
        return log_mel(fit_length(wave, frames)[None], mels)

    def load(self, file: Path, name: str) -> np.ndarray:
        return Kind.load(self, file, name)

    def show(self, x: Tensor, modality: Modality, span: tuple[float, float] = (0.0, 1.0)) -> Tensor:
        """Spectrograms, time to the right and frequency upwards."""
        return super().show(x, modality, span).flip(-2)

    def encode(self, x: Tensor, modality: Modality) -> tuple[str, bytes]:
        return Kind.encode(self, x, modality)

    def files(
        self, draws: Tensor, modality: Modality, above: Sequence[Tensor] = ()
    ) -> Mapping[str, bytes]:
        """The picture of `Image.files`, and `<name>.<sample>.<draw>.wav` for at most 64 draws."""
        name = escaped(modality.name)
        files = dict(super().files(draws, modality, above))
        count = min(draws.shape[1], WAVES)
        some = draws[: max(1, WAVES // count), :count]
        waves = sound(some.flatten(0, 1)).unflatten(0, some.shape[:2]).numpy()
        for k, draw in enumerate(waves):
            for i, wave in enumerate(draw):
                files[f"{name}.{i}.{k}.wav"] = wav(wave, RATE)
        return files
