"""Entries that are missing with a probability that depends on their own value (self-masking):
p(x | z) p(missing | x).

Given z an entry and whether it is missing depend on no other entry, so that a missing value is
integrated out in one dimension: log of the integral of p(x | z) p(missing | x). Of categories that
is a sum; of numbers it is the trapezoidal rule in s, x = loc + scale sinh(s), whose error falls
exponentially in the number of points. Nothing is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Laplace, Normal, StudentT
from torch.nn.functional import logsigmoid

from polymodal.distributions.scaled import Isotropic, IsotropicLaplace, IsotropicNormal
from polymodal.distributions.table import LOG_SCALES, SMALLEST, Layout, TableValues

REACH = (
    6.5  # largest |s|: 330 scales, beyond which Student's t has 1e-5 with 2.1 degrees of freedom
)
POINTS = 45  # of the rule
FINE = 129  # points between which values are drawn
AT_ONCE = 4_000_000  # numbers of which values are drawn at a time
MASKABLE = ("table", "normal", "laplace")  # likelihoods whose entries can have log-odds


@dataclass(frozen=True)
class LogOdds:
    """The log-odds that an entry of value x is missing: a + b u, u being the standardised value, of
    positive numbers the standardised logarithm; of coded columns one number for each category.

    Args:
        intercept, slope: a and b, (d,).
        categories: {place of a coded column: (K,)}.
        location, spread: (d,), u = (x - location) / spread.
        logarithmic: (d,) bool, the columns of positive numbers.
        modelled: (d,) bool; the other columns have no log-odds: counts.
    """

    intercept: Tensor
    slope: Tensor
    categories: Mapping[int, Tensor]
    location: Tensor
    spread: Tensor
    logarithmic: Tensor
    modelled: Tensor

    def of(self, x: Tensor) -> Tensor:
        """The log-odds of values (..., d) without holes."""
        logarithm = x.clamp_min(SMALLEST).log()
        u = (torch.where(self.logarithmic, logarithm, x) - self.location) / self.spread
        columns = list((self.intercept + self.slope * u).unbind(-1))
        for i, odds in self.categories.items():
            columns[i] = odds[x[..., i].long().clamp(0, len(odds) - 1)]
        return torch.stack(columns, -1)


def log_chance(odds: Tensor, sign: Tensor) -> Tensor:
    """The log-probability that entries with these log-odds are missing (sign 1), or observed (-1);
    0 for the sign 0.
    """
    return torch.where(sign == 0, 0, logsigmoid(sign * odds))


def mask_log_prob(p: Any, x: Tensor, sign: Tensor, odds: LogOdds) -> Tensor:
    """The log-probability of which entries are missing given x and z, the unknown values integrated
    out under p(x|z): (..., B), nats.

    Args:
        p: p(x|z), batch_shape (..., B).
        x: (B, d), NaN in holes.
        sign: (B, d), of holes, see `log_chance`; 0 of entries with a value.
        odds: of being missing.
    """
    known = ~x.isnan()
    value = torch.where(known, x, 0)
    observed = torch.where(known & odds.modelled, logsigmoid(-odds.of(value)), 0).sum(-1)
    sign = torch.where(known, 0, sign)
    total = observed + Selected.of(p, sign, odds).log_chance().sum(-1)
    for i, column in _categories(p, sign, odds).items():
        total = total + column.logsumexp(-1).where(sign[:, i] != 0, 0)
    return total


def _categories(p: Any, sign: Tensor, odds: LogOdds) -> dict[int, Tensor]:
    """{place of a coded column: log p(category|z) p(missing or observed|category), (..., B, K)}."""
    layout: Layout | None = p.layout if isinstance(p, TableValues) else None
    return {
        i: p.raw[..., part].log_softmax(-1) + log_chance(odds.categories[i], sign[:, i, None])
        for i, part in (layout.coded.items() if layout else ())
    }


@dataclass(frozen=True)
class Selected:
    """Numbers loc + scale y, of which some are known to be missing or observed and nothing else.

    Args:
        loc, scale: (..., B, n), in standardised units.
        log_density: of y, (Q, 1) -> (Q, n) or (Q, 1).
        sign: (B, n), see `log_chance`.
        intercept, slope: (n,), of the log-odds.
    """

    loc: Tensor
    scale: Tensor
    log_density: Callable[[Tensor], Tensor]
    sign: Tensor
    intercept: Tensor
    slope: Tensor

    @classmethod
    def of(cls, p: Any, sign: Tensor, odds: LogOdds) -> Selected:
        """The numbers of p(x|z); sign is (B, d)."""
        index, loc, scale, log_density = _standardised(p, odds)
        columns = (sign[:, index], odds.intercept[index], odds.slope[index])
        return cls(loc, scale.expand_as(loc), log_density, *columns)

    def _cells(self) -> tuple[Tensor, Tensor]:
        """Rows and columns (C,) of the numbers whose sign is not 0."""
        rows, columns = self.sign.nonzero(as_tuple=True)
        return rows, columns

    def _points(self, rows: Tensor, columns: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Points s (Q,), the values there, (Q, ..., C), and the logarithms of weights times
        chances, (Q, ..., C); the weights add up to 1.
        """
        loc, scale = self.loc[..., rows, columns], self.scale[..., rows, columns]
        s = torch.linspace(-REACH, REACH, count, dtype=loc.dtype, device=loc.device)
        y, lead = s.sinh().unsqueeze(-1), [1] * (loc.dim() - 1)
        weight = (self.log_density(y) + s.cosh().log().unsqueeze(-1)).log_softmax(0)
        weight = weight.expand(count, self.loc.shape[-1])[:, columns].reshape(count, *lead, -1)
        value = loc + scale * y.reshape(count, *lead, 1)
        odds = self.intercept[columns] + self.slope[columns] * value
        return s, value, weight + logsigmoid(self.sign[rows, columns] * odds)

    def log_chance(self) -> Tensor:
        """log of the integral of p(x|z) p(missing|x), or of p(observed|x); 0 where the sign is 0:
        (..., B, n).
        """
        rows, columns = self._cells()
        value = self._points(rows, columns, POINTS)[2].logsumexp(0)
        return torch.zeros_like(self.loc).index_put(self._at(rows, columns), value)

    def _at(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
        """Indices of these cells in tensors (..., B, n)."""
        lead = self.loc.shape[:-2]
        grids = [
            torch.arange(k, device=rows.device).reshape(-1, *[1] * (len(lead) - i))
            for i, k in enumerate(lead)
        ]
        return (*grids, rows, columns)

    def means(self) -> Tensor:
        """The means of all numbers given what is known, (..., B, n)."""
        found = self.loc.clone()
        for rows, columns in self._pieces():
            _, value, log = self._points(rows, columns, POINTS)
            found[..., rows, columns] = (log.softmax(0) * value).sum(0)
        return found

    def draws(self, plain: Tensor) -> Tensor:
        """A draw of each number given what is known, where something is; else `plain`, (..., B, n):
        of the rule's points, and uniform in s around them.
        """
        found = plain.clone()
        self = replace(self, loc=self.loc.expand_as(plain), scale=self.scale.expand_as(plain))
        for rows, columns in self._pieces():
            s, _, log = self._points(rows, columns, FINE)
            total = log.softmax(0).cumsum(0)
            below = total < torch.rand_like(total[0]) * total[-1]
            place = below.sum(0).clamp(max=FINE - 1)
            jitter = (s[1] - s[0]) * (torch.rand_like(total[0]) - 0.5)
            loc, scale = self.loc[..., rows, columns], self.scale[..., rows, columns]
            found[..., rows, columns] = loc + scale * (s[place] + jitter).sinh()
        return found

    def _pieces(self) -> Sequence[tuple[Tensor, Tensor]]:
        """The cells of `_cells`, as many at a time as memory bears."""
        each = max(1, AT_ONCE // (FINE * max(1, self.loc[..., 0, 0].numel())))
        rows, columns = self._cells()
        return list(zip(rows.split(each), columns.split(each), strict=True)) if len(rows) else []


def _standardised(p: Any, odds: LogOdds) -> tuple[list[int], Tensor, Tensor, Any]:
    """Places of the numbers of p(x|z), their locations and scales (..., B, n) in standardised
    units, and the log-density at location 0 and scale 1.
    """
    if isinstance(p, TableValues):
        index, n = list(p.layout.numbers), len(p.layout.numbers)
        loc, log_scale = p.raw[..., :n], p.raw[..., n : 2 * n].clamp(*LOG_SCALES)
        student = StudentT(p.degrees[index], 0.0, 1.0, validate_args=False)
        return index, loc, log_scale.exp(), student.log_prob
    loc = (p.loc - odds.location) / odds.spread
    scale = torch.as_tensor(p.scale, dtype=loc.dtype, device=loc.device) / odds.spread
    kind = Normal if isinstance(p, IsotropicNormal) else Laplace
    return [*range(loc.shape[-1])], loc, scale, kind(loc.new_zeros(()), 1.0).log_prob


def given_mask(p: Any, sign: Tensor, odds: LogOdds) -> Any:
    """p(x | z, which entries are missing), batch_shape (..., B), for entries of which nothing else
    is known.

    Args:
        sign: (B, d): 1 of entries that are missing, -1 of those that were observed (and hidden); 0:
            p as it is.
    """
    if isinstance(p, TableValues):
        return TableGivenMask(p, sign, odds)
    return VectorGivenMask(p, sign, odds)


class TableGivenMask(TableValues):
    """Rows of a table, given which of their cells are missing. See `given_mask`."""

    def __init__(self, p: TableValues, sign: Tensor, odds: LogOdds) -> None:
        raw = p.raw.clone()
        for i, column in _categories(p, sign, odds).items():
            raw[..., p.layout.coded[i]] = column
        super().__init__(raw, p.layout, p.location, p.spread, p.degrees)
        self.sign, self.odds = sign, odds
        self.selected = Selected.of(p, sign, odds)

    def _in_own_units(self, u: Tensor) -> Tensor:
        """Standardised numbers (..., B, n) in the user's units, positive ones as logarithms."""
        index = list(self.layout.numbers)
        return self.location[index] + self.spread[index] * u

    def _number_means(self) -> Tensor:
        return self._in_own_units(self.selected.means())

    def _number_draws(self, shape: torch.Size) -> Tensor:
        index = list(self.layout.numbers)
        plain = (super()._number_draws(shape) - self.location[index]) / self.spread[index]
        return self._in_own_units(self.selected.draws(plain))

    def entry_log_prob(self, x: Tensor) -> Tensor:
        log, index = super().entry_log_prob(x), list(self.layout.numbers)
        chance = log_chance(self.odds.of(x), self.sign)[..., index] - self.selected.log_chance()
        return log.index_add(-1, torch.tensor(index, device=log.device), chance.to(log.dtype))


class VectorGivenMask(Isotropic):
    """Vectors of normal or Laplace numbers, given which of them are missing. See `given_mask`."""

    def __init__(self, p: IsotropicNormal | IsotropicLaplace, sign: Tensor, odds: LogOdds) -> None:
        super().__init__(p.loc, p.scale, len(p.event_shape))
        self.p, self.sign, self.odds = p, sign, odds
        self.selected = Selected.of(p, sign, odds)

    @property
    def mean(self) -> Tensor:
        return self.odds.location + self.odds.spread * self.selected.means()

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            plain = (self.p.sample(sample_shape) - self.odds.location) / self.odds.spread
            return self.odds.location + self.odds.spread * self.selected.draws(plain)

    def entry_log_prob(self, x: Tensor) -> Tensor:
        chance = log_chance(self.odds.of(x), self.sign) - self.selected.log_chance()
        return self.p.entry_log_prob(x) + chance

    def log_prob(self, x: Tensor) -> Tensor:
        return self._summed(self.entry_log_prob(x))
