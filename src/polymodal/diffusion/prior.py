"""A prior learned by score matching on the latents that encoders give, and what it says of some
blocks given others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.diffusion.conditioning import Inpainting
from polymodal.diffusion.denoisers import Denoiser
from polymodal.diffusion.ode import log_density
from polymodal.diffusion.sampler import Diffusion
from polymodal.diffusion.whitening import LatentWhitening
from polymodal.distributions import Point, Sampled
from polymodal.sampling import SamplerReport

EXACT = 64  # dimensions up to which a log-density takes the exact trace
PROBES = 16
POINTS = 2**16  # that go through the denoiser at once for a density, each with one direction


class DiffusionPrior(nn.Module):
    """p(z) of a `Denoiser` in the coordinates of a `LatentWhitening`; () -> `DiffusionPosterior`
    with nothing seen.

    Args:
        sizes: {block: dimensions}.
        denoiser: of blocks of these sizes.
        sampler: (denoise, task, pull) -> (x, Calls): `polymodal.sampling.Diffusion` or `Twisted`;
            can be exchanged at any time.
        pull: `polymodal.diffusion.energies.PairEnergies`, for conditioning="energy".
        masks: whether the denoiser knows blocks that are shown clean.
        high: the highest sigma that it knows.
        means: what is seen counts as the mean of its posterior, not as a draw.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        denoiser: Denoiser,
        sampler: Callable[..., Any] | None = None,
        pull: Any = None,
        masks: bool = True,
        high: float = 80.0,
        means: bool = False,
    ) -> None:
        super().__init__()
        self.masks, self.high, self.means = masks, high, means
        self.frame, self.denoiser = LatentWhitening(sizes), denoiser
        self.pull: Any = pull
        self.sampler = Diffusion() if sampler is None else sampler

    def forward(self) -> DiffusionPosterior:
        return DiffusionPosterior(self, {}, {}, ())

    def fill(self, q: Mapping[str, Distribution], batch: Batch) -> DiffusionPosterior:
        """q(z | x_S): each z_m that is seen from its own posterior q[m], the others given these, by
        the score.
        """
        q = {m: Point(p.mean) for m, p in q.items()} if self.means else q
        return DiffusionPosterior(self, q, {m: batch.mask([m]) for m in q}, (len(batch),))

    def weighable(self, q: Mapping[str, Distribution]) -> bool:
        """Whether `log_prob` given q is exact enough to weigh draws by: with the trace exact, from
        levels at which nothing is known, and, with blocks seen, by a denoiser that knows masks,
        sampled so, and no points.
        """
        whole = int(self.frame.kept.sum()) <= EXACT and self.high > 20
        masked = self.masks and getattr(self.sampler, "conditioning", None) == "masks"
        return whole and (not q or (masked and not any(isinstance(p, Point) for p in q.values())))

    def _task(self, z: Tensor, seen: Tensor) -> Inpainting:
        """In the frame's coordinates, 0 where these are not kept."""
        kept, sizes = self.frame.kept, list(self.frame.sizes.values())
        return Inpainting(
            self.frame(z) * kept, seen, sizes, None if kept.all() else kept, self.high
        )

    def draw(self, z: Tensor, seen: Tensor) -> tuple[Tensor, Any]:
        """z (N, d) with the blocks that are not `seen` (N, M) drawn given those that are; and what
        the sampler said.

        Outside the kept coordinates a block that is seen keeps its own, another gets N(0, I).
        """
        frame, task = self.frame, self._task(z, seen)
        own = frame(z)
        y, calls = self.sampler(self.denoiser, task, None if self.pull is None else self.pull.pull)
        rest = torch.where(task.observed, own, torch.randn_like(own))
        return torch.where(task.observed, z, frame.inverse(torch.where(frame.kept, y, rest))), calls

    def log_prob(self, z: Tensor, seen: Tensor) -> Tensor:
        """log p(z_U | z_S), (N,) nats, through the probability-flow ODE; by random traces above
        `EXACT` dimensions.
        """
        frame, task, y = self.frame, self._task(z, seen), self.frame(z)
        count = int(frame.kept.sum())
        probes = None if count <= EXACT else PROBES
        each = max(1, POINTS // (probes or max(1, count)))
        parts = [task.rows(slice(i, i + each)) for i in range(0, len(z), each)]
        rest = torch.where(
            frame.kept | task.observed, 0, -0.5 * (y.square() + math.log(2 * math.pi))
        ).sum(-1)
        volume = torch.where(seen, 0, frame.log_det()).sum(-1)
        return (
            torch.cat([log_density(self.denoiser, part, probes=probes) for part in parts])
            + rest
            + volume
        )


class FirstBlock(Sampled):
    """The first `dim` coordinates of a `DiffusionPosterior`: draws alone, its density is an
    integral over the others.
    """

    def __init__(self, filled: DiffusionPosterior, dim: int) -> None:
        self.filled, self.dim = filled, dim
        super().__init__(filled.batch_shape, torch.Size([dim]), validate_args=False)

    @property
    def report(self) -> SamplerReport | None:  # type: ignore[override]
        return self.filled.report

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.filled.sample(sample_shape)[..., : self.dim]


class DiffusionPosterior(Sampled):
    """Blocks z_m ~ q_m where x_m is seen, the others given them by a `DiffusionPrior`; the prior
    itself with none seen.

    Args:
        score: the prior.
        q: {block: q(z_m|x_m)} of batch_shape (B,).
        present: {block: (B,)} bool, of the same blocks: where it is seen.
        shape: (B,), or () for the prior.
    """

    def __init__(
        self,
        score: DiffusionPrior,
        q: Mapping[str, Distribution],
        present: Mapping[str, Tensor],
        shape: Sequence[int],
    ) -> None:
        self.score, self.q, self.present = score, dict(q), dict(present)
        self.total = sum(score.frame.sizes.values())
        super().__init__(torch.Size(shape), torch.Size([self.total]), validate_args=False)

    @property
    def has_density(self) -> bool:
        return self.score.weighable(self.q)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiffusionPosterior:
        return DiffusionPosterior(self.score, self.q, self.present, batch_shape)

    def _seen(self) -> Tensor:
        """(B, M), or (M,) where the batch shape is empty."""
        frame = self.score.frame
        none = torch.zeros(self.batch_shape, dtype=torch.bool, device=frame.mean.device)
        return torch.stack([self.present.get(m, none) for m in frame.sizes], -1)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        shape, frame = torch.Size(sample_shape), self.score.frame
        with torch.no_grad():
            full = [*shape, *self.batch_shape]
            blank = lambda d: frame.mean.new_zeros(*full, d)
            z = torch.cat(
                [
                    self.q[m].sample(shape) if m in self.q else blank(d)
                    for m, d in frame.sizes.items()
                ],
                -1,
            )
            seen = self._seen().expand(*full, -1).reshape(-1, len(frame.sizes))
            z, self.report = self.score.draw(z.reshape(-1, self.total), seen)
        return z.view(*full, self.total)

    def log_prob(self, z: Tensor) -> Tensor:
        """sum_{m in S} log q(z_m|x_m) + log p(z_U|z_S), for all of z (..., B, d); of the prior
        (..., d).
        """
        frame = self.score.frame
        lead = z.shape[:-1]
        seen = self._seen().expand(*lead, -1)
        value = self.score.log_prob(
            z.reshape(-1, self.total), seen.reshape(-1, len(frame.sizes))
        ).view(lead)
        for m, part in zip(frame.sizes, z.split(list(frame.sizes.values()), -1), strict=True):
            if m in self.q:
                value = value + torch.where(self.present[m], self.q[m].log_prob(part), 0)
        return value
