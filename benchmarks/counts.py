"""Held-out log-likelihood of raw counts: RNA and surface proteins of single cells.

    python benchmarks/counts.py FILE.npz [--epochs 60] [--seeds 0] [--out benchmarks/results]

FILE holds `rna_data`, `rna_indices`, `rna_indptr`, `rna_shape` (cells x genes, compressed rows) and
`adt` (cells x proteins), all raw counts. The 1,000 genes with the largest sums over the training
cells are kept. Cells are split .8/.1/.1 with the seed. For "poisson" and "negative_binomial" it
writes the test cells' log-likelihood per cell (nats, higher is better) of several methods, by
importance sampling with 1,000 draws (sbm: one, which only lowers it), beside independent counts: each gene's own Poisson, or its own
negative binomial (mean and inverse dispersion by maximum likelihood on training and validation
cells). Results are written one by one; the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

import polymodal
from polymodal import Dataset, Modality, Splits
from polymodal.distributions.likelihoods import likelihood_of

METHODS = ("jmvae_two_stage", "jnf", "mvae", "mopoe", "sbm")
LIKELIHOODS = ("poisson", "negative_binomial")
GENES = 1000
SAMPLES = {"sbm": 1}  # whose prior's density is an integral along an ODE
SETTINGS = {"lr": 1e-3, "batch": 64, "patience": 20, "progress": False}


def cells(file: Path, seed: int) -> list[dict[str, Tensor]]:
    """The counts of the three parts, by modality."""
    with np.load(file) as f:
        rows = f["rna_data"], f["rna_indices"], f["rna_indptr"]
        rna, adt = csr_array(rows, shape=tuple(f["rna_shape"])).toarray(), f["adt"]
    n = len(adt)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
    parts = np.split(order, [n - 2 * (n // 10), n - n // 10])
    genes = np.sort(rna[parts[0]].sum(0).argsort()[::-1][:GENES])
    tables = {"rna": torch.from_numpy(rna[:, genes]), "adt": torch.from_numpy(adt)}
    return [{m: t[part].float() for m, t in tables.items()} for part in parts]


def splits(parts: list[dict[str, Tensor]], likelihood: str) -> Splits:
    modalities = [Modality(m, tuple(x.shape[1:]), likelihood) for m, x in parts[0].items()]
    return Splits(*(Dataset(modalities, part).check() for part in parts), "citeseq")


def independent(train: Tensor, test: Tensor, likelihood: str) -> float:
    """The log-likelihood per cell of independent counts, fitted to training cells."""
    modality = Modality("x", tuple(train.shape[1:]), likelihood)
    mean = train.double().mean(0).clamp_min(0.5 / len(train)).log()
    raw = mean
    if likelihood == "negative_binomial":
        raw = torch.stack([mean, _best_dispersion(train.double(), mean)])
    p = likelihood_of(modality).make(raw[None], modality)
    return p.log_prob(test.double()).mean().item()


def _best_dispersion(x: Tensor, mean: Tensor) -> Tensor:
    """The logarithm of each gene's inverse dispersion, on a grid."""
    one = Modality("x", (1,), "negative_binomial")
    grid = torch.linspace(-6, 12, 181, dtype=torch.float64)
    scores = []
    for b in grid:
        raw = torch.stack([mean, b.expand_as(mean)])[..., None]  # 2, genes, 1
        p = likelihood_of(one).make(raw.movedim(0, 1), one)
        scores.append(p.log_prob(x[..., None]).sum(0))
    return grid[torch.stack(scores).argmax(0)]


def measured(method: str, data: Splits, epochs: int, seed: int) -> dict[str, float | None]:
    start = time.perf_counter()
    run = polymodal.fit(method, data, latent=10, epochs=epochs, seed=seed, **SETTINGS)
    samples = SAMPLES.get(method, 1000)
    table = polymodal.evaluate(run, data, metrics=["joint_log_likelihood"], samples=samples)
    rows = table.records()
    first = run.history[run.history["stage"] == run.history["stage"].iloc[0]]
    losses = first["train_loss"].dropna().tolist()
    return {
        "log_likelihood": rows[0]["value"] if rows else None,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    file = args.out / "counts.json"
    settings = {"epochs": args.epochs, "genes": GENES, **SETTINGS, "latent": 10}
    result = json.loads(file.read_text()) if file.exists() else {}
    if result.get("settings") != settings:
        result = {"settings": settings, "unit": "nats per test cell", "rows": []}
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        parts = cells(args.file, seed)
        result["cells"] = [len(part["adt"]) for part in parts]
        for likelihood in LIKELIHOODS:
            for row in rows(parts, likelihood, args, result["rows"], seed):
                print(row, flush=True)
                result["rows"].append(row)
                file.write_text(json.dumps(result, indent=1) + "\n")


def rows(
    parts: list[dict[str, Tensor]],
    likelihood: str,
    args: argparse.Namespace,
    before: list[dict],
    seed: int,
) -> Iterator[dict]:
    """The results that are not among those measured `before`."""
    done = {(row["seed"], row["likelihood"], row["method"]) for row in before}
    for method in ("independent", *args.methods):
        if (seed, likelihood, method) in done:
            continue
        if method == "independent":
            fitted = {m: torch.cat([parts[0][m], parts[1][m]]) for m in parts[0]}
            values = [independent(fitted[m], parts[2][m], likelihood) for m in fitted]
            figures: dict = {"log_likelihood": sum(values)}
        else:
            figures = measured(method, splits(parts, likelihood), args.epochs, seed)
        yield {"seed": seed, "likelihood": likelihood, "method": method, **figures}


if __name__ == "__main__":
    main()
