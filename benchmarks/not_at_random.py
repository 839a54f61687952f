"""Entries that are missing because of their own value: a model of the mechanism, and none.

    python benchmarks/not_at_random.py [--data wine toy toy-mcar] [--seeds 0 1 2] [--show]

`wine`: the table of benchmarks/impute.py, cut as there. In every second column of numbers, 7 of 13, each value above the
column's mean is missing, as in the experiments of Ipsen, Mattei and Frellsen (2021, section 4.2); the class is complete.
`toy`: 1,000 rows of two tables of 4 and 3 normal columns that share two factors; of all but the first two columns an entry
u is missing with probability sigmoid(3 (u - .5)). `toy-mcar`: the same rows, each such entry missing with probability .35.

miwae as `polymodal init` recommends it, with mechanism=ignorable and mechanism=self_masking and nothing else set, on wine
also with high_missing; beside it
scikit-learn's IterativeImputer (Bayesian ridge) and the column's mean. Measures, on the missing numbers, in units of the
column's standard deviation before anything is removed, mean over columns: root mean squared error, and bias (what is filled
in minus the truth); the share of them that the model's own 90 % intervals hold; the slope and the log-odds at the mean that
were learned. A run that is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from impute import OTHERS, TABLES, split, table

import polymodal
from polymodal.checks.files import write
from polymodal.imputation import fill
from polymodal.settings.recommended import recommended

RESULTS = Path(__file__).parent / "results" / "not_at_random.json"
TOY = {"first": ["a0", "a1", "a2", "a3"], "second": ["b0", "b1", "b2"]}
CUTS = {"wine": TABLES["wine"], "toy": TOY, "toy-mcar": TOY}
LOADINGS = [[1, 0], [0.8, 0.6], [0, 1], [0.6, -0.8], [0.7, 0.7], [1, -0.3], [0.2, 1]]
MECHANISMS = ("ignorable", "self_masking", "high_missing")
PROPOSALS = 500


def toy(seed: int, rows: int = 1000) -> pd.DataFrame:
    """Normal columns of unit variance."""
    rng = np.random.default_rng(seed)
    loadings = np.array(LOADINGS) / np.linalg.norm(LOADINGS, axis=1, keepdims=True)
    z, noise = rng.standard_normal((rows, 2)), rng.standard_normal((rows, len(loadings)))
    return pd.DataFrame(0.8 * z @ loadings.T + 0.6 * noise, columns=[*chain(*TOY.values())])


def problem(name: str, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A complete table, and which of its entries are missing, (N, columns) bool."""
    if name == "wine":
        frame = table("wine")
        numbers = [c for c in frame if frame[c].dtype.kind == "f"][::2]
        holes = np.zeros(frame.shape, bool)
        for c in numbers:
            holes[:, frame.columns.get_loc(c)] = frame[c] > frame[c].mean()
        return frame, holes
    frame = toy(seed)
    chance = 1 / (1 + np.exp(-3 * (frame.to_numpy() - 0.5))) if name == "toy" else 0.35
    holes = np.random.default_rng(1000 + seed).random(frame.shape) < chance
    holes[:, :2] = False
    return frame, holes


def errors(done: pd.DataFrame, truth: pd.DataFrame, holes: np.ndarray) -> dict[str, float]:
    """Means over the columns of numbers of standardised errors."""
    squares, biases = [], []
    for i, c in enumerate(truth):
        if holes[:, i].any():
            gap = ((done[c] - truth[c])[holes[:, i]] / truth[c].std(ddof=0)).astype(float)
            squares.append(float(np.sqrt((gap**2).mean())))
            biases.append(float(gap.mean()))
    return {"rmse": float(np.mean(squares)), "bias": float(np.mean(biases))}


def ours(
    truth: pd.DataFrame, holes: np.ndarray, name: str, seed: int, mechanism: str
) -> dict[str, Any]:
    """The figures of miwae with a mechanism."""
    clock, frame = time.process_time(), truth.mask(holes)
    splits, whole = split(frame, name, seed, CUTS[name])
    advice = recommended(splits)
    settings = {**advice.options, **advice.training, "progress": False}
    run = polymodal.fit(advice.method, splits, seed=seed, mechanism=mechanism, **settings)
    torch.manual_seed(seed)
    filled = fill(run.model, whole, list(CUTS[name]), proposals=PROPOSALS)
    done, hits, learned = frame.copy(), [], {}
    for m in run.model.modalities:
        low, _, high = filled[m.name].quantiles.numpy()
        odds = run.model.mechanisms[m.name].odds() if run.model.mechanisms else None
        for i, column in enumerate(m.columns):
            c = column.name
            rows = holes[:, truth.columns.get_loc(c)]
            if not rows.any():
                continue
            done.loc[rows, c] = filled[m.name].center[rows, i].numpy()
            x = truth[c].to_numpy()[rows]
            hits.append((x >= low[rows, i]) & (x <= high[rows, i]))
            if odds is not None:
                learned[c] = [round(v[i].item(), 2) for v in (odds.intercept, odds.slope)]
    stage = next(iter(run.info["stages"].values()))
    found = errors(done, truth, holes) | {"own_coverage_90": float(np.concatenate(hits).mean())}
    found |= {"cpu_seconds": round(time.process_time() - clock, 1), "steps": stage["steps"]}
    return found | ({"intercept, slope": learned} if learned else {})


def measured(name: str, seed: int, before: dict[str, Any]) -> dict[str, Any]:
    """The figures of all imputers on one table; those of `before` are not run again."""
    truth, holes = problem(name, seed)
    found: dict[str, Any] = {"data": name, "seed": seed, "rows": len(truth)}
    found["missing"] = int(holes.sum())
    wanted = MECHANISMS if name == "wine" else MECHANISMS[:2]
    found["imputers"] = {
        f"miwae, {m}": before.get(f"miwae, {m}") or ours(truth, holes, name, seed, m)
        for m in wanted
    }
    for other in ("ridge, iterated", "marginal"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            done = OTHERS[other](truth.mask(holes), seed)
        found["imputers"][other] = errors(done, truth, holes)
    return found


NAMES = {
    "miwae, self_masking": "`miwae`, `self_masking`",
    "miwae, high_missing": "`miwae`, `high_missing`",
    "miwae, ignorable": "`miwae`, `ignorable`",
    "ridge, iterated": "ridge, iterated",
    "marginal": "the column's mean",
}


def table_of(runs: list[dict[str, Any]]) -> str:
    """The table of docs/missing.md: means over seeds of RMSE, bias, and what intervals hold."""
    groups = {name: [r for r in runs if r["data"] == name] for name in CUTS}
    groups = {name: own for name, own in groups.items() if own}
    head = " | ".join(f"{name} ({len(own)} seeds)" for name, own in groups.items())
    lines = [f"| imputer | {head} |", "|---" * (1 + len(groups)) + "|"]
    for imputer, words in NAMES.items():
        cells = [_cell(own, imputer) for own in groups.values()]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(runs: list[dict[str, Any]], imputer: str) -> str:
    """RMSE, bias, and what intervals hold; a dash if the imputer was not run."""
    figures = [r["imputers"][imputer] for r in runs if imputer in r["imputers"]]
    if not figures:
        return "–"
    rmse, bias = (float(np.mean([f[k] for f in figures])) for k in ("rmse", "bias"))
    cell = f"{rmse:.2f}, {bias:+.2f}"
    if "own_coverage_90" not in figures[0]:
        return cell
    return f"{cell}, {100 * float(np.mean([f['own_coverage_90'] for f in figures])):.0f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="*", choices=tuple(CUTS), default=list(CUTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="print the table of docs/missing.md")
    options = parser.parse_args()
    if options.show:
        print(table_of(json.loads(options.out.read_text())["runs"]))
        return
    torch.set_num_threads(1)
    runs = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    about = {"machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread"}
    about["torch"] = torch.__version__
    for seed in options.seeds:
        for name in options.data:
            old = [r for r in runs if (r["data"], r["seed"]) == (name, seed)]
            before = old[0]["imputers"] if old else {}
            if before and (name != "wine" or f"miwae, {MECHANISMS[-1]}" in before):
                continue
            found = measured(name, seed, before)
            runs = [*(r for r in runs if r not in old), found]
            runs.sort(key=lambda r: (list(CUTS).index(r["data"]), r["seed"]))
            text = json.dumps({"about": about, "runs": runs}, indent=1) + "\n"
            write(options.out, text.encode())
            for imputer, each in found["imputers"].items():
                print(name, seed, imputer, {k: each[k] for k in ("rmse", "bias")}, flush=True)


if __name__ == "__main__":
    main()
