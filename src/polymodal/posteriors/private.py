"""Posteriors of a shared latent and one private latent per modality."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

from torch import nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions.mixture import Joint, Mixture, Proposal
from polymodal.networks.named import Named
from polymodal.posteriors.masks import observed, presence
from polymodal.posteriors.posterior import Posterior, Strata


class SharedPrivate(Posterior):
    """A shared latent u from any posterior and one private latent w_m per modality: z = [u, w_1,
    ..., w_M].

    Args:
        shared: Batch -> q(u | x_S).
        private: private[m](x_m) -> q(w_m | x_m); where x_m is absent, w_m has its prior.
        prior: () -> Joint of p(u), p(w_1), ..., in the order of `private`.
        auxiliary: auxiliary[m]() -> r_m(w_m), from which MMVAE+ draws foreign private latents in
            training.
    """

    def __init__(
        self,
        shared: Any,
        private: Mapping[str, nn.Module],
        prior: nn.Module,
        auxiliary: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.shared, self.private, self.prior = shared, Named(private), prior
        self.auxiliary = Named(auxiliary)

    @property
    def experts(self) -> Named:  # type: ignore[override]
        """The shared latent's experts."""
        return self.shared.experts

    def forward(self, batch: Batch) -> Distribution:
        return Joint(self.shared(batch), *self.private_latents(batch))

    def private_latents(self, batch: Batch) -> list[Distribution]:
        """Every q(w_m | x_m), the prior where x_m is absent."""
        _, *priors = self.prior().parts
        return [
            observed(self.private[m](batch.inputs(m)) if m in batch.x else None, p, batch, m)
            for m, p in zip(self.private, priors, strict=True)
        ]

    @property
    def private_columns(self) -> Mapping[str, slice]:
        ends = list(accumulate(part.event_shape.numel() for part in self.prior().parts))
        return {m: slice(*columns) for m, columns in zip(self.private, pairwise(ends), strict=True)}

    def strata(self, batch: Batch) -> Strata:
        """A stratum for each modality m: its shared expert, with the log-density of the mixture;
        its private latent; the others' private latents from their auxiliaries, with the
        log-densities of their priors, so that their weights cancel (MMVAE+).
        """
        mixture, private = self.shared(batch), self.private_latents(batch)
        foreign = self._foreign(len(batch))
        components = mixture.components if isinstance(mixture, Mixture) else [mixture]
        strata: list[Distribution] = []
        for m, u in zip(batch.x, components, strict=False):
            latents = [
                w if n == m else other
                for n, w, other in zip(self.private, private, foreign, strict=True)
            ]
            strata.append(Joint(Proposal(u, mixture), *latents))
        return strata, presence(batch, batch.x).to(private[0].mean)

    def _foreign(self, size: int) -> list[Distribution]:
        """Private latents of batch_shape (size,) from the auxiliaries, with their priors'
        log-densities.
        """
        _, *priors = self.prior().parts
        return [
            Proposal(self.auxiliary[n]().expand((size,)), p, nuisance=True)
            for n, p in zip(self.private, priors, strict=True)
        ]
