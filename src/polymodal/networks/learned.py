"""Parameters of likelihoods that are learned beside a decoder's network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from polymodal.distributions.counts import negative_binomial_start

FASTER = 5.0  # times the learning rate of the weights, under optimizers such as Adam
SMALLEST, LARGEST = 1e-3, 1e3  # learned scales, in units of the spread
FEWEST, MOST = 2.1, 100.0  # degrees of freedom, with a finite variance
START = 5.0  # degrees of freedom
LEAST, MOST_DISPERSED = -5.0, 8.0  # logarithms of inverse dispersions
DISPERSIONS = (-2.0, 2.0)  # of them at the start
LOG_SPREAD = -0.7  # logarithm of the spread of log library sizes, at the start


class LearnedScale(nn.Module):
    """A positive scale of this shape, which begins at 1, within SMALLEST and LARGEST."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(tuple(shape)))

    @torch.no_grad()
    def start_at(self, scale: Tensor) -> None:
        """Begins at these scales; with one for all entries at the root of their mean square."""
        if self.raw.dim() == 0:
            scale = scale.square().mean().sqrt()
        self.raw.copy_(scale.clamp(SMALLEST, LARGEST).log() / FASTER)

    def forward(self) -> Tensor:
        return (FASTER * self.raw).clamp(math.log(SMALLEST), math.log(LARGEST)).exp()


class LearnedDegrees(nn.Module):
    """Degrees of freedom of Student's t, one for each column, which begin at START."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.full((columns,), math.log(START) / FASTER))

    def forward(self) -> Tensor:
        return (FASTER * self.raw).exp().clamp(FEWEST, MOST)


class LearnedDispersion(nn.Module):
    """Logarithms of the inverse dispersions of d counts, and of the standard deviation of log
    library sizes: (d + 1,).
    """

    def __init__(self, counts: int) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor([*[0.0] * counts, LOG_SPREAD / FASTER]))

    @torch.no_grad()
    def start_at(self, mean: Tensor, variance: Tensor) -> None:
        """Begins at the dispersions of counts with these moments."""
        self.raw[:-1] = negative_binomial_start(mean, variance)[1].clamp(*DISPERSIONS) / FASTER

    def forward(self) -> Tensor:
        return (FASTER * self.raw).clamp(LEAST, MOST_DISPERSED)
