"""Solvers of the reverse process, from noise to a draw.

A solver is a value: `solver(estimate, task)` is a draw x (N, d), where `estimate(x, s)` is E[x0 |
x] at noise level s. `SOLVERS` names them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, where

from polymodal.diffusion.conditioning import Inpainting
from polymodal.diffusion.noise_levels import VP, karras_levels, process_of

# x (N, d), sigma of the unseen -> E[x0 | x] (N, d)
DenoisedEstimate = Callable[[Tensor, float], Tensor]


class Solver(ABC):
    """Base of the solvers."""

    @abstractmethod
    def __call__(self, estimate: DenoisedEstimate, task: Inpainting) -> Tensor:
        """A draw (N, d) of each item."""


@dataclass(frozen=True)
class LevelSolver(Solver):
    """Base of solvers along the noise levels of Karras et al. (2022).

    Args:
        steps, low, high, rho: of `karras_levels`; no level is above the highest of the task.
    """

    steps: int = 30
    low: float = 0.005
    high: float = 80.0
    rho: float = 7.0

    def levels(self, task: Inpainting) -> list[float]:
        return karras_levels(self.steps, self.low, min(self.high, task.high), self.rho)


def _start(task: Inpainting, level: float) -> Tensor:
    """Noise (N, d) of the variance that data of variance 1 have at this level."""
    return task.noise() * math.sqrt(1 + level**2)


@dataclass(frozen=True)
class DPM(LevelSolver):
    """DPM-Solver++(2M) (Lu et al. 2022): second order in log sigma from the last two estimates; the
    step to 0 takes the estimate itself.
    """

    def __call__(self, estimate: DenoisedEstimate, task: Inpainting) -> Tensor:
        levels = self.levels(task)
        x = _start(task, levels[0])
        before: tuple[Tensor, float] | None = None  # the last estimate and step
        for s, to in pairwise(levels[:-1]):
            clean, h = estimate(x, s), math.log(s / to)
            x = to / s * x - math.expm1(-h) * _extrapolated(clean, h, before)
            before = clean, h
        return estimate(x, levels[-2])


def _extrapolated(clean: Tensor, h: float, before: tuple[Tensor, float] | None) -> Tensor:
    """The estimate `clean`, extrapolated by half a step h from the estimate and the step before."""
    if before is None:
        return clean
    estimate, step = before
    return clean + h / (2 * step) * (clean - estimate)


@dataclass(frozen=True)
class SingleStep(LevelSolver):
    """Base of solvers whose step depends on one level and the next.

    Args:
        repeats: how often each step is taken; noise leads back to its first level in between
            (Lugmayr et al. 2022, algorithm 1, line 8).
    """

    repeats: int = 1

    @abstractmethod
    def step(
        self, estimate: DenoisedEstimate, task: Inpainting, x: Tensor, s: float, to: float
    ) -> Tensor:
        """x (N, d) at level `to`, from x (N, d) at level s."""

    def __call__(self, estimate: DenoisedEstimate, task: Inpainting) -> Tensor:
        levels = self.levels(task)
        x = _start(task, levels[0])
        for s, to in pairwise(levels):
            for left in reversed(range(self.repeats)):
                x = self.step(estimate, task, x, s, to)
                if left:
                    x = x + math.sqrt(s * s - to * to) * task.noise()
        return x


@dataclass(frozen=True)
class Heun(SingleStep):
    """Karras et al. (2022), algorithm 1: two estimates a step."""

    def step(
        self, estimate: DenoisedEstimate, task: Inpainting, x: Tensor, s: float, to: float
    ) -> Tensor:
        slope = (x - estimate(x, s)) / s
        ahead = x + (to - s) * slope
        if to == 0:
            return ahead
        return x + (to - s) * 0.5 * (slope + (ahead - estimate(ahead, to)) / to)


@dataclass(frozen=True)
class DDIM(SingleStep):
    """Song et al. (2021a), eq. (12), in these coordinates.

    Args:
        eta: share of the noise that is fresh, in [0, 1]; 1 is the exact reverse of a Gaussian step.
    """

    eta: float = 0.0

    def step(
        self, estimate: DenoisedEstimate, task: Inpainting, x: Tensor, s: float, to: float
    ) -> Tensor:
        clean = estimate(x, s)
        up = self.eta * to / s * math.sqrt(s * s - to * to)
        down = math.sqrt(to * to - up * up)
        x = clean + down / s * (x - clean)
        return x + up * task.noise() if up else x


@dataclass(frozen=True)
class AnnealedLangevin(LevelSolver):
    """Annealed Langevin dynamics (Song and Ermon 2019, algorithm 1): `langevin_steps` steps
    x + a grad log p_s(x) + sqrt(2 a) eps with a = `step_size` s^2 at each level s; at the end the
    estimate E[x0 | x] of the lowest level.

    grad log p_s(x) = (E[x0 | x] - x) / s^2, of the unseen blocks given the seen ones: the score of
    any subset's conditional, where the estimate is that of a denoiser trained with masks.

    Args:
        langevin_steps: T, at each level.
        step_size: in (0, 2); larger steps diverge. Song and Ermon: .1 with T = 100. Larger ones
            follow the levels better: the variance of the converged chain is too large by about
            a / 2, which vanishes with the noise.
    """

    langevin_steps: int = 20
    step_size: float = 1.0

    def __call__(self, estimate: DenoisedEstimate, task: Inpainting) -> Tensor:
        *levels, _ = self.levels(task)
        x = _start(task, levels[0])
        for s in levels:
            for _ in range(self.langevin_steps):
                drift = self.step_size * (estimate(x, s) - x)
                x = x + drift + math.sqrt(2 * self.step_size) * s * task.noise()
        return estimate(x, levels[-1])


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """Song et al. (2021b), algorithm 1, for the variance-preserving process; y = alpha x.

    Joint samples correct before they predict, conditional ones after, as in Wesego and Rooshenas
    (2024).

    Args:
        steps: from t = 1 to `end`.
        corrector: Langevin steps at each t, of signal-to-noise ratio `snr`.
        vp: the betas of the process, see `VP`.
    """

    steps: int = 30
    corrector: int = 1
    snr: float = 0.16
    vp: Sequence[float] = (0.1, 20.0)
    end: float = 1e-3

    def __call__(self, estimate: DenoisedEstimate, task: Inpainting) -> Tensor:
        joint = not task.seen.any()
        times = self.times()
        y = mean = task.noise()
        for t in times:
            if joint:
                y, mean = self._correct(estimate, task, y, mean, t)
            y, mean = self._predict(estimate, task, y, t)
            if not joint:
                y, mean = self._correct(estimate, task, y, mean, t)
        return mean / self.process.alpha(times[-1])

    @property
    def process(self) -> VP:
        return process_of(self.vp)

    def times(self) -> list[float]:
        """t of each step, from 1 down to `end`."""
        stride = max(1, self.steps - 1)
        return [1 - i * (1 - self.end) / stride for i in range(self.steps)]

    def _predict(
        self, estimate: DenoisedEstimate, task: Inpainting, y: Tensor, t: float
    ) -> tuple[Tensor, Tensor]:
        """One step of the reverse process, and its mean."""
        beta = self.process.beta(t) / self.steps
        mean = y + 0.5 * beta * y + beta * self._score(estimate, y, t)
        return mean + math.sqrt(beta) * task.noise(), mean

    def _correct(
        self, estimate: DenoisedEstimate, task: Inpainting, y: Tensor, mean: Tensor, t: float
    ) -> tuple[Tensor, Tensor]:
        """Langevin steps of size 2 a (snr |noise| / |score|)^2, norms as means over the items."""
        a = 1 - self.process.beta(t) / self.steps
        for _ in range(self.corrector):
            score, noise = self._score(estimate, y, t), task.noise()
            ratio = self.snr * _mean_norm(noise, task) / _mean_norm(score, task)
            size = 2 * a * ratio**2
            mean = y + size * score
            y = mean + (2 * size).sqrt() * noise
        return y, mean

    def _score(self, estimate: DenoisedEstimate, y: Tensor, t: float) -> Tensor:
        """grad log p_t(y) = (alpha E[x0 | y] - y) / (1 - alpha^2)."""
        alpha = self.process.alpha(t)
        return (alpha * estimate(y / alpha, self.process.sigma(t)) - y) / (1 - alpha * alpha)


def _mean_norm(x: Tensor, task: Inpainting) -> Tensor:
    """The mean over the items of the norm of the unseen blocks of x (N, d)."""
    return where(task.observed, 0, x).norm(dim=-1).mean()


SOLVERS: dict[str, type[Solver]] = {
    "dpm": DPM,
    "heun": Heun,
    "ddim": DDIM,
    "pc": PredictorCorrector,
    "langevin": AnnealedLangevin,
}
