"""Deep CCA with a ridge in units of the embeddings' variance, and with one that is not: how soon
training leaves its start.

    python benchmarks/deep_cca.py --data DATA [--seeds 3] [--epochs 8]

The embedding stage of the recipe mnist-svhn (36,000 pairs, batches of 800, AdamW at 2e-3, warm-up
150, the cosine of 20 epochs), ended after --epochs. "relative" is the library's objective; of
"absolute", Andrew et al. (2013), the ridge 1e-3 is added to the covariances as they are. Of both the
total correlation of 2,000 validation pairs is written after each epoch, with the relative ridge,
and the processor time. Runs that are written are passed over.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

import polymodal
from polymodal import Batch, Splits, load_data
from polymodal.analysis.dcca import total_correlation

BATCH, RATE, WARMUP, PLANNED, RIDGE, HELD_OUT = 800, 2e-3, 150, 20, 1e-3, 2_000
EMBEDDING = {"embedding_size": 16, "num_directions": 9, "augment": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the named data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/deep_cca.json"))
    arguments = parser.parse_args()
    rows = json.loads(arguments.out.read_text())["runs"] if arguments.out.exists() else []
    done = {(row["ridge"], row["seed"]) for row in rows}
    splits = load_data("mnist-svhn", path=arguments.data)
    for seed in range(arguments.seeds):
        for ridge in ("absolute", "relative"):
            if (ridge, seed) not in done:
                found, seconds = trained(splits, ridge, seed, arguments.epochs)
                rows.append({"ridge": ridge, "seed": seed, "epochs": found, "seconds": seconds})
                print(rows[-1], flush=True)
                write(arguments.out, rows)


def trained(splits: Splits, ridge: str, seed: int, epochs: int) -> tuple[list[float], float]:
    """The validation pairs' total correlation after each epoch, and seconds of processor time."""
    torch.manual_seed(seed)
    method = polymodal.METHODS["jnf_dcca"](splits.modalities, embedding=EMBEDDING)
    networks = {m: g[0] for m, g in method.model.posterior.embeddings.networks.items()}
    parameters = [p for g in networks.values() for p in g.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    total = PLANNED * (len(splits.train) // BATCH)
    factor = lambda t: min(1.0, (t + 1) / WARMUP) * (1 + math.cos(math.pi * t / total)) / 2
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    held_out, found, start = splits.val.batch(torch.arange(HELD_OUT)), [], time.process_time()
    for _ in range(epochs):
        for batch in batches(splits):
            loss = -objective(embedded(networks, batch, True), ridge)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            value = total_correlation(embedded(networks, held_out, False), ridge=RIDGE)
        found.append(round(float(value), 4))
    return found, round(time.process_time() - start, 1)


def batches(splits: Splits) -> Iterator[Batch]:
    order = torch.randperm(len(splits.train))
    for k in range(len(order) // BATCH):
        yield splits.train.batch(order[k * BATCH : (k + 1) * BATCH])


def embedded(networks: Mapping[str, nn.Module], batch: Batch, training: bool) -> dict[str, Tensor]:
    return {m: g.train(training)(batch.x[m]) for m, g in networks.items()}


def objective(h: Mapping[str, Tensor], ridge: str) -> Tensor:
    if ridge == "relative":
        return total_correlation(h, ridge=RIDGE)
    a, b = (value.double() for value in h.values())
    return torch.linalg.svdvals(whitened(a).mT @ whitened(b) / (len(a) - 1)).sum()


def whitened(h: Tensor) -> Tensor:
    """h (S + r I)^(-1/2), up to a rotation, r in the units of h."""
    centred = h - h.mean(0)
    lower = torch.linalg.cholesky(torch.cov(h.mT) + RIDGE * torch.eye(h.shape[1]).to(h))
    return torch.linalg.solve_triangular(lower, centred.mT, upper=False).mT


def write(out: Path, rows: list[dict[str, object]]) -> None:
    about = {
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} of them used",
        "torch": torch.__version__,
        "data": "mnist-svhn, 36,000 pairs of 7,200 SVHN images",
    }
    out.write_text(json.dumps({**about, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
