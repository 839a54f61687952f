"""What both libraries share in `curves.py`: data sets, methods, the clock, the files of draws. Needs
only torch and numpy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PRIOR = "prior"  # the key of joint samples from the prior
MAPS, HIDDEN = 2, 128  # maps of JNF's flows, and the width of their only hidden layer


@dataclass(frozen=True)
class Task:
    """A data set and how it is trained on.

    Args:
        options: of `polymodal.load_data`.
        scale: of the likelihoods; None: the data set's.
        networks: names of ours, by modality; `peer_networks.py` has the peer's.
        latent, private: dimensions; those of MMVAE+, which has both, are `latent - private` and
            `private`.
        items: test items, of each of which one draw is judged.
    """

    options: Mapping[str, Any]
    scale: float | None
    networks: Mapping[str, str]
    latent: int
    private: int
    batch: int
    lr: float
    items: int

    def subsets(self) -> list[tuple[str, ...]]:
        """The subsets that are given: single modalities, and all but one."""
        names = list(self.networks)
        sizes = sorted({1, len(names) - 1})
        return [given for size in sizes for given in combinations(names, size)]


VIEWS = [f"m{k}" for k in range(5)]
TASKS = {
    "mnist-svhn": Task({}, None, {"mnist": "mlp", "svhn": "svhn-conv"}, 20, 10, 128, 1e-3, 2000),
    "polymnist": Task(
        {"limit": 30_000}, 0.2, dict.fromkeys(VIEWS, "digit-conv"), 64, 32, 64, 1e-3, 500
    ),
}


@dataclass(frozen=True)
class MethodPair:
    """One method in both libraries.

    Args:
        ours, options: a key of `polymodal.METHODS` and its options.
        theirs, settings: a class of MultiVae and its settings.
        stages: each gets an equal share of the minutes.
        private: whether there are private latents.
    """

    ours: str
    options: Mapping[str, Any]
    theirs: str
    settings: Mapping[str, Any]
    stages: int = 1
    private: bool = False


METHODS = {
    "mopoe": MethodPair("mopoe", {"beta": 1.0}, "MoPoE", {"beta": 1.0}),
    "mvtcae": MethodPair(
        "mvtcae", {"alpha": 5 / 6, "beta": 1.0}, "MVTCAE", {"alpha": 5 / 6, "beta": 1.0}
    ),
    "mmvae_plus": MethodPair(
        "mmvae_plus",
        {"k": 1, "objective": "iwae", "beta": 1.0},
        "MMVAEPlus",
        {"K": 1, "loss": "iwae_looser", "beta": 1.0},
        private=True,
    ),
    "jnf": MethodPair(
        "jnf",
        {"flow": {"transforms": MAPS, "hidden": [HIDDEN], "conditional": False}},
        "JNF",
        {"beta": 1.0},
        stages=2,
    ),
}


@dataclass(frozen=True)
class Spec:
    """One training of one library."""

    task: str
    method: str
    seed: int
    minutes: list[float]
    arrays: Path
    out: Path
    data: str | None
    threads: int = 1

    @classmethod
    def read(cls) -> Spec:
        """From the file that is the only argument of the command."""
        entries = json.loads(Path(sys.argv[1]).read_text())
        spec = cls(**entries | {k: Path(entries[k]) for k in ("arrays", "out")})
        torch.set_num_threads(spec.threads)
        return spec


class FinishedError(Exception):
    """The last mark was reached."""


@dataclass
class Marks:
    """Calls `reached(mark, model, steps)` at marks of processor time of this process, minutes, after
    the step in which each was passed; the time of these calls does not count.

    Raises FinishedError after the last.
    """

    minutes: list[float]
    reached: Callable[[float, Any, int], None]
    steps: int = 0
    start: float = field(default_factory=time.process_time)

    def step(self, model: Any) -> None:
        """To be called after each training step."""
        self.steps += 1
        now = time.process_time()
        if now - self.start < 60 * self.minutes[0]:
            return
        self.reached(self.minutes.pop(0), model, self.steps)
        if not self.minutes:
            raise FinishedError
        self.start += time.process_time() - now


def key_of(given: tuple[str, ...], target: str) -> str:
    return f"{'+'.join(given)}->{target}"


def test_values(spec: Spec) -> dict[str, Tensor]:
    """The test values of which draws are made, float32."""
    task = TASKS[spec.task]
    return {m: torch.from_numpy(np.load(spec.arrays / f"test-{m}.npy")) for m in task.networks}


def write_draws(spec: Spec, mark: float, draws: Mapping[str, Tensor], steps: list[int]) -> None:
    """The draws at a mark, and how many steps each stage had made."""
    spec.out.mkdir(parents=True, exist_ok=True)
    arrays = {k: v.half().numpy() for k, v in draws.items()}
    part = spec.out / f"{mark:g}.part.npz"
    np.savez(part, steps=np.array(steps), **arrays)
    part.rename(spec.out / f"{mark:g}.npz")
    print(f"{spec.method} seed {spec.seed}: {mark:g} minutes, steps {steps}", flush=True)
