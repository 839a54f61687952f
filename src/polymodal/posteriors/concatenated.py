"""One latent per modality, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions.mixture import Joint
from polymodal.posteriors.masks import observed


class Concatenated(nn.Module):
    """q(z | x) = prod_m q(z_m | x_m) on concatenated latents z = [z_1, ..., z_M].

    Args:
        experts: experts[m](x_m) -> q(z_m | x_m).
        prior: () -> Joint of the p(z_m): what is not seen is drawn from it.
        fill: instead, (what is seen {m: q}, batch) -> q(z | x_S), or None where it cannot say yet.
    """

    def __init__(
        self,
        experts: Mapping[str, nn.Module],
        prior: nn.Module,
        fill: Callable[[dict[str, Distribution], Batch], Distribution | None] | None = None,
    ) -> None:
        super().__init__()
        self.experts, self.prior, self.fill = nn.ModuleDict(experts), prior, fill

    def forward(self, batch: Batch) -> Distribution:
        q = self.unimodal(batch)
        some = len(q) < len(self.experts) or not all(here.all() for here in batch.present.values())
        if self.fill is not None and some:
            if (filled := self.fill(q, batch)) is not None:
                return filled
        return self._joined(q, batch)

    def unimodal(self, batch: Batch) -> dict[str, Distribution]:
        """q(z_m | x_m) of what the batch holds."""
        return {m: self.experts[m](x) for m, x in batch.x.items()}

    def own(self, batch: Batch) -> Joint:
        """prod_m q(z_m | x_m), the prior's p(z_m) where x_m is absent, whatever `fill` says."""
        return self._joined(self.unimodal(batch), batch)

    def _joined(self, q: Mapping[str, Distribution], batch: Batch) -> Joint:
        priors = zip(self.experts, self.prior().parts, strict=True)
        return Joint(*(observed(q.get(m), p, batch, m) for m, p in priors))
