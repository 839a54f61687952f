"""Products of likelihoods where the posterior is known: five modalities, linear in normal latents.

    python benchmarks/products.py [--items 200] [--sizes 2 16 64] [--out benchmarks/results]

z ~ N(0, I_D); modality m shows d rotated coordinates of z with noise of deviation .5 (d = 9 for D =
64, else half of D). For every subset given: the mean of (z - mu)^2 / variance over draws of HMC (60
warm-up, 4 chains of 50) under the exact posterior, in informed and in free directions, which is 1
for exact draws; the mean square of the draws' mean in standard errors by the effective number of
draws; the share of items with R-hat below 1.05; and |z|^2 / D. "exact": with the true likelihoods;
"learned": with likelihoods and a full normal fitted to 10,000 tuples. Results are written after
every part.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)

from polymodal.distributions import DiagNormal, LikelihoodProduct
from polymodal.methods.fitted_prior import fit_mixture
from polymodal.posteriors import EmbeddingLikelihood
from polymodal.posteriors.likelihoods import Given
from polymodal.priors import NormalMixture
from polymodal.sampling import HMC

NOISE, MODALITIES, TUPLES = 0.5, 5, 10_000


def matrices(size: int) -> list[Tensor]:
    """The rotated coordinates that each modality shows, (d, D) with orthonormal rows."""
    shown = 9 if size == 64 else size // 2
    return [torch.linalg.qr(torch.randn(size, shown)).Q.T for _ in range(MODALITIES)]


def observed(z: Tensor, matrix: Tensor) -> Tensor:
    g = z @ matrix.T
    return g + NOISE * torch.randn_like(g)


@dataclass(frozen=True)
class Linear:
    """The true likelihood of g = A z + noise."""

    matrix: Tensor
    g: Tensor

    def log_prob(self, z: Tensor) -> Tensor:
        return Independent(Normal(z @ self.matrix.T, NOISE), 1).log_prob(self.g)

    def linear(self, z: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        left = self.g[rows].unsqueeze(1) - z @ self.matrix.T
        slope = self.matrix.expand(*z.shape[:2], -1, -1)
        return left, slope, torch.full_like(left, NOISE**-2)


def trained(shown: list[Tensor], size: int, epochs: int) -> list[EmbeddingLikelihood]:
    """Likelihoods fitted by maximum likelihood; AdamW, decay .1, cosine."""
    z = torch.randn(TUPLES, size)
    g = [observed(z, matrix) for matrix in shown]
    nets = [EmbeddingLikelihood(size, matrix.shape[0]) for matrix in shown]
    parameters = [p for net in nets for p in net.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.1)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (TUPLES // 128))
    for _ in range(epochs):
        for rows in torch.randperm(TUPLES)[: TUPLES // 128 * 128].split(128):
            logs = [net.log_prob(z[rows], x[rows]) for net, x in zip(nets, g, strict=True)]
            optimizer.zero_grad()
            (-sum(logs).mean()).backward()
            optimizer.step()
            rate.step()
    return [net.eval().requires_grad_(False) for net in nets]


def aggregate(size: int) -> NormalMixture:
    """One full normal fitted to draws of the latents."""
    mixture = NormalMixture(size, 1)
    fit_mixture(mixture, torch.randn(TUPLES, size), 1, 0.02)
    return mixture.requires_grad_(False)


def measured(
    shown: list[Tensor],
    subset: Sequence[int],
    likelihoods: Sequence[Any],
    prior: Any,
    g,
    items: int,
) -> dict:
    """The figures of draws given a subset of the modalities."""
    size = shown[0].shape[1]
    precision = torch.eye(size) + sum(shown[m].T @ shown[m] for m in subset) / NOISE**2
    mean = torch.linalg.solve(precision, sum(g[m] @ shown[m] for m in subset).T / NOISE**2).T
    start = [DiagNormal(torch.zeros(items, size), torch.ones(items, size)) for _ in subset]
    sampler = HMC(warmup=60, chains=4)
    q = LikelihoodProduct(start, prior, sampler, None, [likelihoods[m] for m in subset])
    clock = time.process_time()
    z = q.sample((200,))
    seconds = (time.process_time() - clock) / items
    values, vectors = torch.linalg.eigh(precision)
    rotated = (z - mean) @ vectors
    standard = rotated.square() * values
    informed = values > 1.5
    found = {"given": list(subset), "informed": float(standard[..., informed].mean())}
    if (~informed).any():
        found["free"] = float(standard[..., ~informed].mean())
    off = rotated.mean(0).square() * values * q.report.ess.unsqueeze(-1)
    found |= {"mean_in_errors": float(off.mean()), "squared_norm": float(z.square().mean())}
    found |= {"seconds_per_item": round(seconds, 3)}
    return found | {"rhat_ok": float((q.report.rhat < 1.05).float().mean())}


def subsets() -> list[tuple[int, ...]]:
    """All subsets but the empty one."""
    numbers = range(MODALITIES)
    return [s for k in range(1, MODALITIES + 1) for s in combinations(numbers, k)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2, 16, 64])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for size in options.sizes:
        torch.manual_seed(0)
        shown = matrices(size)
        nets, fitted = trained(shown, size, options.epochs), aggregate(size)
        z = torch.randn(options.items, size)
        g = [observed(z, matrix) for matrix in shown]
        eye = MultivariateNormal(torch.zeros(1, size), torch.eye(size)[None])
        standard = MixtureSameFamily(Categorical(torch.ones(1)), eye)
        exact = [Linear(a, x) for a, x in zip(shown, g, strict=True)]
        learned = [Given(net, x) for net, x in zip(nets, g, strict=True)]
        for name, given, prior in (("exact", exact, standard), ("learned", learned, fitted())):
            for subset in subsets():
                figures = measured(shown, subset, given, prior, g, options.items)
                rows.append({"likelihoods": name, "latent": size, **figures})
                print(rows[-1], flush=True)
                text = json.dumps({"items": options.items, "rows": rows}, indent=1)
                (options.out / "products.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
