"""Which blocks a denoiser is shown, and at which noise levels, while it is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.diffusion.noise_levels import VP, process_of
from polymodal.rng import noise


@dataclass(frozen=True)
class TrainingMasks:
    """Draws the sigmas that a denoiser learns from: which blocks are noised, seen, or left out.

    Every sample is, with probability `joint`, noised in all its blocks at one level; else a random
    subset of its blocks is seen (sigma 0: Bounoua et al. 2024) or, with probability `dropped`, left
    out (the highest sigma: what guidance compares with). Missing blocks are always left out and
    never count.

    Args:
        conditional: False: always joint, as in Wesego and Rooshenas (2024).
        joint, dropped: probabilities.
        high: the highest sigma.
        log_mean, log_std: log sigma ~ N(log_mean, log_std^2), up to `high` (Karras et al. 2022;
            theirs for images is -1.2, 1.2), where vp is None.
        vp: the two betas of a `VP` whose t ~ U(0, 1) gives the levels instead; `high` is then its
            highest sigma.
    """

    conditional: bool = True
    joint: float = 0.5
    dropped: float = 0.1
    high: float = 80.0
    log_mean: float = -0.4
    log_std: float = 1.6
    vp: Sequence[float] | None = None

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.log_mean, self.log_std, self.high)))
        shares = 0 <= self.joint <= 1 and 0 <= self.dropped <= 1
        if not (shares and finite and self.log_std > 0 and self.high > 0):
            raise ValueError(
                "Training masks need joint and dropped in [0, 1], log_std and high above 0 and"
                f" finite numbers, got {self.joint}, {self.dropped}, {self.log_std}, {self.high}"
                f" and log_mean {self.log_mean}."
            )
        if self.process is not None:
            object.__setattr__(self, "high", self.process.sigma(1.0))

    @property
    def process(self) -> VP | None:
        return None if self.vp is None else process_of(self.vp)

    def level(self, like: Tensor, size: int) -> Tensor:
        """Noise levels, (B, 1)."""
        if self.process is None:
            return (
                (self.log_mean + self.log_std * noise(like, [size, 1])).exp().clamp(max=self.high)
            )
        t = 1e-5 + (1 - 1e-5) * noise(like, [size, 1], torch.rand)
        return torch.expm1(-2 * self.process.log_alpha(t)).sqrt()

    def __call__(self, like: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """sigma and whether it counts, (B, M) each, for the blocks that are `present` (B, M)."""
        size, blocks = present.shape
        sigma = self.level(like, size).expand(size, blocks)
        counted = present
        if self.conditional and blocks > 1:
            seen = self._seen(like, present)
            left_out = noise(like, [size, 1], torch.rand) < self.dropped
            sigma = torch.where(seen, torch.where(left_out, self.high, 0.0), sigma)
            counted = present & ~seen
        return torch.where(present, sigma, self.high), counted

    def _seen(self, like: Tensor, present: Tensor) -> Tensor:
        """Random subsets of the present blocks, never all of them, (B, M); none for joint noise."""
        size, blocks = present.shape
        some_seen = noise(like, [size, 1], torch.rand) >= self.joint
        # a share of its own for each sample: subsets of all sizes are equally frequent
        share = noise(like, [size, 1], torch.rand)
        rank = torch.where(present, noise(like, [size, blocks], torch.rand), 2)
        always_noised = rank == rank.amin(-1, keepdim=True)
        chosen = noise(like, [size, blocks], torch.rand) < share
        return some_seen & chosen & present & ~always_noised
