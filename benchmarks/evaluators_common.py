"""What both libraries share in `evaluators.py`: tasks, files, the clock. Needs only torch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHAPES = {
    "mnist-svhn": {"mnist": (1, 28, 28), "svhn": (3, 32, 32)},
    "polymnist": {f"m{k}": (3, 28, 28) for k in range(5)},
}
NETWORKS = {
    "mnist-svhn": {"mnist": "mlp", "svhn": "svhn-conv"},
    "polymnist": {f"m{k}": "digit-conv" for k in range(5)},
}
LATENT = {"mnist-svhn": 20, "polymnist": 64}
SCALE = {"mnist-svhn": 1.0, "polymnist": 0.2}  # of the Laplace likelihoods
MAPS, HIDDEN = 2, 128  # maps of JNF's flows, and the width of their only hidden layer
K = 1000  # latents for each likelihood
GIVEN, TARGET = "mnist", "svhn"  # of conditional likelihoods


@dataclass(frozen=True)
class Task:
    """What is timed.

    Args:
        quantity: "joint", "conditional" or "coherence".
        data: a key of SHAPES.
        ours, theirs: the method.
        items: test items.
        aim: the ratio of speeds that is aimed at.
        equal: whether all weights are the same in both libraries, so that the values must agree.
    """

    quantity: str
    data: str
    ours: str
    theirs: str
    items: int
    aim: float
    equal: bool = True


TASKS = {
    "joint, JNF": Task("joint", "mnist-svhn", "jnf", "JNF", 16, 1.6),
    "conditional, JNF": Task("conditional", "mnist-svhn", "jnf", "JNF", 16, 1.6, equal=False),
    "coherence of 5, MoPoE": Task("coherence", "polymnist", "mopoe", "MoPoE", 200, 3),
    "coherence of 2, MoPoE": Task("coherence", "mnist-svhn", "mopoe", "MoPoE", 1000, 3),
    "joint, MVTCAE": Task("joint", "mnist-svhn", "mvtcae", "MVTCAE", 16, 1.6),
    "conditional, MVTCAE": Task("conditional", "mnist-svhn", "mvtcae", "MVTCAE", 16, 1.6),
    "coherence of 2, JNF": Task("coherence", "mnist-svhn", "jnf", "JNF", 1000, 3, equal=False),
    "coherence of 5, MVTCAE": Task("coherence", "polymnist", "mvtcae", "MVTCAE", 200, 3),
}


def subsets(names: list[str]) -> list[tuple[str, ...]]:
    """All but the empty and the whole one: the peer's `cross_coherences`."""
    return [given for size in range(1, len(names)) for given in combinations(names, size)]


@dataclass(frozen=True)
class Spec:
    """One process: a task, with files and settings."""

    task: str
    work: Path
    repeats: int
    seed: int
    steps: int
    threads: int = 1

    @classmethod
    def read(cls) -> Spec:
        """From the file that is the only argument of the command."""
        entries = json.loads(Path(sys.argv[1]).read_text())
        spec = cls(**entries | {"work": Path(entries["work"])})
        torch.set_num_threads(spec.threads)
        torch.manual_seed(spec.seed)
        return spec

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), default=str))

    @property
    def weights(self) -> Path:
        task = TASKS[self.task]
        return self.work / f"{task.data}-{task.theirs}.pt"

    @property
    def check(self) -> Path:
        """What the peer's networks compute of a few items."""
        return self.weights.with_suffix(".check.pt")


def items_of(spec: Spec, part: str) -> tuple[dict[str, Tensor], Tensor]:
    """Values and labels of the "train" or "test" items of a task."""
    task = TASKS[spec.task]
    values, labels = torch.load(spec.work / f"{task.data}-{part}.pt")
    count = task.items if part == "test" else None
    return {m: x[:count] for m, x in values.items()}, labels[:count]


def classifiers_of(spec: Spec) -> dict[str, Any]:
    """The trained networks, of plain layers of PyTorch, in evaluation mode."""
    nets = torch.load(spec.work / f"{TASKS[spec.task].data}-nets.pt", weights_only=False)
    return {m: net.eval() for m, net in nets.items()}


def timed(spec: Spec, call: Callable[[], float]) -> None:
    """Calls `repeats` times against the clock of processor time; prints one JSON document."""
    seconds, values = [], []
    for _ in range(spec.repeats):
        start = time.process_time()
        values.append(call())
        seconds.append(time.process_time() - start)
    print(json.dumps({"seconds": seconds, "values": values, "torch": torch.__version__}))
