"""Diagnostics of samplers: effective sample size, split R-hat, and the reports of samplers.

Every figure of a report has one value for each item. Readers need only `SamplerReport`: a warning,
a summary, the figures of each item, and histograms with the range of good values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

RHAT = 1.05
ACCEPTANCE = (0.6, 0.95)
LOWEST_ACCEPTANCE = ACCEPTANCE[0] - 0.1  # below it a warning says so
DIVERGENT_SHARE = 0.01  # of the transitions of an item
FEWEST_PARTICLES = 5  # effective particles, or starts, behind the draws of an item
TOLERATED_POOR = 0.1  # share of items that may mix badly, or have few particles, without a warning
TOLERATED_STUCK = 0.05  # share of items whose moves may fail without a warning


def _split(samples: Tensor) -> Tensor:
    """Each chain cut into halves, (N // 2, 2C, ...): the halves of a chain that drifts differ."""
    if samples.dim() < 2 or len(samples) < 4:
        raise ValueError(
            "Samples must be (N, C, ...) with N >= 4 draws of C chains, got"
            f" {tuple(samples.shape)}."
        )
    half = len(samples) // 2
    return torch.cat([samples[:half], samples[-half:]], dim=1)


def _variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """The within-chain variance W and the pooled variance (N-1)/N W + B/N of split chains (N, C,
    ...), each (...); B / N is the variance of the chains' means.
    """
    n = len(x)
    within = x.var(0).mean(0)
    return within, (n - 1) / n * within + x.mean(0).var(0)


def rhat(samples: Tensor) -> Tensor:
    """Split R-hat, sqrt(pooled / within-chain variance): near 1 when the chains agree.

    Gelman et al., Bayesian Data Analysis (3rd ed.), eq. (11.4), without ranks. With C chains of N
    draws that mix perfectly it strays from 1 by about 1 / (N sqrt(C)); a maximum over 20 dimensions
    below 1.05 means something from 4 chains of 25 draws on.

    Args:
        samples: (N, C, ...), N >= 4 draws of C chains; everything behind the chains is batched
            over.

    Returns: (...); NaN where no chain ever moved and all stand at one place, infinite where they
        stand at several.
    Raises: ValueError for fewer than 4 draws.

    >>> rhat(torch.randn(1000, 4, 3, generator=torch.Generator().manual_seed(0))).round(decimals=2)
    tensor([1., 1., 1.])
    """
    within, pooled = _variances(_split(samples))
    return (pooled / within).sqrt()


def ess(samples: Tensor) -> Tensor:
    """Bulk effective sample size N C / (1 + 2 sum_t rho_t), as in Stan, without ranks.

    rho_t is the autocorrelation pooled over the split chains (FFT); the sum stops where Geyer's
    pairs rho_2k + rho_2k+1 turn negative, and the pairs are made monotone (Geyer 1992; Vehtari et
    al. 2021). Capped at N C log10(N C): chains may be anticorrelated, and then worth more than
    independent draws.

    Args:
        samples: (N, C, ...), N >= 4 draws of C chains.

    Returns: (...); NaN where no chain moved and all stand at one place.
    Raises: ValueError for fewer than 4 draws.

    >>> ess(torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))) > 3500
    tensor(True)
    """
    x = _split(samples)
    n, chains = x.shape[:2]
    within, pooled = _variances(x)
    spectrum = torch.fft.rfft(x - x.mean(0), n=2 ** math.ceil(math.log2(2 * n)), dim=0)
    covariance = torch.fft.irfft(spectrum.abs().square(), dim=0)[:n].mean(1) / n
    rho = 1 - (within - covariance) / pooled
    rho = torch.cat([torch.ones_like(rho[:1]), rho[1:]])
    pairs = rho[: n // 2 * 2].unflatten(0, (n // 2, 2)).sum(1)
    positive = (pairs > 0).cumprod(0).bool()
    total = torch.where(positive, pairs.cummin(0).values, 0).sum(0)
    size = n * chains / (2 * total - 1).clamp_min(1 / math.log10(n * chains))
    return torch.where(pooled > 0, size, torch.nan)


@dataclass(frozen=True)
class Histogram:
    """A figure of each item, and the range of its good values.

    Args:
        title: of the figure.
        values: (B,), of which some may be NaN or infinite.
        low, high: good values lie in [low, high]; -inf or inf: unbounded on that side.
    """

    title: str
    values: Tensor
    low: float = -math.inf
    high: float = math.inf


class SamplerReport(ABC):
    """Base of the reports that samplers return with their draws."""

    @abstractmethod
    def warning(self) -> str | None:
        """Says what is wrong, for which share of items, and what to try; None if all is well."""

    @abstractmethod
    def summary(self) -> dict[str, float]:
        """Costs, medians over the items, and shares of good items: for tables and logs."""

    @abstractmethod
    def per_item(self) -> dict[str, Tensor]:
        """Figures of each item, {name: (B,)}: those that this sampler has."""

    @abstractmethod
    def histograms(self) -> list[Histogram]:
        """The figures to look at, each with the range of its good values."""


@dataclass(frozen=True)
class ChainReport(SamplerReport):
    """Report of a sampler that moves chains by a gradient.

    Args:
        acceptance: (B,), mean acceptance probability; for chains after warm-up.
        divergent: (B,), number of trajectories, after warm-up, that lost more than 1000 nats or
            ended where the log-density is not finite.
        ess: (B,), effective sample size of all kept draws, the smallest over the dimensions.
        step_size: (B,), in units of the metric.
        gradients: calls of the log-density with its gradient, each for all chains and items at
            once.
        transitions: of each item, after warm-up, over all chains (SMC: particles).
        rhat: (B,), largest over the dimensions; None where there are fewer than 4 draws.
    """

    acceptance: Tensor
    divergent: Tensor
    ess: Tensor
    step_size: Tensor
    gradients: int
    transitions: int
    rhat: Tensor | None = None

    def per_item(self) -> dict[str, Tensor]:
        """acceptance, divergent, step_size, ess, and rhat where it exists."""
        return _present(
            acceptance=self.acceptance,
            divergent=self.divergent,
            step_size=self.step_size,
            ess=self.ess,
            rhat=self.rhat,
        )

    def summary(self) -> dict[str, float]:
        """Costs, medians over the items, the sum of divergences, and the shares of good items."""
        low, high = ACCEPTANCE
        figures = self.per_item() | {"divergent": self.divergent.sum()}
        table = {"items": self.acceptance.numel(), "gradients": self.gradients} | _medians(figures)
        table["acceptance_ok"] = _share((self.acceptance >= low) & (self.acceptance <= high))
        if self.rhat is not None:
            table["rhat_ok"] = _share(self.rhat < RHAT)
        return table

    def histograms(self) -> list[Histogram]:
        """Acceptance, R-hat (if the sampler has one), share of divergent transitions, ESS."""
        shown = [Histogram("acceptance", self.acceptance, *ACCEPTANCE)]
        if self.rhat is not None:
            shown.append(Histogram("R-hat, largest over dimensions", self.rhat, high=RHAT))
        share = self.divergent / self.transitions
        shown.append(Histogram("share of divergent transitions", share, 0.0, DIVERGENT_SHARE))
        return [*shown, self._ess_histogram()]

    def _ess_histogram(self) -> Histogram:
        return Histogram("effective sample size, smallest over dimensions", self.ess)

    def warning(self) -> str | None:
        """Says what is wrong, for which share of items, and what to try; None if all is well."""
        sentences = [
            self._mixing_warning(),
            self._acceptance_warning(),
            self._divergence_warning(),
        ]
        return " ".join(sentence for sentence in sentences if sentence) or None

    def _mixing_warning(self) -> str | None:
        if self.rhat is None or (bad := _bad(self.rhat < RHAT)) <= TOLERATED_POOR:
            return None
        return (
            f"R-hat is {RHAT} or more for {bad:.0%} of the items: their chains have not mixed,"
            " so the draws may miss mass. Raise `leapfrog` and `trajectory`, or `warmup` and"
            " `draws`; for separate modes take SMC."
        )

    def _acceptance_warning(self) -> str | None:
        bad = _bad(self.acceptance >= LOWEST_ACCEPTANCE)
        if bad <= TOLERATED_STUCK:
            return None
        return (
            f"Acceptance is below {LOWEST_ACCEPTANCE:.1f} for {bad:.0%} of the items: their"
            " step size did not settle. Raise `warmup` (SMC: `moves`)."
        )

    def _divergence_warning(self) -> str | None:
        bad = _bad(self.divergent <= DIVERGENT_SHARE * self.transitions)
        if bad <= TOLERATED_STUCK:
            return None
        return (
            f"More than {DIVERGENT_SHARE:.0%} of the trajectories diverged for {bad:.0%} of the"
            " items: somewhere the density is too steep for the step, and draws from there are"
            " missing. Raise `target` towards 0.95."
        )


@dataclass(frozen=True, kw_only=True)
class SMCReport(ChainReport):
    """Report of a sampler that moves and resamples particles; there is no `rhat`.

    Args:
        ess: (B,), the effective number of starts that the particles descend from, (sum f)^2 / sum
            f^2 over family sizes f; moves only add to it.
        log_normalizer: (B,), nats: log of the integral of exp(log_prob).
        unique: (B,), share of the starting particles that have descendants at the end.
    """

    log_normalizer: Tensor
    unique: Tensor

    def per_item(self) -> dict[str, Tensor]:
        """acceptance, divergent, step_size, ess, log_normalizer, unique."""
        more = {"log_normalizer": self.log_normalizer, "unique": self.unique}
        return super().per_item() | more

    def _ess_histogram(self) -> Histogram:
        return Histogram("effective number of starts", self.ess, low=FEWEST_PARTICLES)

    def _mixing_warning(self) -> str | None:
        if (bad := _bad(self.ess >= FEWEST_PARTICLES)) <= TOLERATED_POOR:
            return None
        return (
            f"The particles of {bad:.0%} of the items descend from fewer than {FEWEST_PARTICLES}"
            " starts, effectively: weights of modes and the normaliser are rough. Raise"
            " `particles`."
        )


class CountedCalls:
    """A function of points and their noise levels that counts its calls, and the points in them."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.function, self.calls, self.rows = function, 0, 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.calls, self.rows = self.calls + 1, self.rows + len(x)
        return self.function(x, sigma)


@dataclass(frozen=True)
class ParticleReport(SamplerReport):
    """Report of a sampler without chains: how often it called a network or density, and how many
    particles are behind its draws.

    Args:
        items: how many were drawn at once.
        calls: of the denoiser, or of the densities of importance resampling, each for all items.
        rows: how many points these calls had in all.
        ess, unique, log_normalizer: see `SMCReport`; None without particles. Of importance
            resampling `ess` is the effective number of proposals, (sum w)^2 / sum w^2, 0 where none
            has a weight.
        advice: what to try where few particles are behind a draw.
    """

    items: int
    calls: int = 0
    rows: int = 0
    ess: Tensor | None = None
    unique: Tensor | None = None
    log_normalizer: Tensor | None = None
    advice: str = "raise `particles` or `steps`."

    @property
    def points_per_item(self) -> Tensor:
        """Points that went through the network, or were weighed, for each item, (items,)."""
        return torch.full((self.items,), self.rows / self.items)

    def per_item(self) -> dict[str, Tensor]:
        """points_per_item; ess, unique and log_normalizer where there are particles."""
        return _present(
            points_per_item=self.points_per_item,
            ess=self.ess,
            unique=self.unique,
            log_normalizer=self.log_normalizer,
        )

    def summary(self) -> dict[str, float]:
        """The calls, and medians over the items."""
        return _medians(self.per_item()) | {"items": self.items, "calls": self.calls}

    def histograms(self) -> list[Histogram]:
        """Points of each item, and the effective number of particles where there are any."""
        shown = [Histogram("points through the network per item", self.points_per_item)]
        if self.ess is not None:
            shown.append(Histogram("effective number of particles", self.ess, FEWEST_PARTICLES))
        return shown

    def warning(self) -> str | None:
        """Says where few particles are behind a draw, and what to try; None if all is well."""
        if self.ess is None or (bad := _bad(self.ess >= FEWEST_PARTICLES)) <= TOLERATED_POOR:
            return None
        return (
            f"The draws of {bad:.0%} of the items descend from fewer than {FEWEST_PARTICLES}"
            f" particles, effectively: {self.advice}"
        )


def _present(**figures: Tensor | None) -> dict[str, Tensor]:
    return {name: values for name, values in figures.items() if values is not None}


def _medians(figures: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: values.nanmedian().item() for name, values in figures.items()}


def _share(good: Tensor) -> float:
    """The share of items that are good."""
    return good.float().mean().item()


def _bad(good: Tensor) -> float:
    """The share of items that are not good; a comparison with NaN is not good."""
    return 1 - _share(good)
