"""Simulated vocalisations, and counts of neurons that follow their bands of frequency."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import Count, Seed, Size, check_memory
from polymodal.data.dataset import consecutive
from polymodal.data.splits import Splits

ROWS, FRAMES = 32, 32  # of a spectrogram
NOISE = 0.03  # of its values
RATES = (2.0, 6.0)  # expected counts of a neuron at half power
GAINS = (1.0, 2.0)  # by which powers its logarithm rises from no power to full power
AROUSAL = 0.2  # deviation of what all neurons share and calls do not show


@dataclass(frozen=True)
class Planted:
    """What was planted.

    Args:
        bands: (first row, row after the last) of each band of frequency, B of them.
        cluster: (N,), the band that each neuron follows; -1: none.
        rate: (N,), expected counts at half power.
        gain: (N,), how the logarithm of the rate rises from no power to full power; 0 without a
            band.
    """

    bands: tuple[tuple[int, int], ...]
    cluster: Tensor
    rate: Tensor
    gain: Tensor

    @classmethod
    def draw(cls, bands: int, neurons: int, generator: torch.Generator) -> Planted:
        """`bands` bands of almost equal height; equal clusters in random order, as many neurons
        without a band as with each.
        """
        edges = [round(k * ROWS / bands) for k in range(bands + 1)]
        cluster = torch.arange(neurons) % (bands + 1)
        cluster = cluster[torch.randperm(neurons, generator=generator)] - 1
        rate, gain = (
            torch.empty(neurons).uniform_(*span, generator=generator) for span in (RATES, GAINS)
        )
        spans = tuple(pairwise(edges))
        return cls(spans, cluster, rate, gain * (cluster >= 0))

    def counts(self, power: Tensor, generator: torch.Generator) -> Tensor:
        """Counts (n, N) of calls with these powers (n, B) in [0, 1]: Poisson, given the power in
        each neuron's band and an arousal that all share.
        """
        heard = power[:, self.cluster.clamp_min(0)] - 0.5
        arousal = AROUSAL * torch.randn(len(power), 1, generator=generator)
        return torch.poisson((self.rate.log() + self.gain * heard + arousal).exp(), generator)

    def calls(self, power: Tensor, generator: torch.Generator) -> Tensor:
        """Spectrograms (n, 1, 32, 32) in [0, 1], the lowest frequency first: in each band a ridge
        of this power, whose frequency rises and falls inside the band, and noise.
        """
        start, speed = torch.rand(2, *power.shape, 1, generator=generator)
        time = torch.linspace(0, 1, FRAMES)
        swing = (2 * math.pi * (start + (0.5 + speed) * time)).sin()  # (n, B, frames)
        low, high = torch.tensor(self.bands, dtype=torch.float32).T[:, :, None]
        ridge = (low + high - 1) / 2 + (high - low) / 4 * swing
        rows = torch.arange(ROWS)[:, None]
        inside = (rows >= low[:, None]) & (rows < high[:, None])  # (B, rows, 1)
        shape = (-0.5 * (rows - ridge[:, :, None]).square()).exp() * inside
        x = (power[:, :, None, None] * shape).sum(1) * (math.pi * time).sin()
        return (x + NOISE * torch.randn(x.shape, generator=generator)).clamp(0, 1).unsqueeze(1)


def vocalisations(
    *, n: Count = 6_000, bands: Size = 4, neurons: Size = 60, seed: Seed = 0
) -> Splits:
    """Simulated calls and counts of neurons, clusters of which follow bands of frequency.

    The modalities are `call`, a spectrogram (1, 32, 32), the lowest frequency first, and `neurons`
    (60,), counts. In each of the bands a call has a power that is uniform on [0, 1], independent of
    the others. The expected count of a neuron rises exponentially with the power in its band;
    neurons without a band, and an arousal that all neurons share, depend on nothing in the call.
    `Splits.truth` is a `Planted`: the bands and the cluster of each neuron. Split .8/.1/.1.

    Raises ValueError for n < 10, fewer than two bands or more than 8, or fewer neurons than 2 for
    each band and for none.
    """
    if n < 10 or not 2 <= bands <= 8 or neurons < 2 * (bands + 1):
        raise ValueError(
            "vocalisations needs n of at least 10, 2 to 8 bands and at least 2 (bands + 1) neurons,"
            f" got n {n}, bands {bands} and neurons {neurons}."
        )
    need = 4.0 * n * (3 * ROWS * FRAMES * (bands + 1) + 3 * neurons)
    check_memory(need, f"vocalisations with n={n:,} needs", "lower data.n")
    generator = torch.Generator().manual_seed(seed)
    planted = Planted.draw(bands, neurons, generator)
    power = torch.rand(n, bands, generator=generator)
    tables = {
        "call": planted.calls(power, generator),
        "neurons": planted.counts(power, generator),
    }
    modalities = [
        Modality("call", (1, ROWS, FRAMES), link="sigmoid", scale=0.1),
        Modality("neurons", (neurons,), "poisson"),
    ]
    tenth = n // 10
    train, val, test = consecutive(modalities, tables, None, (n - 2 * tenth, tenth, tenth))
    return Splits(train, val, test, "vocalisations", planted)
