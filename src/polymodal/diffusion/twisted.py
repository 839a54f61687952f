"""Twisted sequential Monte Carlo for diffusion models: draws given some blocks that are exact with
many particles.

Conditioning by replacement, or by a guess of the conditional score, is biased however small the
steps. Here the guess only proposes, and weights make up for it (Wu et al. 2023): the error is that
of the particles, 1 / sqrt(particles), and of the steps. The denoiser need know no masks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from polymodal.diffusion.conditioning import Denoise, Inpainting, Pull
from polymodal.diffusion.noise_levels import karras_levels
from polymodal.sampling.diagnostics import ParticleReport
from polymodal.sampling.smc import lineage, relative_ess, resample, take

ROWS = 2**15  # particles that go through the network at once, with its gradient


@dataclass(frozen=True)
class Twisted:
    """`sampler(denoise, task) -> (x (N, d), Calls)`: one draw for each item out of `particles`.

    The unconditional reverse step from level s to s' is x' ~ N(D + s'^2 / s^2 (x - D), s'^2 (s^2 -
    s'^2) / s^2) with D = E[x0 | x]. The twist N(x0_S; D_S, s^2 / (1 + s^2)) says how well x agrees
    with what is seen; its gradient is added to the score, and a particle weighs by step x twist
    after / (proposal x twist before). `resample`d where the effective share of the particles falls
    below `ess`. One call a step, with its gradient, for all particles.

    Args:
        steps, low, high, rho: see `polymodal.diffusion.noise_levels.ladder`.
        particles: of each item.

    >>> _ = torch.manual_seed(0)
    # of two blocks of one dimension; given 2.0, N(1.6, .36)
    >>> joint = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
    >>> eye = torch.eye(2)
    >>> denoise = lambda x, s: x @ torch.linalg.solve(joint + s[0, 0] ** 2 * eye, joint)
    >>> task = Task(torch.tensor([[2.0, 0.0]]).expand(400, 2), torch.tensor([[True, False]]).expand(400, 2), (1, 1))
    >>> x, calls = Twisted(steps=60, particles=32)(denoise, task)
    >>> x[:, 1].mean().round(decimals=1), x[:, 1].std().round(decimals=1)
    (tensor(1.6000), tensor(0.6000))
    """

    steps: int = 100
    particles: int = 64
    ess: float = 0.5
    low: float = 0.005
    high: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        levels = 0 < self.low < self.high < math.inf and 0 < self.rho < math.inf
        if self.steps < 2 or self.particles < 1 or not 0 < self.ess < 1 or not levels:
            raise ValueError(
                "Twisted particles need steps >= 2, particles >= 1, 0 < ess < 1, 0 < low < high"
                f" and rho > 0, got {self.steps}, {self.particles}, {self.ess}, {self.low},"
                f" {self.high} and {self.rho}."
            )

    def __call__(
        self, denoise: Denoise, task: Inpainting, pull: Pull | None = None
    ) -> tuple[Tensor, ParticleReport]:
        items, count = len(task.value), self.particles if task.seen.any() else 1
        each = max(1, ROWS // count)
        parts = [
            self._draw(denoise, task.rows(slice(i, i + each)), count) for i in range(0, items, each)
        ]
        join = lambda name: torch.cat([getattr(report, name) for _, report in parts])
        calls, rows = (
            sum(getattr(report, name) for _, report in parts) for name in ("calls", "rows")
        )
        report = ParticleReport(
            items, calls, rows, join("ess"), join("unique"), join("log_normalizer")
        )
        return torch.cat([x for x, _ in parts]), report

    def _draw(
        self, denoise: Denoise, task: Inpainting, count: int
    ) -> tuple[Tensor, ParticleReport]:
        items = len(task.value)
        many = lambda v: v.repeat(
            count, *[1] * (v.dim() - 1)
        )  # (N, ...) -> (P N, ...), particle by particle
        wide = Inpainting(many(task.value), many(task.seen), task.sizes, task.active, task.high)
        calls = ParticleReport(items)
        network = calls.counted(wide.within(denoise))
        levels = karras_levels(self.steps, self.low, min(self.high, task.high), self.rho)[:-1]
        x = wide.noise() * math.sqrt(1 + levels[0] ** 2)
        clean, twist, gradient = self._look(network, wide, x, levels[0])
        log_weight = twist.view(count, items)
        origin = torch.arange(count, device=x.device).unsqueeze(-1).expand(count, items)
        normalizer = log_weight.new_zeros(items)
        for s, to in pairwise(levels):
            poor = relative_ess(log_weight) < self.ess
            gain = log_weight.logsumexp(0) - math.log(count)
            normalizer = normalizer + torch.where(poor, gain, 0)
            keep = torch.arange(count, device=x.device).unsqueeze(-1)
            index = torch.where(poor, resample(log_weight), keep)
            log_weight, origin = torch.where(poor, 0, log_weight), take(origin, index)
            x, clean, gradient = (
                take(v.view(count, items, -1), index).view_as(v) for v in (x, clean, gradient)
            )
            twist = take(twist.view(count, items), index).reshape(-1)
            variance = to * to * (s * s - to * to) / (s * s)
            shift = (
                (1 - to * to / (s * s)) * s * s * gradient
            )  # what the twist adds to the step's mean
            noise = math.sqrt(variance) * wide.noise()
            x = clean + to * to / (s * s) * (x - clean) + shift + noise
            clean, after, gradient = self._look(network, wide, x, to)
            # log N(x'; mean, v) - log N(x'; mean + shift, v), with x' - mean = shift + noise
            ratio = -((shift + noise).square() - noise.square()).sum(-1) / (2 * variance)
            log_weight = log_weight + (ratio + after - twist).view(count, items)
            twist = after
        pick = resample(log_weight).view(count, items)
        chosen = torch.randint(count, (1, items), device=x.device)
        drawn = take(clean.view(count, items, -1), pick.gather(0, chosen))[0]
        calls.ess, calls.unique = lineage(take(origin, pick), log_weight)
        calls.log_normalizer = normalizer + log_weight.logsumexp(0) - math.log(count)
        return task.put(drawn), calls

    def _look(
        self, denoise: Denoise, task: Inpainting, x: Tensor, s: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """E[x0 | x], the twist's logarithm (P N,) without its constant, and its gradient."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            clean = denoise(x, task.levels(s, s))
            miss = torch.where(task.known, task.value - clean, 0)
            size = (task.known if task.active is None else task.known & task.active).sum(-1)
            spread = s * s / (1 + s * s)
            twist = -miss.square().sum(-1) / (2 * spread) - 0.5 * size * math.log(
                2 * math.pi * spread
            )
            (gradient,) = torch.autograd.grad(twist.sum(), x)
        if task.active is not None:
            gradient = gradient * task.active
        return clean.detach(), twist.detach(), gradient
