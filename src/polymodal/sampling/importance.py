"""Importance resampling: draws of the start, resampled by the target, without gradients or chains.

The other samplers follow the target wherever it goes. A product of learned densities prod q_m /
p^(n-1) can have nearly all of its mass where no q_m was ever trained: each errs there in favour of
the same points, far out, and the product multiplies the error. This sampler draws only what the
start draws, so that such regions play no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.checks import Size, check_positive
from polymodal.sampling.diagnostics import ParticleReport
from polymodal.sampling.kernels import LogProb, check_values
from polymodal.sampling.mcmc import starts
from polymodal.sampling.smc import take

ROWS = 2**14  # proposals that are drawn and weighed at once
ADVICE = (
    "raise `proposals`; in many dimensions no number suffices, and draws stay wider than the"
    " target."
)


@dataclass(frozen=True)
class Importance:
    """Proposals from the start, resampled by the target: `sampler(log_prob, start, start_log_prob,
    n)` -> z (n, B, D).

    Every draw is one of the proposals, picked with probability in proportion to exp(log_prob -
    start_log_prob) (sampling importance resampling, Rubin 1988). Exact as proposals grow, where the
    start reaches all of the target's mass. How many are needed grows exponentially with the
    dimensions: in 64, of two or more experts, the effective number of 256 is near 1, and a draw is
    the best of single experts' draws. It does not sample such a product; it is a remedy where the
    product is not to be trusted. Draws of one item may be equal.

    Args:
        proposals: for each item, at least; four times as many as draws where more draws are asked
            for.

    Returns of a call: the draws, and `ParticleReport` with the effective number of proposals, (sum
    w)^2 / sum w^2, `ess`, and `log_normalizer`, an estimate of the log of the integral of
    exp(log_prob), nats. Memory grows with n, not with proposals. Raises ValueError for n or
    proposals below 1, or densities that do not return (N, B).

    N(2, 1/2), whose integral is sqrt(pi), for 3 items in 1 dimension:

    >>> from torch.distributions import Independent, Normal
    >>> _ = torch.manual_seed(0)
    >>> target = lambda z: -(z - 2).square().sum(-1)
    >>> start = Independent(Normal(torch.zeros(3, 1), 3.0), 1)
    >>> z, report = Importance(4000)(target, lambda n: start.sample((n,)), start.log_prob, n=500)
    >>> z.shape, z.mean().round(decimals=1).item(), report.log_normalizer.mean().round(decimals=1)
    (torch.Size([500, 3, 1]), 2.0, tensor(0.6000))
    """

    proposals: Size = 256

    def __post_init__(self) -> None:
        check_positive("A sampler", proposals=self.proposals)

    @torch.no_grad()
    def __call__(
        self, log_prob: LogProb, start: Callable[[int], Tensor], start_log_prob: LogProb, n: int
    ) -> tuple[Tensor, ParticleReport]:
        """n draws of each item; arguments as for `HMC`."""
        check_positive("A sampler", n=n)
        count = max(int(self.proposals), 4 * n if n > 1 else 1)
        z = starts(start, 1)  # only to learn how many items there are
        items, draws = z.shape[1], z.expand(n, -1, -1)
        total = squares = z.new_full((items,), -math.inf)
        sizes = _chunks(count, max(1, ROWS // items))
        for size in sizes:
            z = starts(start, size)
            log_weight = _weights(log_prob, start_log_prob, z)
            mass = log_weight.logsumexp(0)
            total = torch.logaddexp(total, mass)
            squares = torch.logaddexp(squares, (2 * log_weight).logsumexp(0))
            swap = torch.rand(n, items, device=z.device, dtype=z.dtype) < (mass - total).exp()
            draws = torch.where(swap.unsqueeze(-1), take(z, _picked(log_weight, n)), draws)
        return draws, ParticleReport(
            items,
            calls=len(sizes),
            rows=count * items,
            ess=torch.where(total.isneginf(), 0, (2 * total - squares).exp()),
            log_normalizer=total - math.log(count),
            advice=ADVICE,
        )


def _chunks(count: int, most: int) -> list[int]:
    """`count` proposals in chunks of at most `most`: the sizes of the chunks.

    >>> _chunks(10, 4)
    [4, 4, 2]
    """
    return [min(most, count - done) for done in range(0, count, most)]


def _weights(log_prob: LogProb, start_log_prob: LogProb, z: Tensor) -> Tensor:
    """log_prob - start_log_prob of z (P, B, D), (P, B): -inf where it is not finite."""
    value = check_values(log_prob(z), z) - check_values(start_log_prob(z), z)
    return torch.where(value.isfinite(), value, -math.inf)


def _picked(log_weight: Tensor, n: int) -> Tensor:
    """n indices (n, B) in proportion to the weights (P, B); uniform where none has a weight."""
    lost = log_weight.isneginf().all(0)
    return torch.multinomial(torch.where(lost, 0, log_weight).softmax(0).T, n, replacement=True).T
