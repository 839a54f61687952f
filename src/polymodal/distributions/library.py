"""Counts of cells: negative binomial around shares of the cell's library size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from polymodal.distributions.counts import LARGEST, log_rising

TOTAL = 1e4  # counts of a cell after normalisation
SMALLEST = 0.5  # library size of a cell without counts
NARROW = 100  # features up to which dispersions depend on z
LOG_DISPERSIONS = (-5.0, 8.0)  # logarithms of inverse ones


def outputs(features: int) -> int:
    """How many numbers a decoder gives: for each feature its share and, of few features, its
    dispersion, and one for the library size.
    """
    return (2 * features if features <= NARROW else features) + 1


def library_size(x: Tensor, shares: Tensor) -> Tensor:
    """The total count of each cell, (..., 1), NaN where nothing is observed; of cells with holes
    the observed total divided by the share that those entries usually have.

    Args:
        x: (..., d), NaN in holes.
        shares: (d,), usual shares of the entries in a total.
    """
    observed = ~x.isnan()
    share = torch.where(observed, shares / shares.sum(), 0).sum(-1, keepdim=True)
    total = torch.where(observed, x, 0).sum(-1, keepdim=True).clamp_min(SMALLEST)
    share = torch.where(observed.all(-1, keepdim=True), torch.ones_like(share), share)
    size = total / share.clamp_min(1e-9)
    return torch.where(observed.any(-1, keepdim=True), size, torch.nan)


def usual_shares(location: Tensor, size: int) -> Tensor:
    """Shares (d,) by the means of `log_normalised` values; equal ones where there are none."""
    if location.numel() < size:
        return torch.full((size,), 1 / size, dtype=location.dtype, device=location.device)
    share = location.expm1().clamp_min(1e-6)
    return share / share.sum()


def log_normalised(x: Tensor, size: Tensor) -> Tensor:
    """log(1 + 10^4 x / L) of counts x (..., d) of library sizes L (..., 1); NaN in holes."""
    return (TOTAL * x.clamp_min(0) / size).log1p()


class LibraryCounts(Distribution):
    """Counts x (d,) of a cell, given z: negative binomial with the means L s_j and the inverse
    dispersions r_j. The shares s add up to 1, and L is the library size of the cell.

    Where the counts are observed, L is their total: `log_prob` is log p(x | z, L(x)) + log p(log
    L(x) | z), which is not normalised (counts given L need not add up to L), and `given` takes L
    from what is observed. Where they are absent, L is drawn from its own distribution given z, a
    log-normal, once for all entries.

    Args:
        logits: (..., B, d), whose softmax are the shares.
        library: the distribution of log L, batch_shape (..., B).
        log_inverse_dispersion: log r, (d,) or (..., B, d).
        shares: (d,), usual shares of the entries, by which the total of a cell with holes is known.
        log_size: (..., B, 1), log L where it is known, NaN elsewhere; None: it is known nowhere.
    """

    arg_constraints: dict = {}

    def __init__(
        self,
        logits: Tensor,
        library: Normal,
        log_inverse_dispersion: Tensor,
        shares: Tensor,
        log_size: Tensor | None = None,
    ) -> None:
        self.logits, self.library = logits, library
        self.log_inverse_dispersion, self.shares = log_inverse_dispersion, shares
        self.log_size = log_size
        self._drawn: Tensor | None = None
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=False)

    def given(self, x: Tensor) -> LibraryCounts:
        """The same cells with the library sizes of the counts x (B, d), NaN in holes; a cell
        without any count keeps the distribution of its library size.
        """
        log_size = library_size(x, self.shares).log()
        return LibraryCounts(
            self.logits, self.library, self.log_inverse_dispersion, self.shares, log_size
        )

    def _log_size(self) -> Tensor:
        """log L, (..., B, 1): known, or the draw that belongs to this distribution."""
        if self._drawn is None:
            self._drawn = self.library.sample().unsqueeze(-1)
        if self.log_size is None:
            return self._drawn
        return torch.where(self.log_size.isnan(), self._drawn, self.log_size)

    @property
    def log_shares(self) -> Tensor:
        return self.logits.log_softmax(-1)

    @property
    def mean(self) -> Tensor:
        """E[L | z] s, or L s where L is known."""
        expected = (self.library.loc + 0.5 * self.library.scale.square()).unsqueeze(-1)
        if self.log_size is not None:
            expected = torch.where(self.log_size.isnan(), expected, self.log_size)
        return (self.log_shares + expected).exp()

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x | z, L(x)) + log p(L(x) | z) of the entries that are no holes, (..., B), nats; 0
        where there are only holes.
        """
        log_size = library_size(x, self.shares).log()
        observed = ~x.isnan()
        own = torch.where(log_size.isnan(), self.library.loc.unsqueeze(-1), log_size)
        logs = self._log_pmf(torch.where(observed, x, 0), own)
        counts = torch.where(observed, logs, 0).sum(-1)
        size = self.library.log_prob(own.squeeze(-1))
        return (counts + torch.where(observed.any(-1), size, 0)).to(self.logits.dtype)

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """The log-probability of each count, (..., B, d), nats, float64, at the library size that
        is known or was drawn.
        """
        return self._log_pmf(x, self._log_size())

    def _log_pmf(self, x: Tensor, log_size: Tensor) -> Tensor:
        a = (self.log_shares + log_size).double()
        b, x = self.log_inverse_dispersion.double(), x.double()
        r = b.exp()
        excess = torch.nn.functional.softplus(a - b)  # log(1 + m / r)
        return log_rising(x, r) - (x + 1).lgamma() + x * a - (x + r) * excess

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        """Draws; without a shape, of the library sizes by which `entry_log_prob` counts."""
        with torch.no_grad():
            shape = torch.Size(sample_shape)
            log_size = self._log_size()
            if shape:
                drawn = self.library.sample(shape).unsqueeze(-1)
                known = drawn if self.log_size is None else self.log_size.expand_as(drawn)
                log_size = torch.where(known.isnan(), drawn, known)
            b = self.log_inverse_dispersion
            log_rate = self.log_shares + log_size - b
            r = b.exp().expand(log_rate.shape).contiguous()
            gamma = torch._standard_gamma(r)
            rate = (gamma.double() * log_rate.double().exp()).clamp(max=LARGEST)
            return torch.poisson(rate).to(self.logits.dtype)


def library_start(mean: Tensor, variance: Tensor) -> Tensor:
    """The decoder's output at which counts have these means: logarithms of shares, zeros for
    dispersions, and the logarithm of the library size.
    """
    total, d = mean.sum(), len(mean)
    return torch.cat([(mean / total).log(), mean.new_zeros(outputs(d) - d - 1), total.log()[None]])
