"""The unnormalised product of experts, drawn by a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.distributions.mixture import Mixture
from polymodal.distributions.sampled import Sampled
from polymodal.distributions.sums import sum_of
from polymodal.sampling import Sampler


class Product(Sampled):
    """Unnormalised product of experts over a power of the prior, drawn by a sampler (Senellart et
    al. 2023, eq. (12)).

    log_prob is sum_m log q_m(z) - (n - 1) log p(z) for the n experts that are present: log p(z)
    where none is. It lacks the normalising constant, which is finite only if the experts' tails are
    light enough: for those of flows see `tail_variance` of `polymodal.networks.flows.Flow`. (The
    paper's eq. (21) divides by p once for every n, which is right only for n = 2.)

    Args:
        experts: normalised distributions of batch_shape (B,).
        prior: p(z), of batch_shape () or (B,).
        sampler: see `polymodal.sampling.Sampler`.
        present: one bool (B,) for each expert, or None: all present.
    """

    def __init__(
        self,
        experts: Sequence[Distribution],
        prior: Distribution,
        sampler: Sampler,
        present: Sequence[Tensor] | None = None,
    ) -> None:
        self.experts, self.prior, self.sampler = list(experts), prior, sampler
        batch = experts[0].batch_shape
        super().__init__(batch, experts[0].event_shape, validate_args=False)
        self.present = None if present is None else torch.stack(list(present))

    def log_prob(self, z: Tensor) -> Tensor:
        logs = [q.log_prob(z) for q in self.experts]
        if self.present is None:
            return sum_of(logs) - (len(logs) - 1) * self.prior.log_prob(z)
        logs = [torch.where(mask, log, 0) for mask, log in zip(self.present, logs, strict=True)]
        return sum_of(logs) - (self.present.sum(0) - 1) * self.prior.log_prob(z)

    def start(self) -> Mixture:
        """The distribution of the samplers' starts: the equal mixture of the experts that are
        present, the prior where none is.
        """
        if self.present is None:
            return Mixture(self.experts)
        none = ~self.present.any(0)
        if not none.any():
            return Mixture(self.experts, self.present.T.float())
        weights = torch.stack([*self.present, none], dim=-1).float()
        return Mixture([*self.experts, self.prior.expand(self.batch_shape)], weights)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draws by the sampler; exact draws where the masks leave at most one expert."""
        shape, start = torch.Size(sample_shape), self.start()
        with torch.no_grad():
            z, self.report = self.sampler(
                self.log_prob, lambda n: start.sample((n,)), start.log_prob, shape.numel()
            )
            if self.present is not None and bool((few := self.present.sum(0) < 2).any()):
                exact = start.sample((shape.numel(),))
                z = torch.where(few.unsqueeze(-1), exact, z)
        return z.reshape(*shape, *z.shape[1:])
