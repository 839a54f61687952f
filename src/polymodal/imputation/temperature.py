"""Probabilities that hold: one temperature for the categories of a modality.

The probabilities p of a model become p^(1/T), normalised (Guo et al. 2017, section 4.2, of mixtures
over latents): above 1 it is less sure, below 1 surer, and the most probable category stays. T
maximises the log-probability of hidden validation entries with the prior log T ~ N(0, SPREAD^2). It
is 1 unless that is better by NEEDED nats: a temperature that follows the noise of few entries makes
probabilities that hold worse.
"""

from __future__ import annotations

import math

from torch import Tensor

from polymodal.batch import CODED, Modality
from polymodal.checks import CountOrZero, Group, Positive
from polymodal.imputation.columns import columns_of
from polymodal.imputation.fill import Filled
from polymodal.imputation.hiding import Pattern

SPREAD = 0.5  # of the prior of log T
NEEDED = 2.0  # nats over T = 1: two standard errors
FARTHEST = 3.0  # largest size of log T, in spreads
LEAST = 1e-12  # probability


class Temperature(Group):
    """How sure the categories of a modality are.

    Args:
        pattern: "entries", or "whole" if the sample lacks the modality.
        modality: its name.
        n: validation entries behind it.
        value: T; 1 if the entries do not show that another one is needed.
    """

    pattern: Pattern
    modality: str
    n: CountOrZero
    value: Positive


def tempered(probabilities: Tensor, temperature: float) -> Tensor:
    """p^(1/T), normalised, of probabilities (..., K).

    >>> import torch
    >>> tempered(torch.tensor([0.2, 0.8]), 0.5)
    tensor([0.0588, 0.9412])
    """
    if temperature == 1.0:
        return probabilities
    return (probabilities.clamp_min(LEAST).log() / temperature).softmax(-1)


def temperature_of(
    pattern: Pattern,
    modality: Modality,
    truth: Tensor,
    mask: Tensor,
    filled: Filled,
    times: int = 1,
) -> Temperature | None:
    """The temperature of a modality; None if no category was hidden.

    Args:
        truth: (N, d).
        mask: (N, d) bool, the entries that were hidden.
        filled: what the model says of the N samples.
        times: how often each sample is among them; what is needed grows in proportion.
    """
    from scipy.optimize import minimize_scalar

    entries = [
        (filled.probabilities[i][mask[:, i]], truth[mask[:, i], i].long())
        for i, column in enumerate(columns_of(modality))
        if column.type in CODED
    ]
    logs = [(p.double().clamp_min(LEAST).log(), x) for p, x in entries if len(x)]
    if not logs:
        return None
    n = sum(len(x) for _, x in logs)

    def cost(log_t: float) -> float:
        scaled = ((p * math.exp(-log_t)).log_softmax(-1) for p, _ in logs)
        fit = sum(
            p.gather(1, x[:, None]).sum().item() for p, (_, x) in zip(scaled, logs, strict=True)
        )
        return 0.5 * (log_t / SPREAD) ** 2 - fit

    reach = FARTHEST * SPREAD
    best = minimize_scalar(cost, bounds=(-reach, reach), method="bounded").x
    chosen = best if cost(best) < cost(0.0) - times * NEEDED else 0.0
    return Temperature(pattern=pattern, modality=modality.name, n=n, value=math.exp(chosen))
