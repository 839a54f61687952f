"""Noise levels of diffusion: sequences of sigma, and the variance-preserving process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def karras_levels(steps: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """`steps` levels from `high` down to `low`, even in sigma^(1/rho), then 0: Karras et al.
    (2022), eq. (5).

    >>> [round(s, 3) for s in karras_levels(3, 0.01, 80.0)]
    [80.0, 3.46, 0.01, 0.0]
    """
    a, b = high ** (1 / rho), low ** (1 / rho)
    return [(a + i / max(1, steps - 1) * (b - a)) ** rho for i in range(steps)] + [0.0]


@dataclass(frozen=True)
class VP:
    """The variance-preserving process, dy = -1/2 beta y dt + sqrt(beta) dw, beta = beta_min
    + t (beta_max - beta_min), t <= 1.

    log alpha(t) = -1/4 t^2 (beta_max - beta_min) - 1/2 t beta_min, and sigma = sqrt(1 - alpha^2) /
    alpha in the coordinates of this folder (Song et al. 2021b, eq. (33)). Wesego and Rooshenas
    (2024) take 1 and 5 for PolyMNIST, .1 and 20 elsewhere.

    >>> round(VP(1.0, 5.0).sigma(1.0), 3)
    4.369
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.beta_min <= self.beta_max < math.inf or not self.beta_max > 0:
            raise ValueError(
                f"The betas of a VP process are finite and rise from 0, got {self.beta_min} and"
                f" {self.beta_max}."
            )

    def beta(self, t: float) -> float:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_alpha(self, t: Any) -> Any:
        """Of a number or a tensor."""
        return -0.25 * t * t * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def alpha(self, t: float) -> float:
        return math.exp(self.log_alpha(t))

    def sigma(self, t: float) -> float:
        return math.sqrt(1 / self.alpha(t) ** 2 - 1)


def process_of(vp: Sequence[float]) -> VP:
    """The process of two betas. Raises ValueError for another number of them, or for numbers that
    are no betas.
    """
    if len(vp) != 2:
        raise ValueError(f"A VP process has two betas, such as [0.1, 20], got {list(vp)}.")
    return VP(*vp)
