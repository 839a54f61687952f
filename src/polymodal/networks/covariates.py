"""What networks are told of a sample beside its values, such as the batch of a cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from polymodal.batch import Covariate


class OneHot(nn.Module):
    """Places (...) of K categories as (..., K): 1 at the place; where it is not known (-1), the
    shares of the training samples.
    """

    shares: Tensor

    def __init__(self, covariate: Covariate) -> None:
        super().__init__()
        shares = torch.tensor(covariate.shares)
        self.size = len(shares)
        self.register_buffer("shares", shares / shares.sum(), persistent=False)

    def forward(self, places: Tensor) -> Tensor:
        known = one_hot(places.clamp_min(0), self.size).to(self.shares)
        return torch.where((places < 0).unsqueeze(-1), self.shares, known)

    def like(self, z: Tensor, places: Tensor | None) -> Tensor:
        """Those of z (..., B, D): (..., B, K).

        Args:
            places: (B,); None: not known.
        """
        if places is None:
            places = torch.full(z.shape[-2:-1], -1, device=z.device)
        return self(places.to(z.device)).to(z.dtype).expand(*z.shape[:-1], -1)


class ValuesOnly(nn.Flatten):
    """Values (B, d) without a last column of places, if there is one.

    Args:
        size: d.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.size]


class GivenCovariate(nn.Module):
    """An encoder of values (B, d + 1), whose last column holds places of categories; of values
    (B, d), whose categories are not known: `net` of the features of the values and of `OneHot`.

    Args:
        features: of values (B, d).
        net: features and categories -> (B, out).
        size: d.
    """

    def __init__(
        self, features: nn.Module, net: nn.Module, covariate: Covariate, size: int
    ) -> None:
        super().__init__()
        self.features, self.net, self.size = features, net, size
        self.one_hot = OneHot(covariate)

    def forward(self, x: Tensor) -> Tensor:
        h = self.features(x[:, : self.size])
        places = x[:, self.size].long() if x.shape[1] > self.size else None
        return self.net(torch.cat([h, self.one_hot.like(h, places)], -1))
