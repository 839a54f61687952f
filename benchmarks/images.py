"""Whether a learned scale of pictures does as well as scales that are set by hand.

    python benchmarks/images.py --data FOLDER [--out benchmarks/results] [--seeds 2]

FOLDER holds MNIST and Fashion-MNIST (see docs/data.md). Pairs of a digit and a garment of one class
are trained on with JNF, with the scale of both likelihoods learned (the default for pictures of a
user) and with each of SCALES. A fifth of the pairs lack the digit and another fifth the garment. The
agreement is the share of generated pictures that show the class of the given one, by a classifier
that was trained on real pictures; its standard error is over test samples. Every run and the means
are written into results/images.json.
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

import polymodal
from polymodal import Splits
from polymodal.data import Dataset, load_data
from polymodal.rng import stream

SCALES = (0.1, 0.3, 1.0)
PAIRS, EPOCHS = 3000, 30
LIMIT = 1000  # test samples that are measured
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


def agreement(splits: Splits, scale: float | None, seed: int, cache: str) -> dict[str, Any]:
    """Trains once and measures; the agreement both ways."""
    data = with_scale(splits, scale)
    data = replace(data, train=lacking(data.train, seed))
    start = time.perf_counter()
    run = polymodal.fit(
        "jnf",
        data,
        seed=seed,
        networks=dict.fromkeys(PAIR, "mlp"),
        method={"latent": 20},
        training={"epochs": EPOCHS, "batch": 64, "lr": 1e-3, "patience": 8, "progress": False},
    )
    seconds = time.perf_counter() - start
    table = polymodal.evaluate(
        run, data, metrics=["coherence"], limit=LIMIT, subsets=list(PAIR), cache=cache, save=False
    )
    rows = [r for r in table.records() if r["given"] in PAIR and r["target"] in PAIR]
    found = {
        f"{r['given']} to {r['target']}": r["value"] for r in rows if r["given"] != r["target"]
    }
    return {"scale": scale, "seed": seed, "seconds": round(seconds), "agreement": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cache", default="build/classifiers")
    options = parser.parse_args()
    splits = load_data("mnist-fashion", path=options.data, matchings=1)
    splits = splits.map(lambda part, data: data.first(PAIRS))
    runs = []
    for seed in range(options.seeds):
        for scale in (None, *SCALES):
            runs.append(agreement(splits, scale, seed, options.cache))
            print(json.dumps(runs[-1]), flush=True)
    means = {}
    for scale in (None, *SCALES):
        own = [statistics.mean(r["agreement"].values()) for r in runs if r["scale"] == scale]
        means["learned" if scale is None else str(scale)] = round(statistics.mean(own), 4)
    result = {"pairs": PAIRS, "epochs": EPOCHS, "limit": LIMIT, "means": means, "runs": runs}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "images.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(means))


if __name__ == "__main__":
    main()
