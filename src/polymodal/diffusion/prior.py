"""A prior learned by score matching on the latents that encoders give, and the distribution of some
blocks given the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.diffusion.conditioning import Inpainting
from polymodal.diffusion.denoisers import Denoiser
from polymodal.diffusion.energies import PairEnergies
from polymodal.diffusion.masking import TrainingMasks
from polymodal.diffusion.ode import log_density
from polymodal.diffusion.sampler import Diffusion, DiffusionSampler
from polymodal.diffusion.whitening import LatentWhitening
from polymodal.distributions import Point, Sampled
from polymodal.sampling import SamplerReport

EXACT = 64  # dimensions up to which a log-density takes the exact trace
PROBES = 16
POINTS = 2**16  # that go through the denoiser at once for a density, each with one direction
LEAST_HIGH = 20.0  # a highest sigma at which next to nothing is left of the data


class DiffusionPrior(nn.Module):
    """p(z) of a `Denoiser` in the coordinates of a `LatentWhitening`; () -> `DiffusionPosterior`
    with nothing seen.

    Args:
        sizes: {block: dimensions}.
        denoiser: of blocks of these sizes.
        sampler: `polymodal.diffusion.Diffusion` (None) or `Twisted`; can be exchanged at any time.
        energies: for conditioning="energy".
        training_masks: that the denoiser was trained with: whether it was shown seen blocks clean,
            and the highest sigma.
        encode_means: whether a seen block is the mean of its posterior, not a draw.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        denoiser: Denoiser,
        sampler: DiffusionSampler | None = None,
        energies: PairEnergies | None = None,
        training_masks: TrainingMasks = TrainingMasks(),
        encode_means: bool = False,
    ) -> None:
        super().__init__()
        self.training_masks = training_masks
        self.encode_means = encode_means
        self.whitening, self.denoiser = LatentWhitening(sizes), denoiser
        self.energies = energies
        self.sampler: DiffusionSampler = Diffusion() if sampler is None else sampler

    def forward(self) -> DiffusionPosterior:
        return DiffusionPosterior(self, {}, {}, ())

    def fill(self, q: Mapping[str, Distribution], batch: Batch) -> DiffusionPosterior:
        """q(z | x_S): each seen z_m from its own posterior q[m], the others given these."""
        if self.encode_means:
            q = {m: Point(p.mean) for m, p in q.items()}
        return DiffusionPosterior(self, q, {m: batch.mask([m]) for m in q}, (len(batch),))

    def weighable(self, q: Mapping[str, Distribution]) -> bool:
        """Whether `log_prob` given q is exact enough for importance weights.

        Its trace must be exact, and its highest sigma leave nothing of the data. With blocks seen,
        the denoiser must be trained and sampled with masks, and no q[m] be a point.
        """
        exact = self._count() <= EXACT and self.training_masks.high > LEAST_HIGH
        if not exact or not q:
            return exact
        conditional = self.training_masks.conditional and self.sampler.has_exact_conditionals
        return conditional and not any(isinstance(p, Point) for p in q.values())

    def _count(self) -> int:
        """The number of modelled coordinates."""
        return int(self.whitening.modelled.sum())

    def draw(self, z: Tensor, seen: Tensor) -> tuple[Tensor, SamplerReport]:
        """z (N, d) with the blocks that are not `seen` (N, M) drawn given the seen ones; and the
        sampler's report.

        Outside the modelled coordinates a seen block keeps its own values; the others get N(0, I).
        """
        whitening, task = self.whitening, self._task(z, seen)
        before = whitening(z)
        gradient = None if self.energies is None else self.energies.energy_gradient
        y, report = self.sampler(self.denoiser, task, gradient)
        rest = torch.where(task.observed, before, torch.randn_like(before))
        drawn = whitening.inverse(torch.where(whitening.modelled, y, rest))
        return torch.where(task.observed, z, drawn), report

    def log_prob(self, z: Tensor, seen: Tensor) -> Tensor:
        """log p(z_U | z_S), (N,) nats, through the probability-flow ODE; by random traces above
        `EXACT` dimensions.
        """
        task, y = self._task(z, seen), self.whitening(z)
        outside = ~(self.whitening.modelled | task.observed)
        rest = torch.where(outside, -0.5 * (y.square() + math.log(2 * math.pi)), 0).sum(-1)
        log_det = torch.where(seen, 0, self.whitening.log_det()).sum(-1)
        return self._log_density(task) + rest + log_det

    def _log_density(self, task: Inpainting) -> Tensor:
        """log p(y_U | y_S) in the modelled coordinates, (N,) nats, in chunks of the items."""
        count = self._count()
        probes = None if count <= EXACT else PROBES
        each = max(1, POINTS // (probes or max(1, count)))
        tasks = [task.rows(slice(i, i + each)) for i in range(0, len(task.value), each)]
        return torch.cat([log_density(self.denoiser, part, probes=probes) for part in tasks])

    def _task(self, z: Tensor, seen: Tensor) -> Inpainting:
        """The blocks that are not `seen` (N, M), in whitened coordinates; 0 where these are not
        modelled.
        """
        modelled, sizes = self.whitening.modelled, list(self.whitening.sizes.values())
        active = None if modelled.all() else modelled
        return Inpainting(
            self.whitening(z) * modelled, seen, sizes, active, self.training_masks.high
        )


class FirstBlock(Sampled):
    """The first `dim` coordinates of a `DiffusionPosterior`. It has only draws: its density is an
    integral over the other coordinates.
    """

    def __init__(self, whole: DiffusionPosterior, dim: int) -> None:
        self.whole, self.dim = whole, dim
        super().__init__(whole.batch_shape, torch.Size([dim]), validate_args=False)

    @property
    def report(self) -> SamplerReport | None:  # type: ignore[override]
        return self.whole.report

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        return self.whole.sample(sample_shape)[..., : self.dim]


class DiffusionPosterior(Sampled):
    """Blocks z_m ~ q_m where x_m is seen, the others given them by a `DiffusionPrior`; the prior
    itself with none seen.

    Args:
        prior: p(z).
        q: {block: q(z_m|x_m)} of batch_shape (B,).
        present: {block: (B,)} bool, of the same blocks: where it is seen.
        shape: (B,), or () for the prior.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        q: Mapping[str, Distribution],
        present: Mapping[str, Tensor],
        shape: Sequence[int],
    ) -> None:
        self.prior, self.q, self.present = prior, dict(q), dict(present)
        self.sizes = prior.whitening.sizes
        self.total = sum(self.sizes.values())
        super().__init__(torch.Size(shape), torch.Size([self.total]), validate_args=False)

    @property
    def has_density(self) -> bool:
        return self.prior.weighable(self.q)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiffusionPosterior:
        return DiffusionPosterior(self.prior, self.q, self.present, batch_shape)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        shape = torch.Size([*sample_shape, *self.batch_shape])
        blocks = [self._block(m, torch.Size(sample_shape)) for m in self.sizes]
        seen = self._seen().expand(*shape, -1).reshape(-1, len(self.sizes))
        z = torch.cat(blocks, -1).reshape(-1, self.total)
        z, self.report = self.prior.draw(z, seen)
        return z.view(*shape, self.total)

    def log_prob(self, z: Tensor) -> Tensor:
        """sum_{m in S} log q(z_m|x_m) + log p(z_U|z_S), for all of z (..., B, d); of the prior
        (..., d).
        """
        lead = z.shape[:-1]
        seen = self._seen().expand(*lead, -1).reshape(-1, len(self.sizes))
        value = self.prior.log_prob(z.reshape(-1, self.total), seen).view(lead)
        for m, z_m in zip(self.sizes, z.split(list(self.sizes.values()), -1), strict=True):
            if m in self.q:
                value = value + torch.where(self.present[m], self.q[m].log_prob(z_m), 0)
        return value

    def _block(self, m: str, sample_shape: torch.Size) -> Tensor:
        """Draws of q(z_m|x_m), (*sample_shape, *batch_shape, d_m); 0 where there is none."""
        if m in self.q:
            return self.q[m].sample(sample_shape)
        shape = [*sample_shape, *self.batch_shape, self.sizes[m]]
        return self.prior.whitening.mean.new_zeros(shape)

    def _seen(self) -> Tensor:
        """(B, M), or (M,) where the batch shape is empty."""
        device = self.prior.whitening.mean.device
        none = torch.zeros(self.batch_shape, dtype=torch.bool, device=device)
        return torch.stack([self.present.get(m, none) for m in self.sizes], -1)
