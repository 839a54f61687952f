"""Adaptive Hamiltonian Monte Carlo on many items and chains at once, from only a log-density.

Every item of a batch is its own target with its own step size and metric; chains and items share
each call of the log-density. `HMC` and `MALA` are the samplers a model takes; `run` starts chains
from given points.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.checks import Depth, Size, SizeOrZero, check_positive
from polymodal.sampling import metric
from polymodal.sampling.diagnostics import ChainReport, ess, rhat
from polymodal.sampling.kernels import (
    Density,
    Info,
    LogProb,
    State,
    jittered,
    transition,
)


class Result(NamedTuple):
    """samples (draws, ..., B, D) and their report."""

    samples: Tensor
    report: ChainReport


class StepSize:
    """A step size for each item, found by stochastic approximation: log step += 2 k^-0.6
    (acceptance - target).

    `average` averages the later iterates (Polyak). From a guess within a factor of 3 it settles in
    some 10 updates.
    """

    def __init__(self, guess: Tensor, target: float) -> None:
        self.target = target
        self.restart(guess)

    def restart(self, guess: Tensor) -> None:
        self.log, self.mean, self.count = guess.log(), guess.log(), 0

    def update(self, acceptance: Tensor, limit: float = math.inf) -> None:
        """Learns from acceptance (B,), means over the chains. `limit`: the largest step of use."""
        self.count += 1
        self.log = (self.log + 2 * self.count**-0.6 * (acceptance - self.target)).clamp(
            -25, math.log(limit)
        )
        self.mean = self.mean + self.count**-0.75 * (self.log - self.mean)

    @property
    def current(self) -> Tensor:
        return self.log.exp()

    @property
    def average(self) -> Tensor:
        return self.mean.exp()


def first_step(z: Tensor) -> Tensor:
    """A step size near the best for a round density, (B,), for z (..., B, D)."""
    batch, dim = z.shape[-2:]
    return z.new_full((batch,), 1.2 * dim**-0.25)


def trajectory_steps(
    step: Tensor, trajectory: float | None, leapfrog: int
) -> tuple[Tensor, int, float]:
    """The number of steps that takes nearly every item to the length `trajectory`, at most
    `leapfrog`.

    Returns: the step sizes (B,), shortened where fewer steps would do; their number; the largest
        step of any use.
    """
    if trajectory is None:
        return step, leapfrog, math.inf
    steps = min(leapfrog, max(1, math.ceil(trajectory / step.quantile(0.1).item())))
    return step.clamp(max=trajectory / steps), steps, 1.3 * trajectory / max(1, steps - 1)


def _flat(x: Tensor) -> Tensor:
    """(..., B, D) -> (chains, B, D)."""
    return x.reshape(-1, *x.shape[-2:])


class Tuning:
    """The metric and the step size of each item, learned in warm-up; arguments as in `run`."""

    # shares of the warm-up at which the metric is updated; the rest settles the step size
    UPDATES = (0.13, 0.27, 0.4, 0.53, 0.7)

    def __init__(
        self,
        state: State,
        warmup: int,
        leapfrog: int,
        trajectory: float | None,
        jitter: float,
        target: float,
    ) -> None:
        self.leapfrog, self.trajectory, self.jitter, self.done = leapfrog, trajectory, jitter, 0
        self.updates = {max(2, round(share * warmup)) for share in self.UPDATES}
        self.history = [(_flat(state.z), _flat(state.grad))]
        self.factor = metric.first(*self.history[0])
        self.guess = first_step(state.z)
        self.step = StepSize(self.guess / 2, target)

    def __call__(self, evaluate: Density, state: State) -> State:
        """One transition of the warm-up."""
        step, steps, limit = trajectory_steps(self.step.current, self.trajectory, self.leapfrog)
        steps, stretch = jittered(steps, self.jitter)
        state, info = transition(evaluate, state, step * stretch, steps, self.factor)
        self.step.update(_flat(info.acceptance.unsqueeze(-1)).mean((0, 2)), limit)
        self.history.append((_flat(state.z), _flat(state.grad)))
        self.done += 1
        if self.done in self.updates:
            if self.done > min(self.updates):
                # the first half leads from the starts to the target
                self.history = self.history[-(self.done // 2) - 1 :]
            self.factor = metric.update(
                self.factor, *map(torch.cat, zip(*self.history, strict=True))
            )
            self.step.restart(self.guess)
        return state


def run(
    log_prob: LogProb,
    z0: Tensor,
    *,
    draws: int = 40,
    warmup: int = 30,
    thin: int = 1,
    leapfrog: int = 8,
    trajectory: float | None = 2.0,
    jitter: float = 0.5,
    target: float = 0.8,
) -> Result:
    """Adaptive HMC from the points z0: warm-up, which finds a metric and a step size for each item,
    then draws.

    Args:
        log_prob: (..., B, D) -> (..., B), unnormalised, nats.
        z0: (..., B, D): the starts; all leading dimensions are chains. Spread them wider than the
            target.
        draws, thin: kept draws of each chain, one of every `thin` transitions.
        warmup: transitions that adapt and are thrown away; 30 are enough up to 20 dimensions, 40 up
            to 64 (4 chains).
        leapfrog: the largest number of steps a transition, on average over the jitter.
        trajectory: length in the metric's units, in which the target is about as wide as N(0, I):
            pi/2 forgets the start, 2 gains a little against imperfect metrics; 3 to 5 suit strongly
            curved targets. None: always `leapfrog` steps, however long.
        jitter: see `hmc`.
        target: of the mean acceptance probability. Items that need fewer steps than others exceed
            it.

    Returns: samples (draws, ..., B, D) and their report. `log_prob` is called once for the start
        and once for each leapfrog step: 1 + (warmup + draws * thin) * leapfrog times where
        trajectory is None and jitter 0.
    Raises: ValueError for settings out of range, or a log_prob that does not return (..., B).

    >>> _ = torch.manual_seed(0)
    >>> samples, report = run(lambda z: -z.square().sum(-1) / 2, 3 * torch.randn(4, 16, 2))
    >>> samples.shape, report.rhat.median() < 1.05
    (torch.Size([40, 4, 16, 2]), tensor(True))
    """
    check_positive("A sampler", draws=draws, thin=thin)
    check_moves(warmup, leapfrog, trajectory, jitter, target)
    if z0.dim() < 2 or not z0.is_floating_point():
        raise ValueError(
            f"z0 must be real, of shape (..., B, D), got {z0.dtype} of shape {tuple(z0.shape)}."
        )
    evaluate = Density(log_prob)
    state = _rescued(evaluate(z0))
    tuning = Tuning(state, warmup, leapfrog, trajectory, jitter, target)
    for _ in range(warmup):
        state = tuning(evaluate, state)
    step, steps, _ = trajectory_steps(tuning.step.average, trajectory, leapfrog)
    kept, infos = [], []
    for i in range(draws * thin):
        count, stretch = jittered(steps, jitter)
        state, info = transition(evaluate, state, step * stretch, count, tuning.factor)
        infos.append(info)
        if (i + 1) % thin == 0:
            kept.append(state.z)
    samples = torch.stack(kept)
    return Result(samples, _diagnose(samples, infos, step, evaluate.calls))


def _rescued(state: State) -> State:
    """Chains that start where the density vanishes, moved to where another chain of their item
    starts.
    """
    z, grad = _flat(state.z), _flat(state.grad)
    log_prob = state.log_prob.reshape(-1, state.z.shape[-2])
    lost = log_prob.isneginf()
    if not lost.any():
        return state
    weights = (~lost | lost.all(0)).to(z.dtype)
    others = torch.multinomial(weights.T, len(z), replacement=True).T
    index = torch.where(lost, others, torch.arange(len(z), device=z.device).unsqueeze(-1))

    def picked(x: Tensor) -> Tensor:
        return x.gather(0, index.unsqueeze(-1).expand_as(x)).reshape(state.z.shape)

    moved = log_prob.gather(0, index).reshape(state.log_prob.shape)
    return State(picked(z), moved, picked(grad))


def check_moves(
    warmup: int, leapfrog: int, trajectory: float | None, jitter: float, target: float
) -> None:
    """Raise ValueError for settings without which HMC cannot move or adapt."""
    check_positive(
        "A sampler", leapfrog=leapfrog, trajectory=1.0 if trajectory is None else trajectory
    )
    if warmup < 0 or not 0 < target < 1 or not 0 <= jitter < 1 or trajectory == math.inf:
        raise ValueError(
            "HMC takes warmup >= 0, a target between 0 and 1, 0 <= jitter < 1 and a finite"
            f" trajectory, got warmup={warmup}, target={target}, jitter={jitter},"
            f" trajectory={trajectory}."
        )


def starts(start: Callable[[int], Tensor], n: int) -> Tensor:
    """n starting points (n, B, D). Raises ValueError where `start` gives another shape."""
    z = start(n)
    if z.dim() != 3 or len(z) != n or not z.is_floating_point():
        raise ValueError(
            f"start({n}) must give real draws of shape ({n}, B, D), got {z.dtype} {tuple(z.shape)}."
        )
    return z


def _diagnose(samples: Tensor, infos: list[Info], step: Tensor, gradients: int) -> ChainReport:
    shape = -1, samples.shape[-2]
    chains = samples.reshape(len(samples), -1, *samples.shape[-2:])
    long = len(samples) >= 4
    return ChainReport(
        acceptance=torch.stack([info.acceptance for info in infos]).reshape(shape).mean(0),
        divergent=torch.stack([info.divergent for info in infos]).reshape(shape).sum(0),
        ess=ess(chains).amin(-1) if long else torch.full_like(step, torch.nan),
        step_size=step,
        gradients=gradients,
        transitions=len(infos) * chains.shape[1],
        rhat=rhat(chains).amax(-1) if long else None,
    )


@dataclass(frozen=True)
class HMC:
    """The default sampler: `sampler(log_prob, start, start_log_prob, n) -> (z (n, B, D),
    ChainReport)`.

    Chains start at draws of `start`, adapt for `warmup` transitions and keep `draws`; see `run` for
    the settings. Asked for n draws, it returns those that lie furthest apart: the last of n chains
    for n <= chains, evenly spaced ones of all chains otherwise; where chains * draws do not suffice
    it runs more chains. R-hat and ESS see every kept draw.
    """

    warmup: SizeOrZero = 30
    draws: Size = 40
    leapfrog: Depth = 8
    target: float = 0.8
    chains: Size = 4
    trajectory: float | None = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        check_positive("A sampler", chains=self.chains, draws=self.draws)
        check_moves(self.warmup, self.leapfrog, self.trajectory, self.jitter, self.target)

    def __call__(
        self, log_prob: LogProb, start: Callable[[int], Tensor], start_log_prob: LogProb, n: int
    ) -> tuple[Tensor, ChainReport]:
        """n draws of each item.

        Args:
            log_prob: (..., B, D) -> (..., B), the unnormalised target, nats.
            start: n -> (n, B, D), draws of something wider than the target, such as the mixture of
                the experts.
            start_log_prob: its log-density; not used here (`SMC` uses it).
            n: how many draws.

        Raises: ValueError for n < 1, and as `run`; for settings out of range when the sampler is
            made.
        """
        check_positive("A sampler", n=n)
        chains = max(self.chains, math.ceil(n / self.draws))
        samples, report = run(
            log_prob,
            starts(start, chains),
            draws=self.draws,
            warmup=self.warmup,
            leapfrog=self.leapfrog,
            trajectory=self.trajectory,
            jitter=self.jitter,
            target=self.target,
        )
        each = math.ceil(n / chains)
        last = [self.draws - 1 - i * self.draws // each for i in range(each)]
        return samples[last].flatten(0, 1)[:n], report


@dataclass(frozen=True)
class MALA(HMC):
    """Langevin's sampler, one gradient a transition, with the interface and the settings of `HMC`.

    Its transitions are cheaper, and its draws more alike: it needs about 4 times as many draws for
    the same effective sample size.
    """

    warmup: SizeOrZero = 50
    draws: Size = 300
    leapfrog: Depth = 1
    target: float = 0.7
    trajectory: float | None = None
    jitter: float = 0.0
