"""Modality collapse on real data, and what cures it: MNIST's digits and their labels.

    python benchmarks/collapse.py --data DATA [--seeds 3] [--out benchmarks/results/collapse.json]

An image has 784 values and its label, one of ten categories, one: the image's log-likelihood pulls
at the latent a thousand times as hard (Javaloy et al. 2022 call it modality collapse; Wu and Goodman
2018 weigh the label 50 times). MVAE, MoPoE and JMVAE (alpha .1) are trained on 12,000 pairs as
they are, with the label's likelihood rescaled by 784 / 10 (`rescale: dimension`, Senellart et al. 2023,
appendix D.2), and with each rule for impartial gradients that needs no extra. On 2,000 test pairs:

label_given_image: accuracy of the most probable label given the image, 10 draws averaged.
label_given_both: the same with the label itself given as well; below 1, the latent has lost it.
label_nats: log p(label | z), z from the posterior given both, nats.
image_error: squared error of the image's mean, summed over pixels, given both.
digit_given_label: accuracy of a classifier on images given the label.
Runs that are written are passed over.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional as F

import polymodal
from polymodal import Dataset, Modality, Splits, load_data
from polymodal.methods import METHODS

METHOD_OPTIONS: dict[str, dict[str, Any]] = {"mvae": {}, "mopoe": {}, "jmvae": {"alpha": 0.1}}
CURES: dict[str, dict[str, Any]] = {
    "none": {},
    "rescale": {"rescale": "dimension"},
    "gradnorm": {"impartial": "gradnorm"},
    "cagrad": {"impartial": "cagrad"},
}
TRAIN, TEST, EPOCHS, DRAWS = 12_000, 2_000, 20, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the named data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/collapse.json"))
    arguments = parser.parse_args()
    rows = json.loads(arguments.out.read_text())["runs"] if arguments.out.exists() else []
    done = {(row["method"], row["cure"], row["seed"]) for row in rows}
    splits = pairs(arguments.data)
    for seed in range(arguments.seeds):
        for method in METHOD_OPTIONS:
            for cure in CURES:
                if (method, cure, seed) not in done:
                    figures = measured(method, cure, seed, splits)
                    rows.append({"method": method, "cure": cure, "seed": seed, **figures})
                    print(rows[-1], flush=True)
                    write(arguments.out, rows)


def pairs(folder: str) -> Splits:
    """Digits and labels of MNIST: 12,000 for training, 2,000 for validation and the test each."""
    loaded = load_data("mnist-fashion", path=folder, limit=TRAIN)
    parts = []
    for part, size in ((loaded.train, TRAIN), (loaded.val, TEST), (loaded.test, TEST)):
        rows = torch.arange(min(size, len(part)))
        image, label = part.batch(rows).x["mnist"], part.label[rows]
        tables = {"image": image, "label": F.one_hot(label, 10).float()}
        parts.append(Dataset(MODALITIES, tables, label=label))
    return Splits(*parts, "mnist-labels", None)


MODALITIES = [
    Modality("image", (1, 28, 28), link="sigmoid"),
    Modality("label", (10,), likelihood="categorical"),
]


def measured(name: str, cure: str, seed: int, splits: Splits) -> dict[str, float]:
    torch.manual_seed(seed)
    options = {"latent": 10, **METHOD_OPTIONS[name], **CURES[cure]}
    method = METHODS[name](splits.modalities, **options)
    training = {"epochs": EPOCHS, "batch": 128, "lr": 1e-3, "progress": False}
    model = polymodal.fit(method, splits, seed=seed, **training).model.eval()
    return figures(model, splits)


@torch.no_grad()
def figures(model: Any, splits: Splits) -> dict[str, float]:
    batch = splits.test.batch(torch.arange(len(splits.test)))
    truth, image = splits.test.label, batch.x["image"]
    log_p = label_scores(model, batch)
    return {
        "label_given_image": accuracy(label_scores(model, batch.only(["image"])), truth),
        "label_given_both": accuracy(log_p, truth),
        "label_nats": float(log_p.gather(1, truth[:, None]).mean()),
        "image_error": float(
            (means(model, batch, "image") - image).square().flatten(1).sum(1).mean()
        ),
        "digit_given_label": digits(means(model, batch.only(["label"]), "image", 1), splits),
    }


def means(model: Any, batch: Any, target: str, draws: int = DRAWS) -> Tensor:
    """The mean of p(target | z), averaged over draws of z given the batch."""
    return model.generate(batch, draws, targets=[target])[target].mean(0)


def label_scores(model: Any, batch: Any) -> Tensor:
    return means(model, batch, "label").clamp_min(1e-12).log()


def accuracy(scores: Tensor, truth: Tensor) -> float:
    return float((scores.argmax(1) == truth).float().mean())


def digits(images: Tensor, splits: Splits) -> float:
    """The share of images in which a logistic regression on pixels sees the test digits."""
    part = splits.train
    batch = part.batch(torch.arange(len(part)))
    judge = LogisticRegression(max_iter=200).fit(batch.x["image"].flatten(1).numpy(), part.label)
    return float((judge.predict(images.flatten(1).numpy()) == splits.test.label.numpy()).mean())


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    content = {
        "machine": f"{os.cpu_count()} cores, one thread",
        "torch": torch.__version__,
        "train": TRAIN,
        "test": TEST,
        "epochs": EPOCHS,
        "runs": rows,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
