"""Products of likelihoods where the posterior is known: five modalities, linear in normal latents.

    python benchmarks/products.py [--items 200] [--sizes 2 16 64] [--out benchmarks/results]

z ~ N(0, I_D); modality m shows d rotated coordinates of z with noise of deviation .5 (d = 9 for D =
64, else half of D). For every number of modalities given: the mean of (z - mu)^2 / variance over
draws of HMC (60 warm-up, 4 chains of 50) under the exact posterior, in informed and in free
directions, which is 1 for exact draws; the share of items with R-hat below 1.05; and |z|^2 / D.
"exact": with the true likelihoods; "learned": with likelihoods and a full normal fitted to 10,000
tuples. Results are written after every part.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from polymodal.distributions import DiagNormal, LikelihoodProduct
from polymodal.methods.fitted_prior import fit_mixture
from polymodal.posteriors import EmbeddingLikelihood
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


def exact_likelihood(z: Tensor, matrix: Tensor, g: Tensor) -> Tensor:
    return Independent(Normal(z @ matrix.T, NOISE), 1).log_prob(g)


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


def measured(shown: list[Tensor], given: int, logs: list[Callable], prior, g, items: int) -> dict:
    """The figures of draws given the first `given` modalities."""
    size = shown[0].shape[1]
    precision = torch.eye(size) + sum(a.T @ a for a in shown[:given]) / NOISE**2
    mean = torch.linalg.solve(precision, sum(g[m] @ shown[m] for m in range(given)).T / NOISE**2).T
    start = [DiagNormal(0.5 * mean, torch.ones(items, size)) for _ in range(given)]
    q = LikelihoodProduct(start, prior, HMC(warmup=60, chains=4), None, logs[:given])
    clock = time.process_time()
    z = q.sample((200,))
    seconds = (time.process_time() - clock) / items
    values, vectors = torch.linalg.eigh(precision)
    standard = ((z - mean) @ vectors).square() * values
    informed = values > 1.5
    found = {"given": given, "informed": float(standard[..., informed].mean())}
    if (~informed).any():
        found["free"] = float(standard[..., ~informed].mean())
    found |= {"squared_norm": float(z.square().mean()), "seconds_per_item": round(seconds, 3)}
    return found | {"rhat_ok": float((q.report.rhat < 1.05).float().mean())}


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
        standard = DiagNormal(torch.zeros(size), torch.ones(size))
        pairs = list(zip(shown, g, strict=True))
        exact = [partial(exact_likelihood, matrix=a, g=x) for a, x in pairs]
        learned = [partial(net.log_prob, g=x) for net, x in zip(nets, g, strict=True)]
        for name, logs, prior in (("exact", exact, standard), ("learned", learned, fitted())):
            for given in range(1, MODALITIES + 1):
                figures = measured(shown, given, logs, prior, g, options.items)
                rows.append({"likelihoods": name, "latent": size, **figures})
                print(rows[-1], flush=True)
                text = json.dumps({"items": options.items, "rows": rows}, indent=1)
                (options.out / "products.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
