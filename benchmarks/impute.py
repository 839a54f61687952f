"""Filling in tables with holes, by defaults only, beside other imputers.

    python benchmarks/impute.py [--tables wine fair ...] [--seeds 5] [--rate 0.3] [--mechanism mcar|mar]

Four public tables, cut into two modalities as TABLES states; nothing else is said about them: types, method,
network, latent and training are what `polymodal init` writes. A share of the entries is removed, at random or at
rates that depend on one column; every imputer fits and fills the same table. Beside it: the column's own mean or mode,
scikit-learn's IterativeImputer (Bayesian ridge, and a forest) and KNNImputer on standardised numbers and one-hot
categories, and miceforest where it is installed. Measures, on the removed entries: root mean squared error of numbers
in units of the column's standard deviation, mean over columns; error rate of categories, mean over columns; for ours also
the coverage of 50, 80, 90 and 95 % intervals. Results go to benchmarks/results/impute.json, run by run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

import polymodal
from polymodal.data import Splits
from polymodal.data.described import read_described, read_rows
from polymodal.imputation import fill
from polymodal.settings.recommended import recommended

RESULTS = Path(__file__).parent / "results" / "impute.json"
LEVELS = (0.5, 0.8, 0.9, 0.95)
WHOLE = 0.2  # share of the rows that lose a modality under the mechanism "whole"
# How entries are removed.
MECHANISMS = {
    "mcar": "each with the same probability",
    "mar": "with a probability that rises in the rank of the first numeric column, from 0 to twice the rate; that column"
    " is complete (wine: alcohol, fair: age, anes96: popul, modechoice: ttme)",
    "whole": "as mcar; beside it, a fifth of the rows lose one of the two modalities, each as often",
}
OCCUPATIONS = ("student", "farming", "white-collar", "teacher", "managerial", "professional")

# {table: {modality: columns}}, stated before anything was run. Categories are written as words.
TABLES = {
    "wine": {
        "chemistry": [
            "alcohol",
            "malic_acid",
            "ash",
            "alcalinity_of_ash",
            "magnesium",
            "total_phenols",
            "flavanoids",
            "nonflavanoid_phenols",
            "proanthocyanins",
        ],
        "glass": ["color_intensity", "hue", "od280/od315_of_diluted_wines", "proline", "cultivar"],
    },
    "fair": {
        "person": ["age", "religious", "educ", "occupation", "occupation_husb"],
        "marriage": ["rate_marriage", "yrs_married", "children", "affairs"],
    },
    "anes96": {
        "person": ["popul", "age", "educ", "income", "TVnews"],
        "politics": ["selfLR", "ClinLR", "DoleLR", "PID", "vote"],
    },
    "modechoice": {
        "trip": ["mode", "choice", "ttme", "invc", "invt", "gc"],
        "household": ["hinc", "psize"],
    },
}


def table(name: str) -> pd.DataFrame:
    """The whole table, categories as words."""
    if name == "wine":
        from sklearn.datasets import load_wine

        frame = load_wine(as_frame=True).frame.rename(columns={"target": "cultivar"})
        frame["cultivar"] = frame.cultivar.map({0: "first", 1: "second", 2: "third"})
    else:
        import statsmodels.api as sm

        frame = getattr(sm.datasets, name).load_pandas().data
    if name == "fair":
        for column in ("occupation", "occupation_husb"):
            frame[column] = [OCCUPATIONS[int(v) - 1] for v in frame[column]]
    if name == "anes96":
        frame["vote"] = frame.vote.map({0.0: "Clinton", 1.0: "Dole"})
    if name == "modechoice":
        frame["mode"] = frame["mode"].map({1.0: "air", 2.0: "train", 3.0: "bus", 4.0: "car"})
        frame["choice"] = frame.choice.map({0.0: "no", 1.0: "yes"})
    return frame[[c for columns in TABLES[name].values() for c in columns]]


def removed(
    frame: pd.DataFrame, name: str, rate: float, mechanism: str, rng: np.random.Generator
) -> np.ndarray:
    """Which entries are removed, (N, columns) bool, by one of MECHANISMS. A row that would lose all keeps one entry."""
    chance = np.full(frame.shape, rate)
    if mechanism == "mar":
        driver = frame.select_dtypes("number").columns[0]
        rank = frame[driver].rank(pct=True).to_numpy()
        chance = np.repeat(2 * rate * rank[:, None], frame.shape[1], 1)
        chance[:, list(frame.columns).index(driver)] = 0
    holes = rng.random(frame.shape) < chance
    if mechanism == "whole":
        loses = rng.random(len(frame)) < WHOLE
        which = rng.integers(0, len(TABLES[name]), len(frame))
        for k, columns in enumerate(TABLES[name].values()):
            places = [list(frame.columns).index(c) for c in columns]
            holes[np.ix_(loses & (which == k), places)] = True
    empty = holes.all(1)
    holes[empty, rng.integers(0, frame.shape[1], empty.sum())] = False
    return holes


# Imputers: (frame with holes, seed) -> completed frame.


def ours(
    frame: pd.DataFrame, name: str, seed: int, options: dict, training: dict
) -> tuple[pd.DataFrame, dict, dict]:
    """The completed table; {level: {column: (2, N) bounds}} of numbers; and what was chosen."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.csv"
        frame.to_csv(path, index=False)
        modalities = {m: {"columns": columns} for m, columns in TABLES[name].items()}
        section = {"file": path.name, "path": folder, "modalities": modalities}
        splits = read_described(section, name, seed).splits
        whole = read_rows(splits.modalities, section, path)
    rows = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    cut = max(10, len(whole) // 10)
    val, train = whole.take(rows[:cut]), whole.take(rows[cut:])
    splits = Splits(train, val, val, name)
    advice = recommended(splits)
    chosen = {"method": advice.method, **advice.options, **options}
    training = {**advice.training, **training}
    method = chosen.pop("method")
    run = polymodal.fit(method, splits, seed=seed, progress=False, **chosen, **training)
    levels = sorted({round(a, 4) for c in LEVELS for a in ((1 - c) / 2, (1 + c) / 2)})
    filled = fill(run.model, whole, list(TABLES[name]), levels=levels)
    done, bounds = frame.copy(), {c: {} for c in LEVELS}
    for m in run.model.modalities:
        for i, about in enumerate(m.columns):
            column = about.name
            holes, center = frame[column].isna().to_numpy(), filled[m.name].center[:, i].numpy()
            if about.categories:
                words = np.array(about.categories, dtype=object)
                words = words.astype(float) if frame[column].dtype.kind == "f" else words
                done.loc[holes, column] = words[center.astype(int)][holes]
                continue
            done[column] = np.where(holes, center, done[column])
            for c in LEVELS:
                low, high = levels.index(round((1 - c) / 2, 4)), levels.index(round((1 + c) / 2, 4))
                bounds[c][column] = filled[m.name].quantiles[[low, high], :, i].numpy()
    ess = float(torch.cat([f.ess for f in filled.values()]).median())
    stage = next(iter(run.info["stages"].values()))
    figures = {
        k: stage.get(k) for k in ("steps", "epochs", "best_epoch", "seconds", "best_val_loss")
    }
    return (
        done,
        bounds,
        {"method": method, "options": chosen, "training": training, "ess": ess, **figures},
    )


def marginal(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The mean of numbers, the mode of categories."""
    value = {c: x.mean() if x.dtype.kind == "f" else x.mode()[0] for c, x in frame.items()}
    return frame.fillna(value)


def encoded(
    frame: pd.DataFrame,
) -> tuple[np.ndarray, list[tuple[str, list[str] | None, slice, float, float]]]:
    """Standardised numbers and categories (N, F) with NaN in holes, and what they stand for. A category has one column
    for each word but the first: with all of them, linear models find that they add up to 1 and nothing else.
    """
    blocks, plan, at = [], [], 0
    for c, x in frame.items():
        if x.dtype.kind == "f":
            mean, spread = x.mean(), x.std(ddof=0) or 1.0
            blocks.append(((x - mean) / spread).to_numpy()[:, None])
            plan.append((c, None, slice(at, at + 1), mean, spread))
        else:
            words = sorted(x.dropna().unique())
            block = np.stack([(x == w).to_numpy(float) for w in words[1:]], 1)
            block[x.isna().to_numpy()] = np.nan
            blocks.append(block)
            plan.append((c, words, slice(at, at + len(words) - 1), 0.0, 1.0))
        at += blocks[-1].shape[1]
    return np.concatenate(blocks, 1), plan


def by_sklearn(make: Callable[[int], Any]) -> Callable[[pd.DataFrame, int], pd.DataFrame]:
    """An imputer of arrays as one of tables."""

    def complete(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
        x, plan = encoded(frame)
        full, done = make(seed).fit_transform(x), frame.copy()
        for c, words, part, mean, spread in plan:
            holes, block = frame[c].isna().to_numpy(), full[:, part]
            if words is None:
                done.loc[holes, c] = (mean + spread * block[:, 0])[holes]
            else:
                share = np.concatenate([1 - block.sum(1, keepdims=True), block], 1)
                done.loc[holes, c] = np.array(words, dtype=object)[share.argmax(1)][holes]
        return done

    return complete


def _bayesian_ridge(seed: int) -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    return IterativeImputer(random_state=seed, max_iter=20)


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    forest = RandomForestRegressor(50, max_depth=10, n_jobs=1, random_state=seed)
    return IterativeImputer(forest, random_state=seed, max_iter=5)


def _neighbours(seed: int) -> Any:
    from sklearn.impute import KNNImputer

    return KNNImputer()


def by_miceforest(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """miceforest with its defaults, five iterations."""
    import miceforest

    typed = frame.copy()
    for c in typed.select_dtypes(exclude="number"):
        typed[c] = typed[c].astype("category")
    typed.columns = [f"c{i}" for i in range(typed.shape[1])]
    kernel = miceforest.ImputationKernel(typed, num_datasets=1, random_state=seed)
    kernel.mice(5)
    done = kernel.complete_data(0)
    done.columns = frame.columns
    return done


OTHERS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "marginal": marginal,
    "ridge, iterated": by_sklearn(_bayesian_ridge),
    "forest, iterated": by_sklearn(_forest),
    "neighbours": by_sklearn(_neighbours),
    "miceforest": by_miceforest,
}


def scored(done: pd.DataFrame, truth: pd.DataFrame, holes: np.ndarray) -> dict[str, float]:
    """Standardised RMSE over columns of numbers, error rate over columns of categories."""
    errors, wrong = [], []
    for i, c in enumerate(truth):
        rows = holes[:, i]
        if not rows.any():
            continue
        if truth[c].dtype.kind == "f":
            gap = (done[c] - truth[c])[rows].astype(float) / truth[c].std(ddof=0)
            errors.append(float(np.sqrt((gap**2).mean())))
        else:
            wrong.append(float((done[c].astype(object) != truth[c].astype(object))[rows].mean()))
    found = {"rmse": float(np.mean(errors))}
    return found | ({"error_rate": float(np.mean(wrong))} if wrong else {})


def coverage(bounds: dict, truth: pd.DataFrame, holes: np.ndarray) -> dict[str, dict[str, float]]:
    """{level: the share of removed numbers within the bounds, how many, and the mean width in standard deviations}."""
    found = {}
    for level, columns in bounds.items():
        inside, widths = [], []
        for c, (low, high) in columns.items():
            rows, x = holes[:, list(truth).index(c)], truth[c].to_numpy()
            tiny = 1e-6 * truth[c].std()
            inside.append(((x >= low - tiny) & (x <= high + tiny))[rows])
            widths.append(((high - low) / truth[c].std(ddof=0))[rows])
        inside, widths = np.concatenate(inside), np.concatenate(widths)
        found[str(level)] = {
            "coverage": float(inside.mean()),
            "n": len(inside),
            "width": float(widths.mean()),
        }
    return found


def measured(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """All imputers on one table with holes."""
    truth = table(name)
    holes = removed(truth, options.rate, options.mechanism, np.random.default_rng(seed))
    frame = truth.mask(holes)
    found: dict[str, Any] = {
        "table": name,
        "seed": seed,
        "rate": options.rate,
        "mechanism": options.mechanism,
    }
    found |= {"rows": len(truth), "removed": int(holes.sum()), "imputers": {}}
    clock = time.perf_counter()
    done, bounds, chosen = ours(frame, name, seed, dict(options.method), dict(options.training))
    found["imputers"]["polymodal"] = scored(done, truth, holes) | {
        "seconds": round(time.perf_counter() - clock, 1)
    }
    found |= {"coverage": coverage(bounds, truth, holes), "chosen": chosen}
    for imputer, complete in {} if options.ours else OTHERS.items():
        clock = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                score = scored(complete(frame, seed), truth, holes)
        except ImportError:
            continue
        found["imputers"][imputer] = score | {"seconds": round(time.perf_counter() - clock, 1)}
    return found


def _pair(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    return key, yaml.safe_load(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="*", default=list(TABLES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--mechanism", choices=("mcar", "mar"), default="mcar")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--ours", action="store_true", help="leave the others out")
    parser.add_argument(
        "--method",
        nargs="*",
        type=_pair,
        default=[],
        help="other options of the method, to try them",
    )
    parser.add_argument(
        "--training", nargs="*", type=_pair, default=[], help="other settings of the training"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    for seed in options.seeds:
        for name in options.tables:
            key = (name, seed, options.rate, options.mechanism)
            if any((r["table"], r["seed"], r["rate"], r["mechanism"]) == key for r in runs):
                continue
            runs.append(measured(name, seed, options))
            about = {
                "machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread",
                "torch": torch.__version__,
            }
            options.out.write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")
            last = runs[-1]
            print(
                name,
                seed,
                {k: {m: round(v, 3) for m, v in x.items()} for k, x in last["imputers"].items()},
            )
            print(
                "  ",
                {k: {m: round(v, 3) for m, v in x.items()} for k, x in last["coverage"].items()},
                flush=True,
            )


if __name__ == "__main__":
    main()
