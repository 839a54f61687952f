"""Unnormalised products of experts or likelihoods, drawn by a sampler."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily

from polymodal.distributions.laplace import NormalLikelihood, laplace_mixture
from polymodal.distributions.mixture import Mixture
from polymodal.distributions.sampled import Sampled
from polymodal.distributions.sums import sum_of
from polymodal.sampling import Sampler


class SampledPosterior(Sampled):
    """An unnormalised posterior given several modalities. Abstract: subclasses define `log_prob`.

    Args:
        experts: normalised distributions q(z | x_m) of batch_shape (B,).
        prior: the distribution of z if no modality is present, of batch_shape () or (B,).
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

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """The log-density without its normalising constant, nats."""

    def present_only(self, logs: Sequence[Tensor]) -> list[Tensor]:
        """The terms (..., B) of modalities, 0 where the modality is absent."""
        if self.present is None:
            return list(logs)
        return [torch.where(mask, log, 0) for mask, log in zip(self.present, logs, strict=True)]

    def start(self) -> Distribution:
        """The distribution of the samplers' starts."""
        return self.any_expert()

    def any_expert(self) -> Mixture:
        """The equal mixture of the experts that are present, the prior where none is."""
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
                exact = self.any_expert().sample((shape.numel(),))
                z = torch.where(few.unsqueeze(-1), exact, z)
        return z.reshape(*shape, *z.shape[1:])


class Product(SampledPosterior):
    """The product of experts over a power of the prior (Senellart et al. 2023, eq. (12)).

    log_prob is sum_m log q_m(z) - (n - 1) log p(z) for the n experts that are present: log p(z)
    where none is. Its normalising constant is finite only if the experts' tails are light enough:
    for those of flows see `tail_variance` of `polymodal.networks.flows.Flow`. (The paper's eq. (21)
    divides by p once for every n, which is right only for n = 2.)
    """

    def log_prob(self, z: Tensor) -> Tensor:
        logs = self.present_only([q.log_prob(z) for q in self.experts])
        count = len(logs) if self.present is None else self.present.sum(0)
        return sum_of(logs) - (count - 1) * self.prior.log_prob(z)


class LikelihoodProduct(SampledPosterior):
    """Bayes' rule with learned likelihoods: a(z) prod_m p(g_m | z)^t for the modalities that are
    present, g_m an embedding of x_m, a the aggregate posterior and t an exponent near 1.

    Every likelihood is bounded in z, so that the mass far from the data is at most that of a times
    a constant: the integral is finite for every number of modalities. Samplers start at the
    posteriors of a's components with linearised likelihoods (`laplace_mixture`), which weigh the
    components.

    Args:
        experts, sampler, present: see `SampledPosterior`.
        aggregate: a(z), a mixture of normals with full covariances, of batch_shape ().
        likelihoods: one for each expert.
        exponent: t > 0. Below 1 the product trusts its likelihoods less than they claim, see
            `polymodal.methods.calibration`.
    """

    def __init__(
        self,
        experts: Sequence[Distribution],
        aggregate: MixtureSameFamily,
        sampler: Sampler,
        present: Sequence[Tensor] | None,
        likelihoods: Sequence[NormalLikelihood],
        exponent: Tensor | float = 1.0,
    ) -> None:
        super().__init__(experts, aggregate, sampler, present)
        self.aggregate, self.likelihoods, self.exponent = aggregate, likelihoods, exponent

    def log_likelihood(self, z: Tensor) -> Tensor:
        """sum_m log p(g_m | z) over the modalities that are present, without the exponent: of z
        (..., B, D), (..., B), nats.
        """
        return sum_of(self.present_only([p.log_prob(z) for p in self.likelihoods]))

    def log_prob(self, z: Tensor) -> Tensor:
        return self.aggregate.log_prob(z) + self.exponent * self.log_likelihood(z)

    def start(self) -> Distribution:
        """The mixture of the components' linearised posteriors."""
        (count,) = self.batch_shape
        return laplace_mixture(
            self.aggregate, self.likelihoods, count, self.present, exponent=self.exponent
        )
