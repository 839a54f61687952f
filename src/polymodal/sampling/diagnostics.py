"""What a sampler reports of itself: effective sample size, R-hat, and `ChainReport`, one figure for
each item.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RHAT = 1.05
ACCEPTANCE = (0.6, 0.95)


def _split(samples: Tensor) -> Tensor:
    """Every chain cut into halves, (N // 2, 2C, ...): a chain that drifts then disagrees with
    itself.
    """
    if samples.dim() < 2 or len(samples) < 4:
        raise ValueError(
            "Samples must be (N, C, ...) with N >= 4 draws of C chains, got"
            f" {tuple(samples.shape)}."
        )
    half = len(samples) // 2
    return torch.cat([samples[:half], samples[-half:]], dim=1)


def _variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """Within-chain variance W and the pooled estimate (N-1)/N W + B/N of split chains (N, C, ...),
    each (...).
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
class ChainReport:
    """How a sampler fared, item by item.

    Args:
        acceptance: (B,), mean acceptance probability; for chains after warm-up.
        divergent: (B,), number of trajectories, after warm-up, that lost more than 1000 nats or
            ended where the log-density is not finite.
        ess: (B,), effective sample size of all kept draws, the smallest over the dimensions. SMC:
            the effective number of starts that the particles descend from, (sum f)^2 / sum f^2 over
            family sizes f; moves only add to it.
        step_size: (B,), in units of the metric.
        gradients: calls of the log-density with its gradient, each for all chains and items at
            once.
        transitions: of each item, after warm-up, over all chains (SMC: particles).
        rhat: (B,), largest over the dimensions; None for SMC, and for chains too short for it
            (fewer than 4 draws).
        log_normalizer: (B,), nats, SMC alone: log of the integral of exp(log_prob).
        unique: (B,), SMC alone: share of the starting particles that have descendants at the end.
    """

    acceptance: Tensor
    divergent: Tensor
    ess: Tensor
    step_size: Tensor
    gradients: int
    transitions: int
    rhat: Tensor | None = None
    log_normalizer: Tensor | None = None
    unique: Tensor | None = None

    def summary(self) -> dict[str, float]:
        """Medians over the items, and the shares of items that are well: for tables and logs."""
        low, high = ACCEPTANCE
        table = {
            "items": self.acceptance.numel(),
            "gradients": self.gradients,
            "acceptance": self.acceptance.nanmedian().item(),
            "acceptance_ok": (
                ((self.acceptance >= low) & (self.acceptance <= high)).float().mean().item()
            ),
            "divergent": self.divergent.sum().item(),
            "step_size": self.step_size.nanmedian().item(),
            "ess": self.ess.nanmedian().item(),
        }
        if self.rhat is not None:
            table |= {
                "rhat": self.rhat.nanmedian().item(),
                "rhat_ok": (self.rhat < RHAT).float().mean().item(),
            }
        for name in ("log_normalizer", "unique"):
            value = getattr(self, name)
            if value is not None:
                table[name] = value.nanmedian().item()
        return table

    def warning(self) -> str | None:
        """What is bad, for which share of the items, and what to try; None if nothing is."""
        found = []
        if self.rhat is not None and (bad := _share(self.rhat < RHAT)) > 0.1:
            found.append(
                f"R-hat is {RHAT} or more for {bad:.0%} of the items: their chains have not mixed,"
                " so the draws may miss mass. Raise `leapfrog` and `trajectory`, or `warmup` and"
                " `draws`; for separate modes take SMC."
            )
        if self.rhat is None and self.unique is not None and (bad := _share(self.ess >= 5)) > 0.1:
            found.append(
                f"The particles of {bad:.0%} of the items descend from fewer than 5 starts,"
                " effectively: weights of modes and the normaliser are rough. Raise `particles`."
            )
        if (bad := _share(self.acceptance >= ACCEPTANCE[0] - 0.1)) > 0.05:
            found.append(
                f"Acceptance is below {ACCEPTANCE[0] - 0.1:.1f} for {bad:.0%} of the items: their"
                " step size did not settle. Raise `warmup` (SMC: `moves`)."
            )
        if (bad := _share(self.divergent <= 0.01 * self.transitions)) > 0.05:
            found.append(
                f"More than 1 % of the trajectories diverged for {bad:.0%} of the items: somewhere"
                " the density is too steep for the step, and draws from there are missing. Raise"
                " `target` towards 0.95."
            )
        return " ".join(found) or None


def _share(well: Tensor) -> float:
    """The share of items that are not well; a NaN compares false, hence is not."""
    return 1 - well.float().mean().item()


@dataclass
class ParticleReport:
    """What samplers without chains report: how often they called a network or density, how their
    particles fared.

    Args:
        items: that were drawn at once.
        calls: of the denoiser, or of importance resampling's densities, each for all items.
        rows: how many points these calls had in all.
        ess, unique, log_normalizer: see `ChainReport`; None without particles. Of importance
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

    def counted(
        self, denoise: Callable[[Tensor, Tensor], Tensor]
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """`denoise`, counting."""

        def count(x: Tensor, sigma: Tensor) -> Tensor:
            self.calls, self.rows = self.calls + 1, self.rows + len(x)
            return denoise(x, sigma)

        return count

    @property
    def calls_per_draw(self) -> Tensor:
        """Points that went through the network for each item, (items,)."""
        return torch.full((self.items,), self.rows / self.items)

    def summary(self) -> dict[str, float]:
        """As of `ChainReport`."""
        table = {"items": self.items, "calls": self.calls, "calls_per_draw": self.rows / self.items}
        for name in ("ess", "unique", "log_normalizer"):
            if (value := getattr(self, name)) is not None:
                table[name] = value.nanmedian().item()
        return table

    def warning(self) -> str | None:
        """What is bad and what to try; None if nothing is."""
        if self.ess is None or (bad := _share(self.ess >= 5)) <= 0.1:
            return None
        return (
            f"The draws of {bad:.0%} of the items descend from fewer than 5 particles, effectively:"
            f" {self.advice}"
        )
