"""Sound as log-mel spectrograms with values in [0, 1], and sound from them."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

RATE = 8_000  # samples per second
WINDOW = 512  # samples of a frame, 64 ms
HOP = 160  # samples from frame to frame, 20 ms
FLOOR = 80.0  # dB below a sine of amplitude 1: what is quieter becomes 0
ROUNDS = 32  # of each of the two iterations by which sound is recovered
LEAST = 1e-12


def samples_of(frames: int) -> int:
    """How many samples have so many frames."""
    return HOP * (frames - 1)


def _hertz(mel: Tensor) -> Tensor:
    """Frequencies of values on the mel scale, 2595 log10(1 + f / 700)."""
    return 700 * (10 ** (mel / 2595) - 1)


@cache
def mel_filters(mels: int) -> Tensor:
    """Triangles with peak 1, equally spaced on the mel scale from 0 to RATE / 2: (mels, bins).

    >>> mel_filters(32).shape
    torch.Size([32, 257])
    """
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    edges = _hertz(torch.linspace(0, top, mels + 2, dtype=torch.float64))
    low, peak, high = (edges[k : mels + k, None] for k in range(3))
    bins = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    return torch.minimum(rising, falling).clamp_min(0).float()


def fit_length(wave: Tensor, frames: int) -> Tensor:
    """Sound (n,) as (samples,) for so many frames: its middle, or with silence on both sides."""
    lacking = samples_of(frames) - len(wave)
    before = lacking // 2
    return torch.nn.functional.pad(wave, (before, lacking - before))


def _stft(waves: Tensor) -> Tensor:
    """(N, samples) -> complex (N, bins, frames); a sine of amplitude 1 at a bin has size 1."""
    window = torch.hann_window(WINDOW)
    spectra = torch.stft(waves, WINDOW, HOP, window=window, return_complex=True)
    return spectra * (2 / window.sum())


def log_mel(waves: Tensor, mels: int = 32) -> Tensor:
    """Spectrograms (N, 1, mels, frames) in [0, 1] of sound (N, samples), the lowest band first.

    Each sound is scaled to a largest amplitude of 1. A value is 1 + L / FLOOR, L being the power in
    the band in dB relative to a sine of amplitude 1; below -FLOOR it is 0. These constants are
    fixed, so that values of different data sets have one meaning.

    >>> log_mel(torch.ones(2, samples_of(32)).cumsum(1).sin()).shape
    torch.Size([2, 1, 32, 32])
    """
    waves = waves / waves.abs().amax(1, keepdim=True).clamp_min(LEAST)
    power = mel_filters(mels) @ _stft(waves).abs().square()
    level = 10 * power.clamp_min(LEAST).log10()
    return (1 + level / FLOOR).clamp(0, 1).unsqueeze(1)


def _power(mel_power: Tensor) -> Tensor:
    """Power in bins (N, bins, frames) that has this power in mel bands (N, mels, frames): a
    non-negative least-squares solution by multiplicative updates (Lee and Seung 2001, eq. 4).
    """
    filters = mel_filters(mel_power.shape[1])
    target = filters.T @ mel_power
    power = target.clamp_min(LEAST)
    for _ in range(ROUNDS):
        power = power * target / (filters.T @ (filters @ power)).clamp_min(LEAST)
    return power


def sound(spectrograms: Tensor, seed: int = 0) -> Tensor:
    """Sound (N, samples) with these spectrograms (N, 1, mels, frames), largest amplitude 1.

    The power in bins is a least-squares solution; phases start at random and are made consistent
    with it in turns (Griffin and Lim 1984, eq. 7). The seed is that of the phases.
    """
    level = FLOOR * (spectrograms[:, 0].float().clamp(0, 1) - 1)
    size = _power(10 ** (level / 10) * (level > -FLOOR)).sqrt()
    length = samples_of(size.shape[-1])
    window = torch.hann_window(WINDOW)
    generator = torch.Generator().manual_seed(seed)
    phase = torch.rand(size.shape, generator=generator) * 2 * math.pi
    waves = torch.zeros(len(size), length)
    for _ in range(ROUNDS):
        waves = torch.istft(torch.polar(size, phase), WINDOW, HOP, window=window, length=length)
        phase = _stft(waves).angle()
    return waves / waves.abs().amax(1, keepdim=True).clamp_min(LEAST)
