"""Importance resampling: of many draws of the start, those that the target would have; no gradient, no chain.

The other samplers follow the target wherever it goes. A product of learned densities prod q_m / p^(n-1) can have nearly
all of its mass where no q_m was ever trained: each errs there in favour of the same points, far out, and the product
multiplies it. Here nothing is drawn that the start does not draw, so with finitely many proposals such regions play no
part: the target is in effect cut to what the start, the mixture of the experts, reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polymodal.sampling.diagnostics import Diagnostics
from polymodal.sampling.kernels import LogProb
from polymodal.sampling.mcmc import check_positive, starts
from polymodal.sampling.smc import lineage, resample, take

ROWS = 2**14  # proposals that are weighed at once


@dataclass(frozen=True)
class Importance:
    """`sampler(log_prob, start, start_log_prob, n) -> (z (n, B, D), Diagnostics)`: draws of `proposals`, with weights
    exp(log_prob - start_log_prob), systematically resampled (sampling importance resampling, Rubin 1988).

    Exact as proposals grow, where the start reaches all of the target's mass. Draws are as many as asked; several of one
    item can be equal. `Diagnostics.ess` is the effective number of proposals behind them, `log_normalizer` the estimate
    of the log of the integral of exp(log_prob), nats.

    Args:
        proposals: for each item, at least; ten times as many as draws where more draws are asked for.

    >>> _ = torch.manual_seed(0)
    >>> target = lambda z: -(z - 2).square().sum(-1)  # N(2, 1/2) for 3 items in 1 dimension
    >>> start = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3, 1), 3.0), 1)
    >>> z, diagnostics = Importance(2000)(target, lambda n: start.sample((n,)), start.log_prob, n=500)
    >>> z.shape, z.mean().round(decimals=1).item(), diagnostics.log_normalizer.mean().round(decimals=1)  # log sqrt(pi)
    (torch.Size([500, 3, 1]), 2.0, tensor(0.6000))
    """

    proposals: int = 256

    @torch.no_grad()
    def __call__(
        self, log_prob: LogProb, start: Callable[[int], Tensor], start_log_prob: LogProb, n: int
    ) -> tuple[Tensor, Diagnostics]:
        """n draws of each item; arguments as for `HMC`. Raises ValueError for n or proposals below 1."""
        check_positive(n=n, proposals=self.proposals)
        count = max(self.proposals, 10 * n if n > 1 else 1)
        z = starts(start, count)
        each = max(1, ROWS // z.shape[1])
        gains = [log_prob(part) - start_log_prob(part) for part in z.split(each)]
        log_weight = torch.cat(gains).nan_to_num(nan=-math.inf, posinf=-math.inf)
        log_normalizer = log_weight.logsumexp(0) - math.log(count)
        log_weight = torch.where(log_weight.isneginf().all(0), 0, log_weight)  # nowhere to go: any is as good
        index = resample(log_weight)  # (count, B), in order; which of it is drawn is random
        size, unique = lineage(index, log_normalizer)
        picks = torch.rand(count, z.shape[1], device=z.device).argsort(0)[:n]
        nan = torch.full_like(log_normalizer, math.nan)
        return take(z, index.gather(0, picks)), Diagnostics(
            acceptance=nan, divergent=torch.zeros_like(nan), ess=size, step_size=nan, gradients=0,
            transitions=count, log_normalizer=log_normalizer, unique=unique,
        )
