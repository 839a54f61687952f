"""How encoders read the values of a modality: standardised, categories one-hot, zeros in holes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from polymodal.batch import CODED, Column, Modality
from polymodal.distributions.library import TOTAL, library_size, log_normalised, usual_shares
from polymodal.distributions.likelihoods import entries, likelihood_of
from polymodal.distributions.table import SMALLEST
from polymodal.networks.components import COMPONENTS, WIDE, PrincipalComponents
from polymodal.networks.covariates import GivenCovariate

Shape = tuple[int, ...]
FARTHEST = 8.0  # standard deviations that an encoder tells apart


def fills_holes(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """A hook of a module that reads holes as zeros, so that its parts keep their names."""
    x, *others = arguments
    return (torch.where(x.isnan(), 0, x), *others) if x.is_floating_point() else arguments


class Standardised(nn.Module):
    """(x - location) / spread of values (B, *shape), at most FARTHEST in size."""

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        like = torch.zeros(())
        location, spread = (
            entries(v, modality.shape, like) for v in (modality.location, modality.spread)
        )
        self.register_buffer("location", location, persistent=False)
        self.register_buffer("spread", spread, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        location: Any = self.location
        spread: Any = self.spread
        return ((x - location) / spread).clamp(-FARTHEST, FARTHEST)


class TableFeatures(nn.Module):
    """Features of rows (B, d) of a table: numbers standardised, positive ones as logarithms, counts
    as log(1 + x), coded cells one-hot. Holes stay NaN, in every feature of their column.
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        self.columns = modality.columns
        like = torch.zeros(())
        d = len(self.columns)
        for name, values in (("location", modality.location), ("spread", modality.spread)):
            given = entries(values or (float(name == "spread"),), modality.shape, like).expand(d)
            self.register_buffer(name, given.clone(), persistent=False)

    @staticmethod
    def size(columns: Sequence[Column]) -> int:
        """How many features rows have."""
        return sum(len(c.categories) if c.type in CODED else 1 for c in columns)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._feature(i, x[:, i]) for i in range(len(self.columns))], -1)

    def _feature(self, i: int, x: Tensor) -> Tensor:
        column = self.columns[i]
        if column.type in CODED:
            count = len(column.categories)
            place = torch.where(x.isnan(), 0, x).long().clamp(0, count - 1)
            return torch.where(x.isnan().unsqueeze(-1), x.unsqueeze(-1), one_hot(place, count))
        if column.type == "positive":
            x = x.clamp_min(SMALLEST).log()
        if column.type == "count":
            x = x.clamp_min(0).log1p()
        location: Any = self.location
        spread: Any = self.spread
        return ((x - location[i]) / spread[i]).clamp(-FARTHEST, FARTHEST).unsqueeze(-1)


class LibraryFeatures(nn.Module):
    """Features (B, d + 1) of counts (B, d): log(1 + 10^4 x / L) standardised, L being the library
    size, and log(L / 10^4). Holes stay NaN.
    """

    def __init__(self, modality: Modality) -> None:
        super().__init__()
        like, d = torch.zeros(()), modality.shape[0]
        for name, values in (("location", modality.location), ("spread", modality.spread)):
            given = entries(values or (float(name == "spread"),), modality.shape, like).expand(d)
            self.register_buffer(name, given.clone(), persistent=False)
        shares = usual_shares(torch.tensor(modality.location), d)
        self.register_buffer("shares", shares, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        location: Any = self.location
        spread: Any = self.spread
        shares: Any = self.shares
        size = library_size(x, shares)
        values = (log_normalised(x, size) - location) / spread
        return torch.cat([values.clamp(-FARTHEST, FARTHEST), (size / TOTAL).log()], -1)


class WithIndicator(nn.Module):
    """Values (B, c, ...) with zeros in holes, and which of them are observed: (B, c + k, ...), k
    being 1 for images, whose pixels are holes in all channels, and else c.
    """

    def forward(self, x: Tensor) -> Tensor:
        observed = ~x.isnan()
        which = observed.all(1, keepdim=True) if x.dim() == 4 else observed
        return torch.cat([torch.where(observed, x, 0), which.to(x.dtype)], 1)


def indicated(shape: Shape) -> Shape:
    """The shape of values of this shape `WithIndicator`."""
    return (shape[0] + (1 if len(shape) == 3 else shape[0]), *shape[1:])


def reading_encoder(make: Any, modality: Modality, shape: Shape, out: int) -> nn.Module:
    """The encoder `make(shape, out)` of the values of a modality, (B, *shape) -> (B, out), as they
    are read by networks. With a covariate it reads `Batch.inputs`.
    """
    if modality.covariate is None:
        return _of_values(make, modality, shape, out)
    sizes: list[int] = []

    def features_only(size: Shape, _: int) -> nn.Module:
        sizes.append(size[0])
        return nn.Identity()

    features = _of_values(features_only, modality, shape, out)
    net = make((sizes[0] + len(modality.covariate.categories),), out)
    return GivenCovariate(features, net, modality.covariate, shape[0])


def _of_values(make: Any, modality: Modality, shape: Shape, out: int) -> nn.Module:
    likelihood = likelihood_of(modality)
    first: list[nn.Module] = []
    if likelihood.columns:
        first, shape = [TableFeatures(modality)], (TableFeatures.size(modality.columns),)
    elif likelihood.library:
        first, shape = [LibraryFeatures(modality)], (shape[0] + 1,)
        if shape[0] > WIDE:
            features = nn.Sequential(*first, ZerosInHoles())
            components = PrincipalComponents(modality.name, features, shape[0])
            return nn.Sequential(components, make((COMPONENTS,), out))
    elif modality.spread and likelihood.scaled:
        first = [Standardised(modality)]
    if modality.holes:
        first, shape = [*first, WithIndicator()], indicated(shape)
    if not first:
        net = make(shape, out)
        net.register_forward_pre_hook(fills_holes)
        return net
    fill = [] if modality.holes else [ZerosInHoles()]
    return nn.Sequential(*first, *fill, make(shape, out))


class ZerosInHoles(nn.Module):
    """Values with zeros in holes."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.isnan(), 0, x)


def reading(make: Any, modality: Modality) -> Any:
    """`make` as a builder of encoders that read the modality's values."""
    return partial(reading_encoder, make, modality)
