"""Coherence and Fréchet distance against minutes of processor time, beside MultiVae 1.0.3.

    python benchmarks/curves.py --peer-python /tmp/peer/bin/python --data ../shared/data
    python benchmarks/curves.py --picture    # from the results, without training

The same tuples, objectives, networks, optimiser (Adam, constant rate) and batches in both libraries,
one thread. Each trains until so much processor time of its process has passed since the call of its
trainer; at each mark one draw is made for each of the first test items and each place, with the
weights of that moment, and the time of that does not count. All draws are judged here, by the same
classifiers. Fréchet distances are in units of the total variance of the real values' features, so that
their mean over modalities means something. JNF has two stages, of 100 epochs each in the paper: each has half of the minutes (the
first is trained once, the second from its state at half of each mark).

What is not equal, by the libraries' design:

- The peer's MoPoE adds the prior as an expert to the product of all modalities (as Sutter et al.'s
  code does, not their formula), ours to none; the peer gives each product an equal share of every
  batch, ours draws one for each sample.
- The peer's first layer of SVHN's decoder starts with narrower weights, see `peer_networks.py`.
- The maps of the peer's flows of JNF (pythae) have scales without a bound, those of ours at most 1,000.
- The peer's losses of MMVAE+ are sums over a batch, which Adam does not notice.
- Given several modalities, the peer's MMVAE+ draws from one of them, the same for a whole batch.

Every finished training is written at once; the same command continues. Results:
`results/curves.json`, `results/curves.png` and `results/curves.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curves_common import METHODS, PRIOR, TASKS, Spec, key_of
from curves_ours import splits_of
from curves_picture import draw, page

from polymodal.data import Splits
from polymodal.metrics.classifiers import Classifiers
from polymodal.metrics.coherence import agreement, unanimity
from polymodal.metrics.frechet import frechet_with_error
from polymodal.metrics.statistics import mean_of

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "curves.json"
OURS, PEER = "polymodal", "multivae"
SCRIPTS = {OURS: HERE / "curves_ours.py", PEER: HERE / "peer_curves.py"}
PIECE = 500  # images that are classified at once
Entry = dict[str, Any]


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--peer-python", default=os.environ.get("PEER_PYTHON"))
    p.add_argument("--data", default=None, help="the folder of the named data sets")
    p.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    p.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    p.add_argument("--libraries", nargs="+", choices=list(SCRIPTS), default=list(SCRIPTS))
    p.add_argument("--minutes", nargs="+", type=float, default=[5, 10, 20, 40])
    p.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    p.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "polymodal-curves")
    p.add_argument("--out", type=Path, default=RESULTS)
    p.add_argument("--picture", action="store_true", help="only draw the picture")
    return p.parse_args()


def exported(task: str, splits: Splits, work: Path) -> Path:
    """The folder with the task's tuples as arrays, written once."""
    folder, done = work / task, work / task / "modalities.json"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for part, data in (("train", splits.train), ("test", splits.test)):
        for m in splits.modalities:
            rows = torch.arange(len(data)).split(1000)
            x = torch.cat([data.batch(r).x[m.name].float() for r in rows])
            np.save(folder / f"{part}-{m.name}.npy", np.ascontiguousarray(x.numpy()))
    described = {
        m.name: {
            k: v for k, v in asdict(m).items() if k in ("shape", "likelihood", "scale", "weight")
        }
        for m in splits.modalities
    }
    done.write_text(json.dumps(described))
    return folder


def trained(python: str, library: str, spec: Spec) -> None:
    """Trains in a process of its own, which writes the draws of every mark into `spec.out`."""
    if all((spec.out / f"{mark:g}.npz").exists() for mark in spec.minutes):
        return
    spec.out.mkdir(parents=True, exist_ok=True)
    file = spec.out / "spec.json"
    file.write_text(json.dumps(asdict(spec), default=str))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(spec.threads))
    path = str(HERE.parent / "src") if library == OURS else ""
    env = os.environ | threads | {"PYTHONPATH": path}
    subprocess.run([python, str(SCRIPTS[library]), str(file)], env=env, check=True)


class Judge:
    """Judges draws by the classifiers of the whole data set.

    Args:
        name: of the task.
        splits: its data, with so many test samples as there are draws.
        data: the folder of the named data sets.
    """

    def __init__(self, name: str, splits: Splits, data: str | None) -> None:
        import polymodal

        whole = polymodal.load_data(name, path=data)
        self.task, self.test = TASKS[name], splits.test
        self.classifiers = Classifiers.fit_or_load(whole)
        values = self.test.batch(torch.arange(len(self.test))).x
        self.real = {m: self.classified(m, values[m])[0] for m in self.task.networks}
        self.variance = {m: x.double().var(0).sum().item() for m, x in self.real.items()}

    def classified(self, target: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [self.classifiers[target](some) for some in x.float().split(PIECE)]
        features, labels = zip(*parts, strict=True)
        return torch.cat(features), torch.cat(labels)

    def place(self, given: str, target: str, x: torch.Tensor) -> tuple[Entry, torch.Tensor]:
        """The figures of one place, and the labels that its draws show; the distance in units of the
        variance of the real features.
        """
        features, labels = self.classified(target, x)
        figures = frechet_with_error(self.real[target], features)
        distance, error = (x / self.variance[target] for x in figures)
        return {"given": given, "target": target, "frechet": distance, "frechet_se": error}, labels

    def __call__(self, file: Path) -> Entry:
        """The figures of the draws in a file, by place and as means over places."""
        with np.load(file) as arrays:
            draws = {k: torch.from_numpy(arrays[k]) for k in arrays.files if k != "steps"}
            steps = arrays["steps"].tolist()
        rows, right, joint = [], [], {}
        for given in self.task.subsets():
            for target in (m for m in self.task.networks if m not in given):
                row, labels = self.place("+".join(given), target, draws[key_of(given, target)])
                correct = agreement(labels, self.test.label)
                row["coherence"], row["coherence_se"] = mean_of(correct)[:2]
                rows.append(row)
                right.append(correct)
        for target in self.task.networks:
            row, joint[target] = self.place(PRIOR, target, draws[f"{PRIOR}->{target}"])
            rows.append(row)
        return {"steps": steps, **self.means(rows, right), **together(joint), "places": rows}

    def means(self, rows: list[Entry], right: list[torch.Tensor]) -> Entry:
        """Means over the places, joint samples left out; the error of the coherence is over items,
        that of the distance takes places for independent.
        """
        coherence, error = mean_of(torch.stack(right).mean(0))[:2]
        given = [row for row in rows if row["given"] != PRIOR]
        distance = sum(row["frechet"] for row in given) / len(given)
        spread = math.sqrt(sum(row["frechet_se"] ** 2 for row in given)) / len(given)
        figures = {"coherence": coherence, "coherence_se": error}
        return figures | {"frechet": distance, "frechet_se": spread, "items": len(right[0])}


def together(labels: dict[str, torch.Tensor]) -> Entry:
    value, error = mean_of(unanimity(labels))[:2]
    return {"joint_coherence": value, "joint_coherence_se": error}


def read(out: Path) -> dict[str, Any]:
    return json.loads(out.read_text()) if out.exists() else {"about": {}, "trainings": []}


def identity(entry: Entry) -> tuple[Any, ...]:
    return entry["task"], entry["method"], entry["seed"], entry["library"], tuple(entry["minutes"])


def about() -> Entry:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [v.split(":")[1].strip() for v in lines if v.startswith("model name")]
    machine = f"{len(names)} x {names[0]}" if names else ""
    return {"cpu": machine, "threads": 1, "torch": torch.__version__, OURS: version(OURS)}


def measure(options: argparse.Namespace) -> None:
    pythons = {OURS: sys.executable, PEER: options.peer_python}
    if PEER in options.libraries and not options.peer_python:
        sys.exit("--peer-python must name a Python of an environment with multivae; see README.md.")
    results = read(options.out)
    results["about"] = about() | {PEER: "1.0.3"}
    finished = {identity(entry) for entry in results["trainings"]}
    for task in options.tasks:
        splits = splits_of(task, options.data)
        arrays, judge = exported(task, splits, options.work), Judge(task, splits, options.data)
        for seed, method, library in product(options.seeds, options.methods, options.libraries):
            entry = {"task": task, "method": method, "seed": seed, "library": library}
            entry["minutes"] = sorted(options.minutes)
            if identity(entry) in finished:
                continue
            out = options.work / f"{task}-{method}-{seed}-{library}"
            spec = Spec(task, method, seed, entry["minutes"], arrays, out, options.data)
            start, load = time.monotonic(), os.getloadavg()[1]
            trained(pythons[library], library, spec)
            entry["wall_minutes"] = round((time.monotonic() - start) / 60, 1)
            entry["load"] = [round(load, 1), round(os.getloadavg()[1], 1)]
            marks = {f"{mark:g}": judge(out / f"{mark:g}.npz") for mark in entry["minutes"]}
            results["trainings"].append(entry | {"marks": marks})
            part = options.out.with_suffix(".part")
            part.write_text(json.dumps(results, indent=1) + "\n")
            part.replace(options.out)
            for mark, found in marks.items():
                line = f"{found['coherence']:.3f} {found['frechet']:.1f} {found['steps']}"
                print(task, method, seed, library, mark, line, flush=True)


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    if not options.picture:
        measure(options)
    results = read(options.out)
    draw(results, options.out.with_suffix(".png"))
    options.out.with_suffix(".md").write_text(page(results))


if __name__ == "__main__":
    main()
