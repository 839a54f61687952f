"""Evaluators beside those of MultiVae 1.0.3: the same weights, items, draws and classifiers.

    python benchmarks/evaluators.py --peer-python /tmp/peer/bin/python --data ../shared/data

Every task runs in its own process, the two libraries in turn, with one thread; the time is that of
the processor. Each library is called as its users do: `polymodal.evaluate` with the metrics
joint_log_likelihood, conditional_log_likelihood and coherence_macro; the peer's
`LikelihoodsEvaluator`, `compute_cond_nll` (no evaluator calls it) and `CoherenceEvaluator`. All have
their own batches: ours 256 samples and pieces that fit into the cache, the peer's 512 samples and
100 latents. Likelihoods by 1,000 latents in float32 on 16 items of MNIST and SVHN; coherence with
one draw for each item and subset, over all subsets but the whole, as means over classes and then
over subsets of a size: on 1,000 items of MNIST and SVHN, and 200 of PolyMNIST with five modalities
(75 pairs of a subset and a target), whose classifiers are trained for 10 steps.

The peer's model is trained for a few steps, and its weights are copied into ours; where all of them
can be (not the flows of JNF), the values of both must agree within the error of the draws.
Results: `results/evaluators.json` and `results/evaluators.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from curves import about
from evaluators_common import SHAPES, TASKS, Spec
from torch import nn

import polymodal
from polymodal.data import Dataset
from polymodal.metrics.classifier_training import ClassifierTraining
from polymodal.metrics.classifiers import Classifiers

HERE = Path(__file__).parent
OURS, PEER = "polymodal", "multivae"
SCRIPTS = {OURS: HERE / "evaluators_ours.py", PEER: HERE / "peer_evaluators.py"}
TRAIN, TEST = 1000, 1000  # items that are kept
# Tuples that are read, and steps of the classifiers, of which only the time matters; None: all.
LIMITS = {"mnist-svhn": (None, None), "polymnist": (1500, 10)}


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--peer-python", default=os.environ.get("PEER_PYTHON"))
    p.add_argument("--data", default=None, help="the folder of the named data sets")
    p.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--repeats", type=int, default=2, help="timed calls in each process")
    p.add_argument("--steps", type=int, default=300, help="of the peer's training")
    p.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "polymodal-evaluators"
    )
    p.add_argument("--out", type=Path, default=HERE / "results" / "evaluators.json")
    options = p.parse_args()
    if not options.peer_python:
        p.error("--peer-python must name a Python of an environment with multivae; see README.md")
    return options


def export(name: str, data: str | None, work: Path) -> None:
    """Items and classifiers of a data set, written once."""
    done = work / f"{name}-nets.pt"
    if done.exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    limit, steps = LIMITS[name]
    whole = polymodal.load_data(name, path=data, **({"limit": limit} if limit else {}))
    parts: list[tuple[str, Dataset, int]] = [
        ("train", whole.train, TRAIN),
        ("test", whole.test, TEST),
    ]
    for part, some, count in parts:
        x = some.batch(torch.arange(count)).x
        values = {m: x[m].float().contiguous() for m in SHAPES[name]}
        torch.save((values, some.label[:count].long()), work / f"{name}-{part}.pt")
    nets = Classifiers.fit_or_load(whole, ClassifierTraining(steps=steps), work / "classifiers")
    plain = {m: nn.Sequential(nets[m].net.features, nets[m].net.head) for m in SHAPES[name]}
    torch.save(plain, done)


def measured(python: str, side: str, spec: Spec) -> dict[str, Any]:
    """What a process printed."""
    file = spec.work / "spec.json"
    spec.write(file)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(spec.threads))
    path = str(HERE.parent / "src") if side == OURS else ""
    env = os.environ | threads | {"PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, str(SCRIPTS[side]), str(file)], env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{side} {spec.task} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def summary(name: str, rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Seconds, ratios by round, and the values of both."""
    task, found = TASKS[name], {}
    ratios = [median(r[PEER]["seconds"]) / median(r[OURS]["seconds"]) for r in rounds]
    for side in (OURS, PEER):
        values = [v for r in rounds for v in r[side]["values"]]
        seconds = [s for r in rounds for s in r[side]["seconds"]]
        spread = stdev(values) if len(values) > 1 else 0.0
        found[side] = {"seconds": seconds, "value": mean(values), "sd_of_calls": spread}
    ratio = {"ratio": median(ratios), "low": min(ratios), "high": max(ratios), "aim": task.aim}
    return {"items": task.items, "same_weights": task.equal, **ratio, **found}


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    facts, lines = results["about"], []
    loads = [row["load"] for row in results["tasks"].values()]
    for name, row in results["tasks"].items():
        ours, theirs = (row[side] for side in (OURS, PEER))
        seconds = [f"{median(side['seconds']):.1f}" for side in (ours, theirs)]
        values = [f"{side['value']:.4g} ± {side['sd_of_calls']:.2g}" for side in (ours, theirs)]
        ratio = [f"{row['ratio']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}", f"{row['aim']:g}"]
        same = "all" if row["same_weights"] else "all but the flows"
        calls = f"{row['rounds']} x {row['repeats']}"
        cells = [name, str(row["items"]), calls, row["cpu"], *seconds, *ratio, *values, same]
        lines.append(f"| {' | '.join(cells)} |")
    head = (
        f"polymodal {facts[OURS]}, multivae {facts[PEER]}, torch {facts['torch']}, one thread;"
        " rounds of calls in turns, on a machine with a load of"
        f" {min(loads):g} to {max(loads):g}. Seconds of processor time, medians; the ratio is that"
        " of seconds, above 1 where polymodal is faster; values ± their standard deviation between"
        " calls. What is timed: the docstring of `benchmarks/evaluators.py`."
    )
    columns = "task | items | rounds x calls | processor | polymodal, s | MultiVae, s | ratio | lowest to highest | aim"
    columns += " | value, polymodal | value, MultiVae | equal weights"
    table = "\n".join([f"| {columns} |", "|---" * len(columns.split(" | ")) + "|", *lines])
    return f"# Evaluators beside MultiVae\n\n{head}\n\n{table}\n"


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    pythons = {OURS: sys.executable, PEER: options.peer_python}
    results = json.loads(options.out.read_text()) if options.out.exists() else {"tasks": {}}
    settings = {"rounds": options.rounds, "repeats": options.repeats, "steps": options.steps}
    facts = about()
    cpu = {"cpu": facts.pop("cpu")}
    results["about"] = facts | {PEER: "1.0.3"}
    for name in options.only:
        export(TASKS[name].data, options.data, options.work)
        rounds = []
        for r in range(options.rounds):
            spec = Spec(name, options.work, options.repeats, r, options.steps)
            # The peer is first in the first round: it makes the weights.
            order = (PEER, OURS) if r % 2 == 0 else (OURS, PEER)
            rounds.append({side: measured(pythons[side], side, spec) for side in order})
        load = {"load": round(os.getloadavg()[1], 1)}
        results["tasks"][name] = summary(name, rounds) | settings | load | cpu
        options.out.write_text(json.dumps(results, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(page(results))
        row = results["tasks"][name]
        values = [f"{row[s]['value']:.3f} ± {row[s]['sd_of_calls']:.3f}" for s in (OURS, PEER)]
        print(
            f"{name}: {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            *values,
            flush=True,
        )


if __name__ == "__main__":
    main()
