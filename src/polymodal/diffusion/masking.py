"""Which blocks a denoiser is shown, and at which noise levels, while it is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polymodal.diffusion.noise_levels import process_of
from polymodal.rng import noise


class TrainingMasks:
    """Draws the sigmas that a denoiser learns from: which blocks are noised, seen, or left out.

    Every sample is, with probability `joint`, noised in all its blocks at one level; else a random
    subset of its blocks is seen (sigma 0: Bounoua et al. 2024) or, with probability `dropped`, left
    out (the highest sigma: what guidance compares with). Missing blocks are always left out and
    never count.

    Args:
        masks: False: always joint, as in Wesego and Rooshenas (2024).
        joint, dropped: probabilities.
        high: the highest sigma.
        middle, width: log sigma ~ N(middle, width^2), up to `high` (Karras et al. 2022; theirs for
            images is -1.2, 1.2), where vp is None.
        vp: the two betas of a `VP` whose t ~ U(0, 1) gives the levels, up to its highest, instead.
    """

    def __init__(
        self,
        masks: bool = True,
        joint: float = 0.5,
        dropped: float = 0.1,
        high: float = 80.0,
        middle: float = -0.4,
        width: float = 1.6,
        vp: Sequence[float] | None = None,
    ) -> None:
        finite = math.isfinite(middle) and math.isfinite(width) and math.isfinite(high)
        if not (0 <= joint <= 1 and 0 <= dropped <= 1 and width > 0 and high > 0 and finite):
            raise ValueError(
                "Training masks need joint and dropped in [0, 1], width and high above 0 and finite"
                f" numbers, got {joint}, {dropped}, {width}, {high} and middle {middle}."
            )
        self.vp = None if vp is None else process_of(vp)
        self.masks, self.joint, self.dropped = masks, joint, dropped
        self.high = high if self.vp is None else self.vp.sigma(1.0)
        self.middle, self.width = middle, width

    def level(self, like: Tensor, size: int) -> Tensor:
        """Noise levels, (B, 1)."""
        if self.vp is None:
            return (self.middle + self.width * noise(like, [size, 1])).exp().clamp(max=self.high)
        t = 1e-5 + (1 - 1e-5) * noise(like, [size, 1], torch.rand)
        return torch.expm1(-2 * self.vp.log_alpha(t)).sqrt()

    def __call__(self, like: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """sigma and whether it counts, (B, M) each, for the blocks that are `present` (B, M)."""
        size, blocks = present.shape
        sigma = self.level(like, size).expand(size, blocks)
        counted = present
        if self.masks and blocks > 1:
            seen = self._seen(like, present)
            left_out = noise(like, [size, 1], torch.rand) < self.dropped
            sigma = torch.where(seen, torch.where(left_out, self.high, 0.0), sigma)
            counted = present & ~seen
        return torch.where(present, sigma, self.high), counted

    def _seen(self, like: Tensor, present: Tensor) -> Tensor:
        """Random subsets of the present blocks, never all of them, (B, M); none for joint noise."""
        size, blocks = present.shape
        conditional = noise(like, [size, 1], torch.rand) >= self.joint
        # a share of its own for each sample: subsets of all sizes are equally frequent
        share = noise(like, [size, 1], torch.rand)
        rank = torch.where(present, noise(like, [size, blocks], torch.rand), 2)
        always_noised = rank == rank.amin(-1, keepdim=True)
        chosen = noise(like, [size, blocks], torch.rand) < share
        return conditional & chosen & present & ~always_noised
