"""Solvers of the reverse process: from one noise level to the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

Guess = Callable[[Tensor, float], Tensor]  # x (N, d), sigma of what is unknown -> E[x0 | x] (N, d)
SOLVERS = ("dpm", "heun", "ddim", "pc")


def _heun(guess: Guess, x: Tensor, s: float, to: float) -> Tensor:
    slope = (x - guess(x, s)) / s
    there = x + (to - s) * slope
    if to == 0:
        return there
    return x + (to - s) * 0.5 * (slope + (there - guess(there, to)) / to)


def _multistep(guess: Guess, x: Tensor, levels: Sequence[float]) -> Tensor:
    """DPM-Solver++(2M): second order in log sigma from the last two guesses; the step to 0 takes
    the guess.
    """
    before, last = None, 0.0
    for s, to in pairwise(levels):
        clean = guess(x, s)
        if to == 0:
            return clean
        h = math.log(s / to)
        ahead = clean if before is None else clean + h / (2 * last) * (clean - before)
        x = to / s * x - math.expm1(-h) * ahead
        before, last = clean, h
    return x
