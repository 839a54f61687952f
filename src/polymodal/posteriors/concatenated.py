"""Posteriors of one latent per modality, concatenated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.distributions import Joint, choose
from polymodal.networks.named import Named
from polymodal.posteriors.masks import observed
from polymodal.posteriors.posterior import AnySampler, Posterior
from polymodal.priors import FittedPrior


class Concatenated(Posterior):
    """q(z | x) = prod_m q(z_m | x_m) on concatenated latents z = [z_1, ..., z_M].

    Args:
        experts: experts[m](x_m) -> q(z_m | x_m).
        prior: () -> Joint of the p(z_m), from which the latents of absent modalities are drawn.
        diffusion: a `FittedPrior` over a `DiffusionPrior` of the blocks z_m. Once it is fitted, it
            draws the latents of absent modalities given those of present ones.
    """

    def __init__(
        self,
        experts: Mapping[str, nn.Module],
        prior: nn.Module,
        diffusion: FittedPrior | None = None,
    ) -> None:
        super().__init__()
        self.experts, self.prior = Named(experts), prior
        self._diffusion = [] if diffusion is None else [diffusion]  # its parameters are the model's

    @property
    def diffusion(self) -> FittedPrior | None:
        return self._diffusion[0] if self._diffusion else None

    def condition_by(self, diffusion: FittedPrior) -> None:
        """Has `diffusion` draw the latents of absent modalities, once it is fitted."""
        self._diffusion = [diffusion]

    def forward(self, batch: Batch) -> Distribution:
        complete = batch.mask(self.experts)
        if self.diffusion is None or bool(complete.all()):
            return self.independent(batch)
        conditional = self.diffusion.fill(self.unimodal(batch), batch)
        if conditional is None:
            return self.independent(batch)
        if not bool(complete.any()):
            return conditional
        return choose(complete, self.independent(batch), conditional)

    def independent(self, batch: Batch) -> Joint:
        """prod_m q(z_m | x_m), with the prior p(z_m) where x_m is absent."""
        q, priors = self.unimodal(batch), self.prior().parts
        pairs = zip(self.experts, priors, strict=True)
        return Joint(*(observed(q.get(m), p, batch, m) for m, p in pairs))

    @property
    def samplers(self) -> Mapping[str, Callable[..., AnySampler]]:
        return {} if self.diffusion is None else DIFFUSIONS

    @property
    def sampled_by(self) -> Any:
        return None if self.diffusion is None else self.diffusion.fitted
