"""log p(x) of a diffusion model through its probability-flow ODE, of all blocks or of some given
the others.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polymodal.analysis.trace import divergence
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
    (Chen et al. 2018; Song et al. 2021, eq. (39)), from sigma = `low`, where x is taken to lie, to
    `task.high`, where p is taken to be N(E[x0 | x_S], 1 + sigma^2). Runge and Kutta's fourth-order
    method in log sigma. With blocks seen, the denoiser must know masks.

    Args:
        task: its `value` holds all of x.
        steps: four calls each, with their traces.
        probes: see `divergence`; None is exact and costs d calls at once.
    """
    free = ~task.known if task.active is None else ~task.known & task.active
    x, change = task.value.clone(), task.value.new_zeros(len(task.value))
    high = task.high
    h = math.log(high / low) / steps

    def slope(x: Tensor, s: float) -> tuple[Tensor, Tensor]:
        velocity = lambda y: torch.where(free, y - denoise(y, task.levels(s, 0.0)), 0)
        return divergence(velocity, x, probes, free)

    for i in range(steps):
        levels = [low * math.exp((i + f) * h) for f in (0.0, 0.5, 0.5, 1.0)]
        at, slopes, traces = x, [], []
        for level, ahead in zip(levels, (0.5, 0.5, 1.0, 0.0), strict=True):
            velocity, trace = slope(at, level)
            slopes.append(velocity)
            traces.append(trace)
            at = x + ahead * h * velocity
        x = x + h / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3])
        change = change + h / 6 * (traces[0] + 2 * traces[1] + 2 * traces[2] + traces[3])
    variance = 1 + high * high
    centred = (
        (x - denoise(x, task.levels(high, 0.0))) * variance / high**2
    )  # x itself where x0 ~ N(0, 1)
    end = torch.where(
        free, -0.5 * (centred.square() / variance + math.log(2 * math.pi * variance)), 0
    ).sum(-1)
    return end + change
