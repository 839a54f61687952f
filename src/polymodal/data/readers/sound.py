"""Sound files: .wav, as mono samples at one rate."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path

import numpy as np

from polymodal.checks.files import check_file
from polymodal.data.readers.files import DamageError, reading

MAX_MB = 100.0
RATES = (1_000, 400_000)  # samples per second that are read
REMEDY = "give a .wav file of whole numbers or floats"


def read_wav(file: Path, rate: int) -> np.ndarray:
    """The samples (n,) of a .wav file, float32: whole numbers are divided by the largest of their
    type, channels are averaged, and another sampling rate is changed to `rate` (per second) by a
    polyphase filter.

    Raises ValueError for a file that is absent, damaged, larger than 100 MB, empty, or not finite.
    """
    check_file(file, MAX_MB)
    with reading(file, REMEDY), warnings.catch_warnings():
        from scipy.io import wavfile
        from scipy.signal import resample_poly

        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
        found, samples = wavfile.read(file)
        if not RATES[0] <= found <= RATES[1]:
            raise DamageError(f"its rate is {found} samples per second")
        mono = _shares(samples).reshape(len(samples), -1).mean(1)
        if not mono.size or not np.isfinite(mono).all():
            raise DamageError("it holds no sound, or values that are NaN or infinite")
        divisor = math.gcd(rate, found)
        return resample_poly(mono, rate // divisor, found // divisor).astype(np.float32)


def _shares(samples: np.ndarray) -> np.ndarray:
    """Samples of any type as float32, -1 to 1; those of 8 bits have their zero at 128."""
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    return samples.astype(np.float32)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """The bytes of a .wav file of 16 bits; samples (n,) lie in [-1, 1]."""
    from scipy.io import wavfile

    content = io.BytesIO()
    whole = (np.clip(samples, -1, 1) * np.iinfo(np.int16).max).round().astype(np.int16)
    wavfile.write(content, rate, whole)
    return content.getvalue()
