"""Spoken digits from written ones and back: the recipes that `mnist-audio` compares.

    python benchmarks/mnist_audio.py --data FOLDER [--runs build/mnist_audio] [--out benchmarks/results]

Trains mnist-audio-jnf-dcca and mnist-audio-mmvae with the settings of the comparison mnist-audio, and
measures coherence on the first 1,000 test pairs. It differs from `polymodal train mnist-audio` in
its classifiers, which have one hidden layer, for speed. FOLDER holds MNIST and the spoken digits.
What is trained is kept under --runs, and the same command resumes; the figures are written into
mnist_audio.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch

from polymodal import evaluate
from polymodal.experiments.plan import make_plan, train
from polymodal.metrics.classifier_networks import NETWORKS, Classifier
from polymodal.metrics.classifier_training import ClassifierTraining
from polymodal.metrics.classifiers import Classifiers

METRICS = ["coherence", "joint_coherence"]


def hidden(shape: tuple[int, ...], outputs: int) -> Classifier:
    """A classifier with one hidden layer of 512."""
    layers = (torch.nn.Linear(math.prod(shape), 512), torch.nn.ReLU(), torch.nn.Dropout(0.3))
    return Classifier(torch.nn.Sequential(torch.nn.Flatten(), *layers), 512, outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--runs", type=Path, default=Path("build/mnist_audio"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    plan = make_plan("mnist-audio", options.runs, ["training.progress=false"], options.data)
    runs = train(plan, print)
    NETWORKS["hidden"] = hidden
    training = ClassifierTraining(network="hidden", steps=800)
    cache = options.runs / "classifiers"
    classifiers = Classifiers.fit_or_load(plan.data, training, cache=cache, progress=print)
    tables = [evaluate(r, plan.data, METRICS, limit=1000, classifiers=classifiers) for r in runs]
    for table in tables:
        print(table.to_markdown(), flush=True)
    results = {
        "cpu seconds": round(time.process_time()),
        "accuracy of classifiers": classifiers.accuracy,
        "figures": [row for table in tables for row in table.records()],
    }
    file = options.out / "mnist_audio.json"
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
