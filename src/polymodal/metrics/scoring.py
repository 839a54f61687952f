"""Scores of predictive distributions, entry by entry: pure formulas.

A predictive distribution is K draws x with weights that add up to 1 over the first axis, or the
probabilities of categories.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BINS = 10  # of calibration errors and of histograms
REPEATS = 200  # draws of what chance makes of a calibration error


def crps(x: Tensor, weight: Tensor, truth: Tensor) -> Tensor:
    """The continuous ranked probability score E|X - y| - E|X - X'| / 2 of weighted draws, in the
    unit of the values (Gneiting and Raftery 2007, eq. 21); lower is better.

    Args:
        x: (K, ...).
        weight: (K, ...), broadcasts to x.
        truth: (...), y.

    >>> crps(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.5], [0.5]]), torch.tensor([0.0]))
    tensor([0.2500])
    """
    weight = weight.expand_as(x)
    ordered, order = x.sort(0)
    sorted_weight = weight.gather(0, order)
    # sum_ij w_i w_j |x_i - x_j| / 2, by the place of each draw among the others.
    place = 2 * sorted_weight.cumsum(0) - sorted_weight - 1
    spread = (sorted_weight * ordered * place).sum(0)
    return (weight * (x - truth).abs()).sum(0) - spread


def pit(x: Tensor, weight: Tensor, truth: Tensor, uniform: Tensor) -> Tensor:
    """The probability integral transform P(X < y) + u P(X = y), (...): uniform in [0, 1] if the
    draws x (K, ...) are of the distribution of the truth y.

    Args:
        weight: (K, ...), broadcasts to x.
        uniform: (...), u in [0, 1], which spreads the steps of discrete values.
    """
    weight = weight.expand_as(x)
    below = torch.where(x < truth, weight, 0).sum(0)
    equal = torch.where(x == truth, weight, 0).sum(0)
    return (below + uniform * equal).clamp(0, 1)


def log_score(log_p: Tensor, weight: Tensor) -> Tensor:
    """log sum_k w_k p_k, (...): the log-density of a mixture, nats; higher is better.

    Args:
        log_p: (K, ...), of the truth.
        weight: (K, ...), broadcasts to log_p.
    """
    return torch.logsumexp(log_p + weight.log(), 0)


def rmse(center: Tensor, truth: Tensor) -> float:
    """The root of the mean square error of values (n,)."""
    return math.sqrt((center - truth).double().square().mean().item())


def coverage(lower: Tensor, upper: Tensor, truth: Tensor) -> float:
    """The share of values (n,) in their intervals, ends included."""
    return ((lower <= truth) & (truth <= upper)).double().mean().item()


def calibration_error(probability: Tensor, truth: Tensor, bins: int = BINS) -> float:
    """The expected calibration error of the most probable category (Guo et al. 2017, eq. 5): the
    mean distance of the probability and the share that is right, over bins of equal width.

    Args:
        probability: (n, K).
        truth: (n,) categories.

    >>> certain = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> calibration_error(certain, torch.tensor([0, 1]))
    0.5
    """
    return binned_error(*confidences(probability, truth), bins)


def confidences(probability: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The probability (n,) of the most probable of K categories, and whether it is right, 0 or 1.

    Args:
        probability: (n, K).
        truth: (n,) categories.
    """
    confidence, best = probability.max(-1)
    return confidence, (best == truth).double()


def binned_error(confidence: Tensor, right: Tensor, bins: int = BINS) -> float:
    """The calibration error of probabilities (n,) of what is right (n,) or not."""
    place = (confidence * bins).long().clamp(0, bins - 1)
    gap = confidence.double() - right.double()
    sums = torch.zeros(bins, dtype=torch.float64).index_add(0, place, gap)
    return sums.abs().sum().item() / len(confidence)


def chance_error(confidence: Tensor, bins: int = BINS, seed: int = 0) -> float:
    """The calibration error that is expected of probabilities (n,) that hold: the mean error over
    `REPEATS` draws of what is right. It is what a small n adds to the error of any predictor.

    >>> round(chance_error(torch.full((100,), 0.5)), 2), round(chance_error(torch.ones(9)), 2)
    (0.04, 0.0)
    """
    generator = torch.Generator().manual_seed(seed)
    p = confidence.double().cpu()
    right = torch.rand(REPEATS, len(p), generator=generator, dtype=torch.float64) < p
    place = (p * bins).long().clamp(0, bins - 1)
    sums = torch.zeros(bins, REPEATS, dtype=torch.float64).index_add(
        0, place, (p - right.double()).T
    )
    return sums.abs().sum(0).mean().item() / len(p)


def histogram(values: Tensor, bins: int = BINS) -> list[int]:
    """How many of the values (n,) lie in each of the bins of equal width of [0, 1]."""
    return torch.histc(values.double(), bins, 0, 1).long().tolist()
