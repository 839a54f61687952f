"""Settings, data, clocks and the report that both sides of a measurement share. Needs only torch."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Times = tuple[float, float]
SHAPES = {
    "mnist": (1, 28, 28),
    "svhn": (3, 32, 32),
    "extra": (1, 28, 28),
    "svhn2": (3, 32, 32),
    "extra2": (1, 28, 28),
}
PAIR, TRIPLE, FIVE = ("mnist", "svhn"), ("mnist", "svhn", "extra"), tuple(SHAPES)


@dataclass(frozen=True)
class Family:
    """One training of both libraries.

    Args:
        names: of the modalities.
        method, options: ours.
        peer, settings: the peer's class and its settings.
        share: of the --train samples.
        chunk: samples of a batch that we take at once; None: all.
    """

    names: tuple[str, ...]
    method: str
    options: dict[str, Any]
    peer: str
    settings: dict[str, Any]
    share: float = 1.0
    chunk: int | None = None


def _mmvae(k: int, loss: str, share: float = 1.0, chunk: int | None = None) -> Family:
    return Family(
        PAIR,
        "mmvae",
        {"k": k, "objective": loss},
        "MMVAE",
        {"K": k, "loss": f"{loss}_looser"},
        share,
        chunk,
    )


FAMILIES = {
    "train_mvae": Family(PAIR, "mvae", {"random_subsets": 0}, "MVAE", {"k": 0}),
    "train_mmvae_1": _mmvae(1, "iwae"),
    "train_mmvae_30_iwae": _mmvae(30, "iwae", 1 / 8, 16),
    "train_mmvae_30_dreg": _mmvae(30, "dreg", 1 / 8, 16),
    "train_mopoe": Family(PAIR, "mopoe", {}, "MoPoE", {}),
    "train_mvae_5": Family(FIVE, "mvae", {"random_subsets": 1}, "MVAE", {"k": 1}, 1 / 2),
    "train_mopoe_5": Family(FIVE, "mopoe", {}, "MoPoE", {}, 1 / 2),
}


def arguments(description: str, tasks: list[str]) -> argparse.Namespace:
    """The settings of one task, the same for both libraries."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    p.add_argument("task", choices=tasks)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--latent", type=int, default=20)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument(
        "--hidden-layers",
        type=int,
        default=1,
        help="hidden layers of 128 in each MADE of the flows",
    )
    p.add_argument("--train", type=int, default=4096, help="training samples")
    p.add_argument(
        "--epochs",
        type=int,
        default=3,
        help="timed epochs of each stage; one more before is not timed",
    )
    p.add_argument("--items", type=int, default=128, help="samples whose latents are drawn")
    p.add_argument(
        "--warm", type=int, default=6, help="epochs of each stage that train a model to be sampled"
    )
    p.add_argument("--points", type=int, default=32, help="samples whose likelihood is estimated")
    p.add_argument("--k", type=int, default=1000, help="latents drawn for each likelihood")
    p.add_argument("--repeats", type=int, default=2)
    p.add_argument(
        "--draws-file", help="where to keep draws (draws, chains, items, latent) for R-hat and ESS"
    )
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    return args


def images(n: int, names: tuple[str, ...], seed: int) -> dict[str, torch.Tensor]:
    """Images in [0, 1] that share 8 hidden factors: smooth random patterns, weighted by the
    factors, squashed.
    """
    g = torch.Generator().manual_seed(1234)
    patterns = {}
    for m in names:
        channels, *size = SHAPES[m]
        coarse = torch.randn(8, channels, 7, 7, generator=g)
        patterns[m] = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear").flatten(1)
    g.manual_seed(seed)
    factors = torch.randn(n, 8, generator=g)
    return {m: torch.sigmoid(factors @ p).reshape(n, *SHAPES[m]) for m, p in patterns.items()}


def now() -> Times:
    """Wall clock, and processor time of all threads of this process, in seconds."""
    return time.perf_counter(), time.process_time()


def since(start: Times) -> Times:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def seconds(function: Callable[[], Any], repeats: int, warm: bool = True) -> list[Times]:
    """Wall and processor time of each of `repeats` calls; `warm`: after one that does not count."""
    if warm:
        function()
    times = []
    for _ in range(repeats):
        start = now()
        function()
        times.append(since(start))
    return times


def rate(count: float, times: list[Times]) -> dict[str, Any]:
    """`count` per second in each of `times`: median, lowest and highest; and the median per second
    of processor time.
    """
    wall, cpu = ([count / t[i] for t in times] for i in (0, 1))
    return {
        "median": statistics.median(wall),
        "low": min(wall),
        "high": max(wall),
        "cpu": statistics.median(cpu),
    }


def peak_mb() -> float:
    """Highest resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(start: Times, **figures: Any) -> None:
    """Prints one JSON document; `start` is the time at which the process began."""
    wall, cpu = since(start)
    document = {
        **figures,
        "peak_mb": peak_mb(),
        "wall_s": wall,
        "cpu_s": cpu,
        "torch": torch.__version__,
    }
    print(json.dumps(document))
