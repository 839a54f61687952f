"""Filling in tables with holes, by defaults only, beside other imputers.

    python benchmarks/impute.py [--tables wine fair ...] [--seeds 0 1 ...] [--rate 0.3] [--mechanism mcar|mar|whole]

Four public tables, cut into two modalities as TABLES states; nothing else is said about them: types, method,
network, latent and training are what `polymodal init` writes. A share of the entries is removed, in one of the ways of
MECHANISMS; every imputer fits and fills the same table. Beside it: the column's own mean or mode, scikit-learn's
IterativeImputer (Bayesian ridge, and a forest) and KNNImputer on standardised numbers and one-hot categories, and
miceforest where it is installed. Measures, on the removed entries: root mean squared error of numbers (whole numbers
that are ordinal included) in units of the column's standard deviation, mean over columns; error rate of categories, mean
over columns; for ours also the coverage and the mean width of 50, 80, 90 and 95 % intervals, stretched by what the
validation rows say, and the calibration error of the probabilities of categories (boolean and ordinal ones included)
before and after their temperature. Ours gives ordinal numbers back as levels, as which they came; the others give
values between them. So the error of numbers is there twice more, of all imputers alike: with ordinal numbers moved to
the nearest level (`rmse_levels`), and between levels (`rmse_between`, of ours the mean). Results go to benchmarks/results/impute.json, run by run; a run that is there is not
repeated, and `--runs FOLDER` keeps what was trained, so that a run that was killed goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

import polymodal
from polymodal.batch import Modality
from polymodal.data import Dataset, Splits, read_described, read_rows
from polymodal.imputation import Calibration, Filled, calibrate, fill, widened
from polymodal.imputation.conformal import LEVELS, QUANTILES, held, places_of
from polymodal.imputation.measures import clustered
from polymodal.metrics.scoring import BINS
from polymodal.settings.recommended import recommended

RESULTS = Path(__file__).parent / "results" / "impute.json"
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


# Ours.


def split(
    frame: pd.DataFrame, name: str, seed: int, cuts: dict[str, list[str]]
) -> tuple[Splits, Dataset]:
    """The table, cut into modalities, as `polymodal init` reads it: nine tenths for training, a tenth for validation; and all rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.csv"
        frame.to_csv(path, index=False)
        modalities = {m: {"columns": columns} for m, columns in cuts.items()}
        section = {"file": path.name, "path": folder, "modalities": modalities}
        splits = read_described(section, name, seed).splits
        whole = read_rows(splits.modalities, section, path)
    rows = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))
    cut = max(10, len(whole) // 10)
    val, train = whole.take(rows[:cut]), whole.take(rows[cut:])
    return Splits(train, val, val, name), whole


def trained(splits: Splits, seed: int, options: argparse.Namespace, folder: str) -> tuple:
    """The run, kept in the folder of `--runs` if there is one, and what was chosen."""
    advice = recommended(splits)
    chosen = {"method": advice.method, **advice.options, **dict(options.method)}
    training = {**advice.training, **dict(options.training)}
    about = {
        "method": chosen["method"],
        "options": {k: v for k, v in chosen.items() if k != "method"},
    }
    out = options.runs / folder if options.runs else None
    method = chosen.pop("method")
    run = polymodal.fit(method, splits, seed=seed, progress=False, out=out, **chosen, **training)
    stage = next(iter(run.info["stages"].values()))
    names = ("steps", "epochs", "best_epoch", "seconds", "best_val_loss")
    return run, about | {"training": training} | {k: stage.get(k) for k in names}


def ours(
    truth: pd.DataFrame, frame: pd.DataFrame, name: str, seed: int, options: argparse.Namespace
) -> tuple[pd.DataFrame, pd.DataFrame, dict, dict]:
    """The completed table, and it with ordinal numbers between levels; figures of intervals and probabilities on the removed entries; what was chosen, and seconds
    of filling and of calibration.
    """
    splits, whole = split(frame, name, seed, TABLES[name])
    run, chosen = trained(splits, seed, options, f"{name}-{options.mechanism}-{seed}")
    torch.manual_seed(seed)
    clock = time.perf_counter()
    filled = fill(run.model, whole, list(TABLES[name]), levels=QUANTILES)
    middle = time.perf_counter()
    calibration = calibrate(run, splits, seed=seed)
    chosen["filling"] = round(middle - clock, 1)
    chosen["calibration"] = round(time.perf_counter() - middle, 1)
    chosen["ess"] = float(torch.cat([f.ess for f in filled.values()]).median())
    chosen["temperatures"] = [t.model_dump() for t in calibration.temperatures]
    chosen["moved"] = [s.model_dump() for s in calibration.shrinkages if s.weight < 1]
    done, between, found = frame.copy(), {}, _Figures(truth)
    for m in run.model.modalities:
        lost = ~whole.is_present(m.name)
        known = calibration.moved(filled[m.name], m, lost)
        bounds = {c: _bounds(known, calibration, k, m, lost) for k, c in enumerate(LEVELS)}
        own = {c: known.quantiles[places_of(k)[::2]] for k, c in enumerate(LEVELS)}
        shares = held(known, calibration, m, lost)
        for i, about in enumerate(m.columns):
            column = about.name
            holes, center = frame[column].isna().to_numpy(), known.center[:, i].numpy()
            if about.categories:
                words = np.array(about.categories, dtype=object)
                words = words.astype(float) if frame[column].dtype.kind == "f" else words
                done.loc[holes, column] = words[center.astype(int)][holes]
                if about.type == "ordinal" and words.dtype.kind == "f":
                    means = known.probabilities[i].numpy() @ words
                    between[column] = np.where(holes, means, done[column])
                found.add_probabilities(column, holes, words, known.probabilities[i], shares[i])
                continue
            done[column] = np.where(holes, center, done[column])
            intervals = {c: x[:, :, i].numpy() for c, x in bounds.items()}
            found.add_intervals(
                column, holes, intervals, {c: x[:, :, i].numpy() for c, x in own.items()}, frame
            )
    return done, done.assign(**between), found.figures(), chosen


def _bounds(known: Filled, calibration: Calibration, k: int, m: Modality, lost: Tensor) -> Tensor:
    """The intervals (2, N, d) that are given to a user, at the k-th of LEVELS."""
    three = replace(known, quantiles=known.quantiles[places_of(k)])
    return torch.stack(widened(three, calibration, LEVELS[k], m, lost))


class _Figures:
    """Figures of intervals and of probabilities, over all columns."""

    def __init__(self, truth: pd.DataFrame) -> None:
        self.truth = truth
        self.inside: dict[float, list] = {c: [] for c in LEVELS}
        self.rows: list[np.ndarray] = []
        self.bins = {name: np.zeros((BINS, 4)) for name in ("given", "own")}

    def add_intervals(
        self, column: str, holes: np.ndarray, given: dict, own: dict, frame: pd.DataFrame
    ) -> None:
        x, spread = self.truth[column].to_numpy(), self.truth[column].std(ddof=0)
        tiny = 1e-6 * spread
        for c in LEVELS:
            low, high = np.nanquantile(frame[column], [(1 - c) / 2, (1 + c) / 2])
            marginal = np.stack([np.full(len(x), low), np.full(len(x), high)])
            for which in (given[c], own[c], marginal):
                hit = ((x >= which[0] - tiny) & (x <= which[1] + tiny))[holes]
                self.inside[c].append((hit, ((which[1] - which[0]) / spread)[holes]))
        self.rows.append(holes.nonzero()[0])

    def add_probabilities(
        self, column: str, holes: np.ndarray, words: np.ndarray, own: Tensor, given: Tensor
    ) -> None:
        """Sums by bins: how many entries, probabilities, hits, and variances of hits if probabilities hold."""
        x = self.truth[column].to_numpy()
        for name, p in (("given", given), ("own", own)):
            p = p.double().numpy()
            top, right = p.max(1), words[p.argmax(1)] == x
            place = np.clip((top * BINS).astype(int), 0, BINS - 1)
            for k, value in enumerate((np.ones_like(top), top, right, top * (1 - top))):
                np.add.at(self.bins[name][:, k], place[holes], value[holes])

    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = {"coverage": {}, "probabilities": {}}
        rows = np.concatenate(self.rows)
        for c, parts in self.inside.items():
            given, own, marginal = (parts[k::3] for k in range(3))
            hits = np.concatenate([hit for hit, _ in given])
            share, error = clustered(torch.tensor(hits).double(), torch.tensor(rows))
            found["coverage"][str(c)] = {
                "coverage": share,
                "se": error,
                "own": float(np.concatenate([hit for hit, _ in own]).mean()),
                "n": len(hits),
                "width": float(np.concatenate([w for _, w in given]).mean()),
                "marginal_width": float(np.concatenate([w for _, w in marginal]).mean()),
            }
        found["probabilities"] = {name: calibration_errors(x) for name, x in self.bins.items()}
        return found


def calibration_errors(bins: np.ndarray) -> dict[str, Any]:
    """The expected calibration error, and that which is expected by chance of as many probabilities that hold (the sum
    of normal deviates' sizes); with the sums, so that runs can be pooled.
    """
    n = bins[:, 0].sum()
    if not n:
        return {"n": 0}
    error = np.abs(bins[:, 1] - bins[:, 2]).sum() / n
    chance = np.sqrt(2 / np.pi * bins[:, 3]).sum() / n
    sums = [[float(f"{v:.6g}") for v in row] for row in bins]
    return {"n": int(n), "error": float(error), "by_chance": float(chance), "bins": sums}


# Imputers: (frame with holes, seed) -> completed frame.


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


def scored(done: pd.DataFrame, truth: pd.DataFrame, holes: np.ndarray) -> dict[str, Any]:
    """Standardised RMSE over columns of numbers, error rate over columns of categories, and both column by column."""
    errors, wrong = {}, {}
    for i, c in enumerate(truth):
        rows = holes[:, i]
        if not rows.any():
            continue
        if truth[c].dtype.kind == "f":
            gap = (done[c] - truth[c])[rows].astype(float) / truth[c].std(ddof=0)
            errors[c] = float(np.sqrt((gap**2).mean()))
        else:
            wrong[c] = float((done[c].astype(object) != truth[c].astype(object))[rows].mean())
    found: dict[str, Any] = {"rmse": float(np.mean(list(errors.values())))}
    if wrong:
        found["error_rate"] = float(np.mean(list(wrong.values())))
    return found | {"columns": {c: round(v, 4) for c, v in (errors | wrong).items()}}


def on_levels(done: pd.DataFrame, frame: pd.DataFrame, ordinal: list[str]) -> pd.DataFrame:
    """The completed table with ordinal numbers moved to the nearest value that is observed."""
    moved = {}
    for c in ordinal:
        levels, x = np.sort(frame[c].dropna().unique()), done[c].to_numpy(float)
        moved[c] = levels[np.abs(x[:, None] - levels).argmin(1)]
    return done.assign(**moved)


def lost_only(name: str, truth: pd.DataFrame, holes: np.ndarray) -> np.ndarray:
    """The holes of rows that lack the whole modality."""
    lost = np.zeros_like(holes)
    for columns in TABLES[name].values():
        places = [list(truth.columns).index(c) for c in columns]
        lost[np.ix_(holes[:, places].all(1), places)] = True
    return lost


def measured(
    name: str, seed: int, options: argparse.Namespace, before: dict[str, Any]
) -> dict[str, Any]:
    """All imputers on one table with holes; those of `before` are not run again, but for ours."""
    truth = table(name)
    holes = removed(truth, name, options.rate, options.mechanism, np.random.default_rng(seed))
    frame = truth.mask(holes)
    found: dict[str, Any] = {
        "table": name,
        "seed": seed,
        "rate": options.rate,
        "mechanism": options.mechanism,
    }
    imputers = dict(before.get("imputers", {}))
    found |= {"rows": len(truth), "removed": int(holes.sum()), "imputers": imputers}
    clock = time.perf_counter()
    done, between, figures, chosen = ours(truth, frame, name, seed, options)
    ordinal = [c for c in truth if not (between[c].equals(done[c]))]
    seconds = time.perf_counter() - clock

    def scores(done: pd.DataFrame, between: pd.DataFrame, seconds: float) -> dict[str, Any]:
        alike = {"levels": on_levels(done, frame, ordinal), "between": between}
        return all_scores(done, alike, truth, holes, name, options.mechanism, seconds)

    imputers["polymodal"] = scores(done, between, seconds)
    found |= figures | {"chosen": chosen}
    for imputer, complete in {} if options.ours else OTHERS.items():
        known = "rmse_levels" in imputers.get(imputer, {}) and imputer != "marginal"
        if imputer in options.leave_out or known:
            continue
        clock = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                done = complete(frame, seed)
        except ImportError:
            continue
        imputers[imputer] = scores(done, done, time.perf_counter() - clock)
    return found


def all_scores(
    done: pd.DataFrame,
    alike: dict[str, pd.DataFrame],
    truth: pd.DataFrame,
    holes: np.ndarray,
    name: str,
    mechanism: str,
    seconds: float,
) -> dict[str, Any]:
    """Scores on all holes, and under the mechanism "whole" also on the modalities that rows lack as a whole."""
    score = _scored(done, alike, truth, holes) | {"seconds": round(seconds, 1)}
    if mechanism != "whole":
        return score
    lost = _scored(done, alike, truth, lost_only(name, truth, holes))
    return score | {f"{k}_lost": v for k, v in lost.items()}


def _scored(
    done: pd.DataFrame, alike: dict[str, pd.DataFrame], truth: pd.DataFrame, holes: np.ndarray
) -> dict[str, Any]:
    """`scored`, and the errors of numbers where ordinal ones are alike."""
    others = {f"rmse_{k}": scored(x, truth, holes)["rmse"] for k, x in alike.items()}
    return scored(done, truth, holes) | others


# The tables of docs/impute.md.

TITLES = {
    "mcar": "Entries removed completely at random:",
    "mar": "Entries removed at rates that rise with the first numeric column:",
    "whole": "Entries removed at random, and one of the two modalities from a fifth of the rows:",
    "lost": "Of these, the cells of modalities that are missing as a whole:",
    "alike": "Numbers of the first table again, ordinal ones of all imputers moved to the nearest level, and between levels"
    " (ours as the mean of their probabilities):",
    "held": "Intervals and probabilities that are given to a user, beside the model's own:",
}
ALIKE = ("levels", "between")  # ordinal numbers of all imputers
NAMES = {"polymodal": "polymodal", **dict.fromkeys(OTHERS), "neighbours": "nearest neighbours"}
NAMES |= {"marginal": "the column's mean or mode"}
ORDER = ("polymodal", "forest, iterated", "ridge, iterated", "neighbours", "miceforest", "marginal")


def _number(value: float) -> str:
    return f"{value:.3f}".lstrip("0")


def _mean(runs: list, imputer: str, figure: str) -> str:
    values = [r["imputers"][imputer][figure] for r in runs if imputer in r["imputers"]]
    return _number(float(np.mean(values))) if values else ""


def point_table(runs: list, mechanism: str, lost: str = "") -> list[str]:
    """Rows of markdown: errors of all imputers on each table, means over seeds.

    Args:
        lost: "_lost" for the modalities that rows lack as a whole.
    """
    groups = _groups(runs, mechanism)
    head = [f"{name} ({r[0]['rows']:,} rows, {_seeds(r)})" for name, r in groups.items()]
    lines = [f"| imputer | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    for imputer in ORDER:
        pairs = [_pair_of(r, imputer, lost) for r in groups.values()]
        lines.append(f"| {NAMES[imputer] or imputer} | {' | '.join(pairs)} |")
    return lines


def alike_table(runs: list) -> list[str]:
    """Rows of markdown: errors of numbers of all imputers with ordinal ones on levels and between."""
    has = [r for r in runs if "rmse_levels" in r["imputers"].get("polymodal", {})]
    groups = {k: r for k, r in _groups(has, "mcar").items() if _has_levels(r)}
    head = [f"{name} ({_seeds(r)})" for name, r in groups.items()]
    lines = [f"| imputer | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    for imputer in ORDER:
        pairs = [[_mean(r, imputer, f"rmse_{k}") for k in ALIKE] for r in groups.values()]
        cells = [", ".join(pair) if all(pair) else "–" for pair in pairs]
        lines.append(f"| {NAMES[imputer] or imputer} | {' | '.join(cells)} |")
    return lines


def _has_levels(runs: list) -> bool:
    """Whether there are ordinal numbers."""
    own = runs[0]["imputers"]["polymodal"]
    return own["rmse_levels"] != own["rmse_between"]


def _pair_of(runs: list, imputer: str, lost: str) -> str:
    """RMSE and error rate; a dash if the imputer was not run on the table."""
    figures = [_mean(runs, imputer, f"{name}{lost}") for name in ("rmse", "error_rate")]
    return ", ".join(figures) if all(figures) else "–"


def held_table(runs: list) -> list[str]:
    """Rows of markdown: what intervals of 90 % hold, and how wide they are; calibration errors, by mechanism."""
    lines = [
        "| table | removed | numbers | 90 % intervals hold | the model's own | width (marginal's) "
        "| categories | calibration error | before | by chance |",
        "|---" * 10 + "|",
    ]
    for mechanism in MECHANISMS:
        for name, group in _groups(runs, mechanism).items():
            parts = [r["coverage"]["0.9"] for r in group]
            n = [x["n"] for x in parts]
            mean = {k: float(np.average([x[k] for x in parts], weights=n)) for k in parts[0]}
            error = math.sqrt(sum((x["se"] * x["n"]) ** 2 for x in parts)) / sum(n)
            bins = {
                k: calibration_errors(sum(np.array(r["probabilities"][k]["bins"]) for r in group))
                for k in ("given", "own")
            }
            cells = [
                f"{name} ({_seeds(group)})",
                mechanism,
                f"{sum(n):,}",
                f"{100 * mean['coverage']:.1f} ± {100 * error:.1f} %",
                f"{100 * mean['own']:.1f} %",
                f"{mean['width']:.2f} ({mean['marginal_width']:.2f})",
                f"{bins['given']['n']:,}",
                *(
                    _number(bins[a][b])
                    for a, b in (("given", "error"), ("own", "error"), ("given", "by_chance"))
                ),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _groups(runs: list, mechanism: str) -> dict[str, list]:
    """{table: its runs}, of those that have figures of ours."""
    own = [r for r in runs if r["mechanism"] == mechanism and "probabilities" in r]
    return {name: found for name in TABLES if (found := [r for r in own if r["table"] == name])}


def _seeds(runs: list) -> str:
    return f"{len(runs)} seed{'s' * (len(runs) > 1)}"


def tables(runs: list) -> str:
    """All tables of docs/impute.md."""
    parts = [(TITLES[m], point_table(runs, m)) for m in MECHANISMS if _groups(runs, m)]
    if _groups(runs, "whole"):
        parts.append((TITLES["lost"], point_table(runs, "whole", "_lost")))
    parts += [(TITLES["alike"], alike_table(runs)), (TITLES["held"], held_table(runs))]
    return "\n\n".join("\n".join([title, "", *lines]) for title, lines in parts)


def _pair(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    return key, yaml.safe_load(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", nargs="*", default=list(TABLES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--rate", type=float, default=0.3)
    parser.add_argument("--mechanism", choices=tuple(MECHANISMS), default="mcar")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--runs", type=Path, help="a folder in which trained runs are kept")
    parser.add_argument("--again", action="store_true", help="measure ours again where it is there")
    parser.add_argument("--leave-out", nargs="*", default=[], help="some of the others")
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
    parser.add_argument("--show", action="store_true", help="print the tables of docs/impute.md")
    options = parser.parse_args()
    if options.show:
        print(tables(json.loads(options.out.read_text())["runs"]))
        return
    torch.set_num_threads(1)
    runs = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
    for seed in options.seeds:
        for name in options.tables:
            key = (name, seed, options.rate, options.mechanism)
            old = [r for r in runs if (r["table"], r["seed"], r["rate"], r["mechanism"]) == key]
            if old and not options.again:
                continue
            found = measured(name, seed, options, old[0] if old else {})
            written = json.loads(options.out.read_text())["runs"] if options.out.exists() else []
            kept = [r for r in written if (r["table"], r["seed"], r["rate"], r["mechanism"]) != key]
            runs = sorted([*kept, found], key=lambda r: (r["mechanism"], r["table"], r["seed"]))
            about = {
                "machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread",
                "torch": torch.__version__,
            }
            options.out.write_text(json.dumps({"about": about, "runs": runs}, indent=1) + "\n")
            said = {
                k: [round(x.get(m, 0), 3) for m in ("rmse", "error_rate", "seconds")]
                for k, x in found["imputers"].items()
            }
            print(name, seed, options.mechanism, said)
            print(
                "  ", {k: [round(v, 3) for v in x.values()] for k, x in found["coverage"].items()}
            )
            print(
                "  ",
                {
                    k: {m: v for m, v in x.items() if m != "bins"}
                    for k, x in found["probabilities"].items()
                },
                flush=True,
            )


if __name__ == "__main__":
    main()
