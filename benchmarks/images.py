"""Whether a learned scale of pictures does as well as scales that are set by hand.

    python benchmarks/images.py --data FOLDER [--out benchmarks/results] [--seeds 2]

FOLDER holds MNIST and Fashion-MNIST (see docs/data.md). Pairs of a digit and a garment of one class
are trained on with JMVAE in two stages, with the scale of both likelihoods learned (the default for pictures of a
user) and with each of SCALES. A fifth of the pairs lack the digit and another fifth the garment. The
agreement is the share of DRAWS pictures generated from each of LIMIT test pictures that show its
class, by a ridge regression of classes on real pictures of training; `real` is its share of right
classes of real test pictures. Every run and the means are written into results/images.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import polymodal
from polymodal import Splits
from polymodal.data import Dataset, gather, load_data
from polymodal.rng import stream

SCALES = (0.1, 0.3, 1.0)
PAIRS, EPOCHS = 1500, 15
LIMIT, DRAWS = 500, 4  # test samples that are measured, and draws from each
RIDGE = 30.0
PAIR = ("mnist", "fashion")


def lacking(data: Dataset, seed: int) -> Dataset:
    """The data in which a fifth of the samples lack the first modality, another the second."""
    generator = torch.Generator().manual_seed(stream("images", seed) % 2**63)
    draws = torch.rand(len(data), generator=generator)
    present = {PAIR[0]: draws >= 0.2, PAIR[1]: (draws < 0.2) | (draws >= 0.4)}
    return replace(data, present=present)


def with_scale(splits: Splits, scale: float | None) -> Splits:
    """The data with this scale of both likelihoods; None: learned."""
    modalities = [replace(m, scale=scale, weight=1.0) for m in splits.modalities]
    return splits.map(lambda part, data: replace(data, modalities=modalities))


def classifiers(train: Dataset) -> dict[str, Tensor]:
    """Weights (pixels + 1, classes) of a ridge regression of classes, by modality."""
    found = {}
    for m in PAIR:
        x, label = pixels(train, m)
        classes = torch.nn.functional.one_hot(label).double()
        penalty = RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
        found[m] = torch.linalg.solve(x.T @ x + penalty, x.T @ classes)
    return found


def pixels(data: Dataset, m: str) -> tuple[Tensor, Tensor]:
    """Pictures (N, pixels + 1) with a one behind the pixels, and their classes."""
    assert data.label is not None
    return flat(gather(data.tables[m], data.rows_of(m))), data.label


def flat(x: Tensor) -> Tensor:
    x = x.double().flatten(1)
    return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], 1)


def agreement(splits: Splits, scale: float | None, seed: int) -> dict[str, Any]:
    """Trains once and measures; the agreement both ways."""
    data = with_scale(splits, scale)
    weights = classifiers(data.train)
    start = time.perf_counter()
    run = polymodal.fit(
        "jmvae_two_stage",
        replace(data, train=lacking(data.train, seed)),
        seed=seed,
        networks=dict.fromkeys(PAIR, "mlp"),
        method={"latent": 20},
        training={"epochs": EPOCHS, "batch": 64, "lr": 1e-3, "patience": 8, "progress": False},
    )
    seconds = time.perf_counter() - start
    test = data.test.first(LIMIT)
    found, real = {}, {}
    for m, other in (PAIR, PAIR[::-1]):
        values, label = pixels(test, other)
        real[other] = (values @ weights[other]).argmax(1).eq(label).double().mean().item()
        given = test.batch(torch.arange(len(test))).only([m])
        drawn, _ = run.model.sample(given, DRAWS, [other], seed)
        shown = torch.stack([(flat(x) @ weights[other]).argmax(1) for x in drawn[other]])
        found[f"{m} to {other}"] = shown.eq(label).double().mean().item()
    result = {"scale": scale, "seed": seed, "seconds": round(seconds)}
    return result | {"agreement": found, "real": real}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    splits = load_data("mnist-fashion", path=options.data, matchings=1)
    splits = splits.map(lambda part, data: data.first(PAIRS))
    runs = []
    for seed in range(options.seeds):
        for scale in (None, *SCALES):
            runs.append(agreement(splits, scale, seed))
            print(json.dumps(runs[-1]), flush=True)
    means = {}
    for scale in (None, *SCALES):
        own = [statistics.mean(r["agreement"].values()) for r in runs if r["scale"] == scale]
        means["learned" if scale is None else str(scale)] = round(statistics.mean(own), 4)
    result = {
        "pairs": PAIRS,
        "epochs": EPOCHS,
        "limit": LIMIT,
        "draws": DRAWS,
        "means": means,
        "runs": runs,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "images.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(means))


if __name__ == "__main__":
    main()
