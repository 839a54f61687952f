"""Trains and measures the comparisons of runs.yaml, one after the other; what is finished is kept.

    python benchmarks/papers/train.py --data DATA [--only NAME ...] [--hours H]

Each entry is one comparison and one seed. A run that was interrupted resumes where it stopped, and
an entry whose results are written is passed over. The figures go to
benchmarks/results/papers/<entry>.json, which `write.py` reads; the runs stay in runs/papers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "papers"


def main() -> None:
    arguments = _arguments()
    end = time.monotonic() + 3600 * arguments.hours
    for entry in _entries(arguments.only):
        target = RESULTS / f"{entry['name']}.json"
        if target.exists():
            continue
        if time.monotonic() > end:
            break
        out = arguments.out / entry["name"]
        _train(entry, out, arguments.data)
        RESULTS.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(_result(entry, out), indent=1) + "\n")
        print(f"Wrote {target}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of the named data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/papers"))
    parser.add_argument("--only", nargs="*", help="entries, by name")
    parser.add_argument("--hours", type=float, default=1e9, help="no entry begins after so long")
    return parser.parse_args()


def _entries(only: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    """The entries, one for each seed, in order: first all with their first seed."""
    listed = yaml.safe_load((HERE / "runs.yaml").read_text())
    most = max(len(entry["seeds"]) for entry in listed)
    for k in range(most):
        for entry in listed:
            if k < len(entry["seeds"]):
                seed = entry["seeds"][k]
                single = {**entry, "seed": seed, "name": f"{entry['name']}-seed{seed}"}
                if not only or single["name"] in only:
                    yield single


def _train(entry: Mapping[str, Any], out: Path, data: str) -> None:
    """`polymodal train` of a comparison: trains, measures and reports."""
    recipe = HERE / entry["recipe"]
    command = [sys.executable, "-m", "polymodal", "train"]
    command += [str(recipe) if recipe.suffix == ".yaml" else entry["recipe"]]
    command += ["--out", str(out), "--seed", str(entry["seed"]), "--data", data]
    command += [*entry.get("overrides", ()), "training.progress=false"]
    for stage, run in entry.get("reuse", {}).items():
        command += ["--reuse", f"{stage}={out.parent / run.format(seed=entry['seed'])}"]
    print(" ".join(command[1:]), flush=True)
    subprocess.run(command, check=True)


def _result(entry: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """What `write.py` reads of the runs in a directory."""
    runs = [_run(path.parent, entry["seed"]) for path in sorted(out.glob("*/run.json"))]
    return {
        "name": entry["name"],
        "recipe": entry["recipe"],
        "overrides": entry.get("overrides", []),
        "differs": entry["differs"],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "runs": runs,
    }


def _run(directory: Path, seed: int) -> dict[str, Any]:
    info = json.loads((directory / "run.json").read_text())
    metrics = json.loads((directory / "metrics.json").read_text())
    stages = info["stages"]
    return {
        "label": directory.name.removesuffix(f"-seed{seed}"),
        "seed": info["seed"],
        "method": info["settings"]["method"],
        "commit": info["commit"],
        "versions": info["versions"],
        "samples": info["data"],
        "epochs": {name: stage.get("epochs") for name, stage in stages.items()},
        "seconds": {name: stage.get("seconds") for name, stage in stages.items()},
        "figures": {name: stage.get("figures", {}) for name, stage in stages.items()},
        "evaluation": metrics.get("asked"),
        "rows": metrics["table"],
    }


if __name__ == "__main__":
    main()
