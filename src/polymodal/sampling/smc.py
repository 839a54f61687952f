"""Annealed sequential Monte Carlo from a normalised start to the target: it weighs modes at any
distance.

Chains stay in the mode where they started, so the weights of separate modes are those of the start.
Here particles pass through the densities start^(1-t) target^t, t from 0 to 1, are resampled by how
much each gains, and moved by HMC at each t (Del Moral, Doucet & Jasra 2006). Each item has its own
temperatures, metric and step size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.checks import Depth, Size, check_positive
from polymodal.sampling import metric
from polymodal.sampling.diagnostics import SMCReport
from polymodal.sampling.kernels import Density, Info, LogProb, jittered, transition
from polymodal.sampling.mcmc import StepSize, check_moves, first_step, starts, trajectory_steps


class Tempered(NamedTuple):
    """Particles at temperature t: log_prob (P, B) = (1 - t) start + t target, grad (P, B, D)
    likewise.
    """

    z: Tensor
    log_prob: Tensor
    grad: Tensor
    start_log_prob: Tensor
    start_grad: Tensor
    target_log_prob: Tensor
    target_grad: Tensor


def _mix(t: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """(1 - t) start + t target, where an infinite end with weight 0 counts 0."""
    return torch.where(t < 1, (1 - t) * start, 0) + torch.where(t > 0, t * target, 0)


def at(t: Tensor, state: Tempered) -> Tempered:
    """The same particles at temperatures t (B,), without an evaluation of a density."""
    log_prob = _mix(t, state.start_log_prob, state.target_log_prob)
    grad = _mix(t.unsqueeze(-1), state.start_grad, state.target_grad)
    return state._replace(log_prob=log_prob, grad=grad)


def tempered(t: Tensor, start: Density, target: Density, z: Tensor) -> Tempered:
    """Particles z (P, B, D) at temperatures t (B,): one evaluation of each density."""
    a, b = start(z), target(z)
    return at(t, Tempered(z, a.log_prob, a.grad, a.log_prob, a.grad, b.log_prob, b.grad))


def next_temperature(t: Tensor, gain: Tensor, share: float) -> Tensor:
    """The largest temperature at which the weights exp((t' - t) gain) keep an ESS of `share`; 1
    where that is possible.

    Args:
        t: (B,), now.
        gain: (P, B), log target - log start of each particle, nats.
        share: ESS (sum w)^2 / (P sum w^2) to keep, in (0, 1).

    >>> next_temperature(torch.zeros(1), torch.tensor([[0.0], [1e3], [0.0], [0.0]]), 0.5) < 0.002
    tensor([True])
    """
    low, high = t, torch.ones_like(t)

    def enough(new: Tensor) -> Tensor:
        return relative_ess(log_weights(new - t, gain)) >= share

    whole = enough(high)
    for _ in range(40):  # halvings: the first step may have to be tiny
        middle = (low + high) / 2
        good = enough(middle)
        low, high = torch.where(good, middle, low), torch.where(good, high, middle)
    return torch.where(whole, 1.0, torch.maximum(low, t + torch.finfo(t.dtype).eps)).clamp(max=1)


def log_weights(step: Tensor, gain: Tensor) -> Tensor:
    """step * gain, (P, B); 0 where the temperature stays, also for a particle at the edge of a
    support.
    """
    return torch.where(step > 0, step * gain, 0)


def relative_ess(log_weight: Tensor) -> Tensor:
    """(sum w)^2 / (P sum w^2) of weights (P, B), in (0, 1]; (B,)."""
    return (2 * log_weight.logsumexp(0) - (2 * log_weight).logsumexp(0)).exp() / len(log_weight)


def resample(log_weight: Tensor) -> Tensor:
    """Systematic resampling of every item at once: P indices in proportion to the weights, (P, B)
    -> (P, B).

    Particle i gets floor or ceil of P w_i copies; P w_i on average.

    >>> resample(torch.tensor([[0.0], [-100.0], [0.0], [-100.0]])).T
    tensor([[0, 0, 2, 2]])
    """
    count, batch = log_weight.shape
    device, dtype = log_weight.device, log_weight.dtype
    edges = log_weight.softmax(0).cumsum(0)
    offsets = torch.arange(count, device=device, dtype=dtype).unsqueeze(-1)
    shift = torch.rand(batch, device=device, dtype=dtype)
    points = (offsets + shift) / count * edges[-1]
    index = torch.searchsorted(edges.T.contiguous(), points.T.contiguous(), right=True)
    return index.T.clamp(max=count - 1)


def take(x: Tensor, index: Tensor) -> Tensor:
    """x (P, B) or (P, B, D) at the particles index (P', B) of each item."""
    if x.dim() == 2:
        return x.gather(0, index)
    return x.gather(0, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


@dataclass(frozen=True)
class SMC:
    """For targets of separate modes: `sampler(log_prob, start, start_log_prob, n) -> (z (n, B, D),
    SMCReport)`.

    Unlike chains it needs the start's density, which must reach every mode. Its draws are equally
    weighted; its `log_normalizer` estimates the log of the integral of exp(log_prob). Errors shrink
    like 1 / sqrt(particles).

    Args:
        particles: of each item, at least; n where n is larger.
        moves: HMC transitions at each temperature.
        ess: relative ESS that each step in temperature keeps.
        leapfrog, trajectory, jitter, target: of the moves; see `polymodal.sampling.run`.
        temperatures: their largest number; the last jumps to the target, whatever the weights.

    Two modes of weights 1 to e, whose integral is 6.59 (its log 1.9):

    >>> from torch.distributions import Independent, Normal
    >>> _ = torch.manual_seed(0)
    >>> target = lambda z: torch.logaddexp(-(z - 9).square(), 1 - (z + 9).square()).squeeze(-1)
    >>> start = Independent(Normal(torch.zeros(5, 1), 9.0), 1)
    >>> sampler, draw = SMC(particles=1000), lambda n: start.sample((n,))
    >>> z, report = sampler(target, draw, start.log_prob, n=1000)
    >>> (z < 0).float().mean().round(decimals=1), report.log_normalizer.mean().round(decimals=1)
    (tensor(0.7000), tensor(1.9000))
    """

    particles: Size = 128
    moves: Depth = 2
    ess: float = 0.5
    leapfrog: Depth = 8
    trajectory: float = 2.0
    jitter: float = 0.5
    target: float = 0.8
    temperatures: Size = 100

    def __post_init__(self) -> None:
        check_positive(
            "A sampler", particles=self.particles, moves=self.moves, temperatures=self.temperatures
        )
        check_moves(0, self.leapfrog, self.trajectory, self.jitter, self.target)
        if not 0 < self.ess < 1:
            raise ValueError(
                f"SMC keeps a relative ESS between 0 and 1, got ess={self.ess}; 0.5 is usual."
            )

    def __call__(
        self, log_prob: LogProb, start: Callable[[int], Tensor], start_log_prob: LogProb, n: int
    ) -> tuple[Tensor, SMCReport]:
        """n draws of each item; arguments as for `HMC`.

        Raises: ValueError for n < 1, or densities that do not return (..., B); for settings out of
        range when the sampler is made.
        """
        check_positive("A sampler", n=n)
        target, first = Density(log_prob), Density(start_log_prob)
        count = max(self.particles, n)
        z = starts(start, count)
        batch = z.shape[-2]
        t = z.new_zeros(batch)

        def evaluate(z: Tensor) -> Tempered:  # at the current temperatures t
            return tempered(t, first, target, z)

        state = evaluate(z)
        size = StepSize(first_step(z), self.target)
        origin = torch.arange(count, device=z.device).unsqueeze(-1).expand(count, batch)
        log_normalizer = torch.zeros_like(t)
        infos, rounds = [], 0
        while (t < 1).any():
            rounds += 1
            gain = state.target_log_prob - state.start_log_prob
            new = torch.ones_like(t)
            if rounds < self.temperatures:
                new = next_temperature(t, gain, self.ess)
            log_weight, t = log_weights(new - t, gain), new
            log_normalizer = log_normalizer + log_weight.logsumexp(0) - math.log(count)
            index = resample(torch.where(log_weight.isneginf().all(0), 0, log_weight))
            state = at(t, Tempered(*(take(x, index) for x in state)))
            origin = take(origin, index)
            factor = _metric(state)
            size.restart(size.current)
            state, moved = self._move(evaluate, state, factor, size)
            infos += moved
        return _thin(state.z, n), _diagnose(origin, infos, target.calls, log_normalizer)

    def _move(
        self,
        evaluate: Callable[[Tensor], Tempered],
        state: Tempered,
        factor: Tensor,
        size: StepSize,
    ) -> tuple[Tempered, list[Info]]:
        infos = []
        for _ in range(self.moves):
            step, steps, limit = trajectory_steps(size.current, self.trajectory, self.leapfrog)
            steps, stretch = jittered(steps, self.jitter)
            state, info = transition(evaluate, state, step * stretch, steps, factor)
            size.update(info.acceptance.mean(0), limit)
            infos.append(info)
        return state, infos


def _metric(state: Tempered) -> Tensor:
    factor = metric.first(state.z, state.grad)
    return factor if factor.dim() == 2 else metric.update(factor, state.z, state.grad)


def _thin(z: Tensor, n: int) -> Tensor:
    """n of the P particles (P, B, D) of each item, one from each n-th of them (neighbours share
    starts), in random order.
    """
    count, batch = z.shape[:2]
    offsets = torch.arange(n, device=z.device).unsqueeze(-1)
    shift = torch.rand(batch, device=z.device, dtype=z.dtype)
    index = ((offsets + shift) * (count / n)).long().clamp(max=count - 1)
    order = torch.rand(n, batch, device=z.device, dtype=z.dtype).argsort(0)
    return take(z, index.gather(0, order))


def lineage(origin: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The effective number of the starts that particles (P, B) descend from, and their share of all
    starts, (B,) each.
    """
    ones = like.new_ones(1).expand(origin.shape)
    family = torch.zeros_like(ones).scatter_add(0, origin, ones)  # descendants of each start
    return len(origin) ** 2 / family.square().sum(0), (family > 0).to(ones.dtype).mean(0)


def _diagnose(
    origin: Tensor, infos: list[Info], gradients: int, log_normalizer: Tensor
) -> SMCReport:
    size, unique = lineage(origin, log_normalizer)
    return SMCReport(
        acceptance=torch.stack([info.acceptance.mean(0) for info in infos]).mean(0),
        divergent=torch.stack([info.divergent.sum(0) for info in infos]).sum(0),
        ess=size,
        step_size=infos[-1].step_size,
        gradients=gradients,
        transitions=len(origin) * len(infos),
        log_normalizer=log_normalizer,
        unique=unique,
    )
