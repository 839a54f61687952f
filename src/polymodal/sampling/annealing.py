"""Annealed importance sampling: the normalising constant of a density, without bias and with its
standard error.

Neal (2001). Chains start at draws of a normalised density and pass through start^(1-t) target^t, t
from 0 to 1; each is weighed by what it gains when t rises, and moved by HMC at every t. Unlike in
`SMC`, chains do not interact, so that their weights are independent.
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
from polymodal.sampling.kernels import Density, Info, LogProb, jittered, transition
from polymodal.sampling.mcmc import StepSize, check_moves, first_step, starts, trajectory_steps
from polymodal.sampling.smc import Tempered, at, log_weights, tempered

STEEPNESS = 4.0  # of the schedule: small steps of t near 0 and 1
POINTS = 4  # points for each dimension, from which a metric is learned


class Annealed(NamedTuple):
    """log_weight (chains, B), nats, float64: exp of it has the normalising constant as its mean.
    acceptance (B,): of the moves.
    """

    log_weight: Tensor
    acceptance: Tensor

    @property
    def log_normalizer(self) -> Tensor:
        """The log of the mean weight, (B,): in expectation below the truth, by about half the
        square of `error`.
        """
        return self.log_weight.logsumexp(0) - math.log(len(self.log_weight))

    @property
    def error(self) -> Tensor:
        """The standard error of `log_normalizer` over the chains, (B,): that of the mean weight,
        over it.
        """
        weight = (self.log_weight - self.log_normalizer).exp()
        return weight.std(0) / math.sqrt(len(weight))


class Move(NamedTuple):
    """HMC at one temperature: metric, step size (B,), number of leapfrog steps."""

    factor: Tensor
    step: Tensor
    steps: int


def schedule(count: int) -> list[float]:
    """Temperatures t_1 < ... < t_count = 1, on a sigmoid as Wu et al. (2017) take them.

    >>> [round(t, 2) for t in schedule(4)]
    [0.1, 0.5, 0.9, 1.0]
    """
    line = torch.linspace(-1, 1, count + 1, dtype=torch.float64)
    curve = (STEEPNESS * line).sigmoid()
    return ((curve - curve[0]) / (curve[-1] - curve[0]))[1:].tolist()


@dataclass(frozen=True)
class AIS:
    """`AIS()(log_prob, start, start_log_prob) -> Annealed`.

    Chains go through the temperatures twice: the first ones only teach the metric and the step size
    of each temperature; those of the second pass keep them, so that their weights have no bias.

    Args:
        chains: of each item, in each pass; the error shrinks like 1 / sqrt(chains).
        temperatures: their number; the spread of the log-weights shrinks like 1 / sqrt of it.
        leapfrog, trajectory, jitter, target: of the moves; see `polymodal.sampling.run`.

    The integral of exp(-z^2 / 2 + 3) is e^3 sqrt(2 pi), of which the log is 3.92:

    >>> from torch.distributions import Independent, Normal
    >>> _ = torch.manual_seed(0)
    >>> target = lambda z: 3 - z.square().sum(-1) / 2
    >>> start = Independent(Normal(torch.ones(2, 1), 3.0), 1)
    >>> annealed = AIS(64)(target, lambda n: start.sample((n,)), start.log_prob)
    >>> annealed.log_normalizer.round(decimals=1)
    tensor([3.9000, 3.9000], dtype=torch.float64)
    """

    chains: Size = 16
    temperatures: Size = 100
    leapfrog: Depth = 8
    trajectory: float = 2.0
    jitter: float = 0.5
    target: float = 0.8

    def __post_init__(self) -> None:
        check_positive("AIS", temperatures=self.temperatures)
        check_moves(0, self.leapfrog, self.trajectory, self.jitter, self.target)
        if self.chains < 2:
            raise ValueError(
                f"AIS needs at least 2 chains for a standard error, got chains={self.chains};"
                " 16 is usual."
            )

    def __call__(
        self, log_prob: LogProb, start: Callable[[int], Tensor], start_log_prob: LogProb
    ) -> Annealed:
        """Arguments as for `HMC`; the start is normalised, and reaches all of the target.

        Raises ValueError for densities that do not return (..., B), and when it is made for
        settings out of range.
        """
        first, target = Density(start_log_prob), Density(log_prob)
        learning = _Learning(self)
        self._passed(first, target, starts(start, self.chains), learning.move)
        moves = iter(learning.moves)
        return self._passed(first, target, starts(start, self.chains), lambda *_: next(moves))

    def _passed(
        self, first: Density, target: Density, z: Tensor, next_move: Callable[..., Move]
    ) -> Annealed:
        """The chains from z (chains, B, D) through all temperatures.

        Args:
            next_move: (state, what the last move did) -> the move at the state's temperature.
        """
        t = z.new_zeros(z.shape[-2])
        state, info = tempered(t, first, target, z), None
        total = torch.zeros(z.shape[:-1], dtype=torch.float64, device=z.device)
        accepted = torch.zeros_like(total[0])
        for temperature in schedule(self.temperatures):
            gain = state.target_log_prob.double() - state.start_log_prob.double()
            new = torch.full_like(t, temperature)
            total = total + log_weights((new - t).double(), gain)
            t, state = new, at(new, state)
            move = next_move(state, info)
            count, stretch = jittered(move.steps, self.jitter)

            def evaluate(z: Tensor, t: Tensor = t) -> Tempered:
                return tempered(t, first, target, z)

            state, info = transition(evaluate, state, move.step * stretch, count, move.factor)
            accepted = accepted + info.acceptance.mean(0)
        return Annealed(total, accepted / self.temperatures)


class _Learning:
    """Finds the moves: a metric from the latest points, a step size from acceptances."""

    def __init__(self, settings: AIS) -> None:
        self.settings, self.moves = settings, list[Move]()
        self.points: list[tuple[Tensor, Tensor]] = []
        self.size: StepSize | None = None
        self.limit = math.inf

    def move(self, state: Tempered, info: Info | None) -> Move:
        """The next move; the acceptance of the last one is learned from."""
        if self.size is None:
            self.size = StepSize(first_step(state.z), self.settings.target)
        if info is not None:
            self.size.update(info.acceptance.mean(0), self.limit)
        step, steps, self.limit = trajectory_steps(
            self.size.current, self.settings.trajectory, self.settings.leapfrog
        )
        self.moves.append(Move(self._factor(state), step, steps))
        return self.moves[-1]

    def _factor(self, state: Tempered) -> Tensor:
        latest = math.ceil(POINTS * state.z.shape[-1] / self.settings.chains)
        self.points = [*self.points, (state.z, state.grad)][-latest:]
        z, grad = map(torch.cat, zip(*self.points, strict=True))
        factor = metric.first(z, grad)
        return factor if factor.dim() == 2 else metric.update(factor, z, grad)
