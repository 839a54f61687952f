"""log p(x) of a diffusion model through its probability-flow ODE: of all blocks, or of some given
the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.analysis.trace import jacobian_trace
from polymodal.diffusion.conditioning import Denoise, Inpainting


@torch.no_grad()
def log_density(
    denoise: Denoise,
    task: Inpainting,
    *,
    steps: int = 32,
    probes: int | None = None,
    low: float = 0.005,
) -> Tensor:
    """log p(x_U | x_S), (N,) nats, for the blocks U that are not `seen`: log p(x) where none is.

    Along dx / d log sigma = x - E[x0 | x] the density changes by d log p = -tr(...) d log sigma
    (Chen et al. 2018; Song et al. 2021b, eq. (39)), from sigma = `low`, where x is taken to lie, to
    `task.high`, where p is taken to be N(E[x0 | x_S], 1 + sigma^2). Runge and Kutta's fourth-order
    method in log sigma. With blocks seen, the denoiser must have been trained with masks.

    Args:
        task: its `value` holds all of x.
        steps: four calls each, with their traces.
        probes: see `jacobian_trace`; None is exact and costs d calls at once.
    """
    flow = ProbabilityFlow(denoise, task, probes)
    x, change = task.value.clone(), task.value.new_zeros(len(task.value))
    h = math.log(task.high / low) / steps
    for i in range(steps):
        levels = [low * math.exp((i + f) * h) for f in (0.0, 0.5, 0.5, 1.0)]
        velocity, trace = flow.step(x, levels, h)
        x, change = x + velocity, change + trace
    return flow.log_end(x) + change


@dataclass(frozen=True)
class ProbabilityFlow:
    """The probability-flow ODE dx / d log sigma = x - E[x0 | x] in the unseen blocks of a task.

    Args:
        denoise, task, probes: see `log_density`.
    """

    denoise: Denoise
    task: Inpainting
    probes: int | None = None

    @property
    def free(self) -> Tensor:
        """(N, d): the coordinates that move."""
        unseen = ~self.task.observed
        return unseen if self.task.active is None else unseen & self.task.active

    def slope(self, x: Tensor, s: float) -> tuple[Tensor, Tensor]:
        """dx / d log sigma (N, d) at level s, and its jacobian_trace (N,)."""
        free, levels = self.free, self.task.levels(s, 0.0)

        def velocity(y: Tensor) -> Tensor:
            return torch.where(free, y - self.denoise(y, levels), 0)

        return jacobian_trace(velocity, x, self.probes, free)

    def step(self, x: Tensor, levels: list[float], h: float) -> tuple[Tensor, Tensor]:
        """How x (N, d) and log p (N,) change in one step of length h in log sigma, with the slopes
        at four levels.
        """
        at, slopes, traces = x, [], []
        for level, ahead in zip(levels, (0.5, 0.5, 1.0, 0.0), strict=True):
            velocity, trace = self.slope(at, level)
            slopes.append(velocity)
            traces.append(trace)
            at = x + ahead * h * velocity
        return _mean_slope(slopes, h), _mean_slope(traces, h)

    def log_end(self, x: Tensor) -> Tensor:
        """log N(x; E[x0 | x_S], 1 + sigma^2) at the highest sigma, (N,) nats."""
        high = self.task.high
        variance = 1 + high * high
        # where x0 ~ N(0, 1) this is x itself
        centred = (x - self.denoise(x, self.task.levels(high, 0.0))) * variance / high**2
        each = -0.5 * (centred.square() / variance + math.log(2 * math.pi * variance))
        return torch.where(self.free, each, 0).sum(-1)


def _mean_slope(slopes: list[Tensor], h: float) -> Tensor:
    """The step of Runge and Kutta's fourth-order method from its four slopes."""
    first, second, third, last = slopes
    return h / 6 * (first + 2 * second + 2 * third + last)
