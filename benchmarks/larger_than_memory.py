"""Trains on data of ten times the memory that is permitted, and on the same data in memory.

    python benchmarks/larger_than_memory.py --work /tmp/large      # writes results JSON; 4 GB of disk
    python benchmarks/larger_than_memory.py --work /tmp/large --gb 0.05 --rounds 1   # does it run?

Each run is a process of its own, in which a thread reads RssAnon of /proc/self/status every 5 ms:
the memory that belongs to no file. Runs on disk are permitted a tenth of the data's size above the
peak of the same run on 1 % of the data, and are ended where they exceed it. Runs on disk and in
memory take turns; before the run "cold", the pages of the data are dropped from the system's cache.
Files of the data stay in --work for the next time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "larger_than_memory.json"
PERMITTED = 0.1  # of the size of the data
EXCEEDED = 9  # exit code of a run that took more than it was permitted
ROWS = 10_000  # that are drawn at a time


# The data: arrays (N, ...) of an .npz file, bytes of one sample, and the recipe.


def _vectors(n: int, draw: np.random.Generator) -> Mapping[str, np.ndarray]:
    """Two vectors of 256 that share 8 factors."""
    maps = np.random.default_rng(1).normal(size=(2, 8, 256)).astype(np.float32) / 3
    z = draw.normal(size=(n, 8)).astype(np.float32)
    noise = draw.normal(size=(2, n, 256)).astype(np.float32)
    return dict(zip("ab", z @ maps + 0.5 * noise, strict=True))


def _pictures(n: int, draw: np.random.Generator) -> Mapping[str, np.ndarray]:
    """Colour images (n, 32, 32, 3) in bytes, and 64 numbers that share 8 factors with them."""
    maps = np.random.default_rng(1)
    coarse = maps.normal(size=(8, 8, 8, 3)).astype(np.float32)
    patterns = coarse.repeat(4, 1).repeat(4, 2).reshape(8, -1)
    z = draw.normal(size=(n, 8)).astype(np.float32)
    image = 255 / (1 + np.exp(-z @ patterns / 2 - 0.3 * draw.normal(size=(n, 1))))
    numbers = z @ maps.normal(size=(8, 64)) + 0.5 * draw.normal(size=(n, 64))
    image = image.astype(np.uint8).reshape(n, 32, 32, 3)
    return {"image": image, "numbers": numbers.astype(np.float32)}


CASES: dict[str, Any] = {
    "vectors": {
        "make": _vectors,
        "bytes": 2048,
        "networks": {"a": "mlp-small", "b": "mlp-small"},
        "training": {"epochs": 1, "batch": 512},
    },
    "pictures": {
        "make": _pictures,
        "bytes": 3328,
        "networks": {},
        "training": {"epochs": 1, "batch": 128, "max_steps": 400},
    },
}


def write_data(case: str, file: Path, samples: int) -> None:
    """An .npz file whose arrays are not packed, written part by part."""
    beside = file.with_name(f".{file.name}.tmp")
    first = CASES[case]["make"](1, np.random.default_rng(0))
    with zipfile.ZipFile(beside, "w") as archive:
        for name, x in first.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                about = {"descr": x.dtype.str, "fortran_order": False}
                shape = {"shape": (samples, *x.shape[1:])}
                np.lib.format.write_array_header_2_0(member, about | shape)
                for start in range(0, samples, ROWS):
                    n = min(ROWS, samples - start)
                    draw = np.random.default_rng(start)  # the same for every array
                    member.write(CASES[case]["make"](n, draw)[name].tobytes())
    os.replace(beside, file)


# One run, in a process of its own.


def anonymous() -> int:
    """RssAnon of this process in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split("RssAnon:")[1].split()[0])


class Watch(threading.Thread):
    """Keeps the peak of `anonymous`, and ends the process where it exceeds a limit."""

    def __init__(self, limit: float) -> None:
        super().__init__(daemon=True)
        self.limit, self.peak, self.parts = limit, 0, {}

    def run(self) -> None:
        while True:
            self.peak = max(self.peak, anonymous())
            if self.peak > self.limit:
                print(f"took {self.peak} bytes, of {self.limit:.0f}", file=sys.stderr)
                os._exit(EXCEEDED)
            time.sleep(0.005)


def work(case: str, file: Path, memory: str, limit: float) -> None:
    """Trains, and prints peak, seconds and a hash of the weights as JSON."""
    watch = Watch(limit)
    watch.start()
    import torch

    from polymodal import fit

    torch.set_num_threads(1)
    about = CASES[case]
    start = time.perf_counter()
    run = fit(
        {
            "data": {"path": str(file), "memory": memory if memory == "auto" else float(memory)},
            "method": {"name": "jmvae", "latent": 8},
            "networks": about["networks"],
            "training": {**about["training"], "progress": False},
        }
    )
    seconds = time.perf_counter() - start
    state = run.model.state_dict()
    weights = hashlib.sha256(b"".join(v.numpy().tobytes() for v in state.values())).hexdigest()
    stages = run.info["stages"].values()
    figures = {
        "peak_rss_anon": watch.peak,
        "seconds": round(seconds, 2),
        "training_seconds": round(sum(stage["seconds"] for stage in stages), 2),
        "weights_sha256": weights,
    }
    print(json.dumps(figures))


def run(case: str, file: Path, memory: str, limit: float = float("inf")) -> dict[str, Any]:
    """One run in a process of its own. Raises RuntimeError if it fails or takes too much."""
    command = [sys.executable, __file__, "--worker", case, str(file), memory, str(limit)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == EXCEEDED:
        raise RuntimeError(f"{case} on {file} {done.stderr.splitlines()[-1]}")
    if done.returncode:
        raise RuntimeError(done.stderr)
    figures = json.loads(done.stdout.splitlines()[-1])
    print(case, file.name, memory, figures, file=sys.stderr, flush=True)
    return figures


def drop_from_cache(file: Path) -> None:
    """Lets the system drop the pages of a file."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# All runs of a case.


def measure(case: str, folder: Path, gb: float, rounds: int) -> dict[str, Any]:
    """The figures of a case."""
    samples = int(gb * 1e9) // CASES[case]["bytes"]
    files = {}
    for name, n in (("whole", samples), ("hundredth", samples // 100)):
        files[name] = folder / f"{case}-{n}.npz"
        if not files[name].exists():
            write_data(case, files[name], n)
    size = samples * CASES[case]["bytes"]
    permitted = PERMITTED * size
    memory = str(permitted / 1e9)
    small = run(case, files["hundredth"], memory)
    limit = small["peak_rss_anon"] + permitted
    drop_from_cache(files["whole"])
    cold = run(case, files["whole"], memory, limit)
    turns = [
        {
            "disk": run(case, files["whole"], memory, limit),
            "memory": run(case, files["whole"], "1000"),
        }
        for _ in range(rounds)
    ]
    ratios = [t["memory"]["training_seconds"] / t["disk"]["training_seconds"] for t in turns]
    disk = [cold, *(t["disk"] for t in turns)]
    above = max(d["peak_rss_anon"] for d in disk) - small["peak_rss_anon"]
    hashes = {d["weights_sha256"] for d in [*disk, *(t["memory"] for t in turns)]}
    return {
        "samples": samples,
        "bytes": size,
        "permitted_bytes": int(permitted),
        "anonymous_above_hundredth": above,
        "share_of_data": round(above / size, 4),
        "speed_of_in_memory": round(statistics.median(ratios), 3),
        "speeds_of_in_memory": [round(r, 3) for r in ratios],
        "same_weights": len(hashes) == 1,
        "hundredth": small,
        "cold": cold,
        "turns": turns,
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    p.add_argument("--work", type=Path, help="folder of the data")
    p.add_argument("--gb", type=float, default=2.0, help="size of the data (default 2)")
    p.add_argument("--rounds", type=int, default=3, help="turns (default 3)")
    p.add_argument("--only", nargs="*", choices=CASES, default=list(CASES))
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    if args.worker:
        case, file, memory, limit = args.worker
        work(case, Path(file), memory, float(limit))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for case in args.only:
        results[case] = measure(case, args.work, args.gb, args.rounds)
        args.out.write_text(json.dumps(results, indent=1) + "\n")
        print(json.dumps({k: v for k, v in results[case].items() if k != "turns"}, indent=1))


if __name__ == "__main__":
    main()
