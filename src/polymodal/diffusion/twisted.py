"""Twisted sequential Monte Carlo for diffusion models: draws given some blocks, exact with many
particles.

Conditioning by replacement, or by an estimate of the conditional score, is biased however small the
steps. Here the estimate only proposes, and weights correct it (Wu et al. 2023): the error is that
of the particles, 1 / sqrt(particles), and of the steps. The denoiser need not be trained with
masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.checks import Size
from polymodal.diffusion.conditioning import Denoise, EnergyGradient, Inpainting
from polymodal.diffusion.noise_levels import karras_levels
from polymodal.sampling.diagnostics import CountedCalls, ParticleReport
from polymodal.sampling.smc import lineage, relative_ess, resample, take

ROWS = 2**15  # particles that go through the network at once, with its gradient


class Particles(NamedTuple):
    """P particles of each of N items at one noise level, particle by particle.

    x (P N, d); clean: E[x0 | x] (P N, d); twist: its logarithm (P N,), nats; gradient: of the
    twist's logarithm by x (P N, d).
    """

    x: Tensor
    clean: Tensor
    twist: Tensor
    gradient: Tensor

    def taken(self, index: Tensor) -> Particles:
        """The particles index (P, N) of each item."""
        shape = index.shape
        return Particles(*(take(v.view(*shape, -1), index).view_as(v) for v in self))


class Weights(NamedTuple):
    """Weights of P particles of N items.

    log_weight (P, N), nats; origin (P, N): the start that a particle descends from; log_normalizer
    (N,): logarithm of the mean weights before every resampling, summed.
    """

    log_weight: Tensor
    origin: Tensor
    log_normalizer: Tensor

    @classmethod
    def of(cls, log_weight: Tensor) -> Weights:
        """First weights: every particle is its own start."""
        count, items = log_weight.shape
        origin = torch.arange(count, device=log_weight.device).unsqueeze(-1).expand(count, items)
        return cls(log_weight, origin, log_weight.new_zeros(items))

    def total(self) -> Tensor:
        """The logarithm of the sum of the weights, (N,)."""
        return self.log_weight.logsumexp(0)

    def resampled(self, ess: float) -> tuple[Weights, Tensor]:
        """Weights after a resampling of the items whose relative ESS is below `ess`; its indices
        (P, N).
        """
        poor = relative_ess(self.log_weight) < ess
        keep = torch.arange(len(self.log_weight), device=poor.device).unsqueeze(-1)
        index = torch.where(poor, resample(self.log_weight), keep)
        log_weight = torch.where(poor, 0, self.log_weight)
        gain = self.total() - math.log(len(self.log_weight))
        log_normalizer = self.log_normalizer + torch.where(poor, gain, 0)
        return Weights(log_weight, take(self.origin, index), log_normalizer), index


@dataclass(frozen=True)
class Twisted:
    """`sampler(denoise, task) -> (x (N, d), ParticleReport)`: one draw for each item out of
    `particles`.

    The unconditional reverse step from level s to s' is x' ~ N(D + s'^2 / s^2 (x - D), s'^2 (s^2 -
    s'^2) / s^2) with D = E[x0 | x]. The twist N(x0_S; D_S, s^2 / (1 + s^2)) says how well x agrees
    with the seen blocks; its gradient is added to the score, and a particle weighs by step x twist
    after / (proposal x twist before). The particles of an item are resampled where their effective
    share falls below `ess`. One call a step, with its gradient, for all particles.

    Args:
        steps, low, high, rho: see `polymodal.diffusion.noise_levels.karras_levels`.
        particles: of each item.
        ess: relative ESS below which the particles of an item are resampled.

    Two blocks of one dimension, of correlation .8; given 2.0 the other is N(1.6, .36):

    >>> _ = torch.manual_seed(0)
    >>> joint, eye = torch.tensor([[1.0, 0.8], [0.8, 1.0]]), torch.eye(2)
    >>> denoise = lambda x, s: x @ torch.linalg.solve(joint + s[0, 0] ** 2 * eye, joint)
    >>> value = torch.tensor([[2.0, 0.0]]).expand(400, 2)
    >>> task = Inpainting(value, torch.tensor([[True, False]]).expand(400, 2), (1, 1))
    >>> x, report = Twisted(steps=60, particles=32)(denoise, task)
    >>> x[:, 1].mean().round(decimals=1), x[:, 1].std().round(decimals=1)
    (tensor(1.6000), tensor(0.6000))
    """

    steps: Size = 100
    particles: Size = 64
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

    @property
    def has_exact_conditionals(self) -> bool:
        return False  # they are exact only with many particles

    @property
    def needs_energies(self) -> bool:
        return False

    def __call__(
        self, denoise: Denoise, task: Inpainting, energy_gradient: EnergyGradient | None = None
    ) -> tuple[Tensor, ParticleReport]:
        items, count = len(task.value), self.particles if task.seen.any() else 1
        each = max(1, ROWS // count)
        tasks = [task.rows(slice(i, i + each)) for i in range(0, items, each)]
        draws, reports = zip(*(self._draw(denoise, part, count) for part in tasks), strict=True)
        return torch.cat(draws), _joined(reports)

    def _draw(
        self, denoise: Denoise, task: Inpainting, count: int
    ) -> tuple[Tensor, ParticleReport]:
        """One draw (N, d) of each item, from `count` particles."""
        wide = _repeated(task, count)
        network = CountedCalls(wide.within(denoise))
        levels = karras_levels(self.steps, self.low, min(self.high, task.high), self.rho)[:-1]
        particles = _at(network, wide, wide.noise() * math.sqrt(1 + levels[0] ** 2), levels[0])
        shape = count, len(task.value)
        weights = Weights.of(particles.twist.view(shape))
        for s, to in pairwise(levels):
            weights, index = weights.resampled(self.ess)
            particles, factor = _step(network, wide, particles.taken(index), s, to)
            weights = weights._replace(log_weight=weights.log_weight + factor.view(shape))
        pick = resample(weights.log_weight)
        return task.put(_one(particles.clean, pick)), _report(network, weights, pick)


def _one(x: Tensor, pick: Tensor) -> Tensor:
    """x (N, d) of a random one of the particles `pick` (P, N) of each item, of x (P N, d)."""
    count, items = pick.shape
    chosen = torch.randint(count, (1, items), device=pick.device)
    return take(x.view(count, items, -1), pick.gather(0, chosen))[0]


def _repeated(task: Inpainting, count: int) -> Inpainting:
    """The task of `count` particles of each item, particle by particle: (N, ...) -> (P N, ...)."""
    value, seen = task.value.repeat(count, 1), task.seen.repeat(count, 1)
    return Inpainting(value, seen, task.sizes, task.active, task.high)


def _at(denoise: Denoise, task: Inpainting, x: Tensor, s: float) -> Particles:
    """Particles at x (P N, d) and level s."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        clean = denoise(x, task.levels(s, s))
        twist = _log_twist(task, clean, s)
        (gradient,) = torch.autograd.grad(twist.sum(), x)
    return Particles(x.detach(), clean.detach(), twist.detach(), task.only_active(gradient))


def _log_twist(task: Inpainting, clean: Tensor, s: float) -> Tensor:
    """log N(x0_S; E[x0_S | x], s^2 / (1 + s^2)) of the seen blocks S, (P N,) nats."""
    observed = task.observed if task.active is None else task.observed & task.active
    size = observed.sum(-1)
    miss = torch.where(task.observed, task.value - clean, 0)
    variance = s * s / (1 + s * s)
    constant = 0.5 * size * math.log(2 * math.pi * variance)
    return -miss.square().sum(-1) / (2 * variance) - constant


def _step(
    denoise: Denoise, task: Inpainting, before: Particles, s: float, to: float
) -> tuple[Particles, Tensor]:
    """Particles at level `to` from those at level s, and the logarithm of the factor by which their
    weights change, (P N,).
    """
    variance = to * to * (s * s - to * to) / (s * s)
    # what the twist adds to the mean of the unconditional step
    shift = (1 - to * to / (s * s)) * s * s * before.gradient
    noise = math.sqrt(variance) * task.noise()
    x = before.clean + to * to / (s * s) * (before.x - before.clean) + shift + noise
    after = _at(denoise, task, x, to)
    # log N(x'; mean, v) - log N(x'; mean + shift, v), with x' - mean = shift + noise
    ratio = -((shift + noise).square() - noise.square()).sum(-1) / (2 * variance)
    return after, ratio + after.twist - before.twist


def _report(network: CountedCalls, weights: Weights, pick: Tensor) -> ParticleReport:
    size, unique = lineage(take(weights.origin, pick), weights.log_weight)
    count, items = pick.shape
    log_normalizer = weights.log_normalizer + weights.total() - math.log(count)
    return ParticleReport(items, network.calls, network.rows, size, unique, log_normalizer)


def _joined(reports: Sequence[ParticleReport]) -> ParticleReport:
    """One report of all the items."""
    figures = [report.per_item() for report in reports]
    return ParticleReport(
        items=sum(report.items for report in reports),
        calls=sum(report.calls for report in reports),
        rows=sum(report.rows for report in reports),
        ess=torch.cat([figure["ess"] for figure in figures]),
        unique=torch.cat([figure["unique"] for figure in figures]),
        log_normalizer=torch.cat([figure["log_normalizer"] for figure in figures]),
    )
