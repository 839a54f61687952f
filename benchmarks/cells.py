"""Proteins from RNA, and chromatin and RNA from one another, by defaults only.

    python benchmarks/cells.py cite FILE.h5mu [--seeds 0 1 2] [--out benchmarks/results]
    python benchmarks/cells.py snare FILE.npz

FILE is read as `polymodal init` describes it, and trained as it recommends; nothing else is said. A fifth of the cells
is for testing, a tenth for validation, split with the seed. Of each test cell one modality is hidden and filled in from
the other. Beside it, with the same cells: ridge regression (its strength for each feature by leave-one-out, on training
and validation cells) and the 10 nearest neighbours, both on all features and on 50 principal components; of counts they
read log(1 + 10^4 x / total), standardised.

The measure is the RMSE of each feature in units of its standard deviation over training cells, mean over features: of
values as they are, and of counts also of log(1 + x) (competitors are then fitted to log(1 + x); ours is the mean of
log(1 + x) over draws). Also the log-density of the hidden values (nats per value) beside the marginal's, and the
coverage of the model's own 90 % intervals. A competitor is chosen by its mean over the seeds.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import polymodal
from polymodal.cli.init_files import description_of_files, given
from polymodal.data import Splits, read_described
from polymodal.data.grid import values_of
from polymodal.imputation import fill
from polymodal.imputation.baselines import Marginal
from polymodal.imputation.columns import columns_of
from polymodal.imputation.conformal import QUANTILES
from polymodal.imputation.hiding import hide_modality
from polymodal.imputation.prediction import predict
from polymodal.settings.recommended import recommended

PAIRS = {"cite": [("rna", "prot")], "snare": [("atac", "rna"), ("rna", "atac")]}
DRAWS, PROPOSALS = 200, 500


def splits_of(file: Path, seed: int) -> Splits:
    """The file as `polymodal init` describes it."""
    section = description_of_files(given([str(file)]), {}, {}).model_dump()
    section["split"] = {"val": 0.1, "test": 0.2, "seed": seed}
    return read_described(section, file.stem, seed).splits


def trained(splits: Splits, seed: int) -> tuple[polymodal.Run, float]:
    """A run as recommended, and its CPU seconds."""
    advice = recommended(splits)
    start = time.process_time()
    settings = {**advice.options, "training": {**advice.training}, "progress": False}
    run = polymodal.fit(advice.method, splits, seed=seed, **settings)
    return run, time.process_time() - start


def matrix(splits: Splits, m: str, *parts: str) -> np.ndarray:
    (modality,) = (x for x in splits.modalities if x.name == m)
    return torch.cat([values_of(splits.parts[p], modality) for p in parts]).double().numpy()


def is_counts(splits: Splits, m: str) -> bool:
    return any(x.name == m and x.kind == "counts" for x in splits.modalities)


def rmse(truth: np.ndarray, said: np.ndarray, seen: np.ndarray) -> float:
    """In units of each feature's standard deviation in `seen`, mean over those that vary there."""
    spread = seen.std(0)
    error = np.sqrt(((truth - said) ** 2).mean(0))
    return float((error / np.where(spread > 0, spread, np.inf))[spread > 0].mean())


def inputs(splits: Splits, m: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What competitors read of seen and of test cells."""
    from sklearn.decomposition import PCA

    seen, test = matrix(splits, m, "train", "val"), matrix(splits, m, "test")
    if is_counts(splits, m):
        seen, test = (
            np.log1p(1e4 * x / np.maximum(x.sum(1, keepdims=True), 1)) for x in (seen, test)
        )
    mean, spread = seen.mean(0), seen.std(0)
    seen, test = ((x - mean) / np.where(spread > 0, spread, 1) for x in (seen, test))
    found = {"features": (seen, test)}
    if seen.shape[1] > 50:
        pca = PCA(50, random_state=0).fit(seen)
        found["components"] = (pca.transform(seen), pca.transform(test))
    return found


def competitors(splits: Splits, source: str, target: str, log: bool) -> dict[str, float]:
    """RMSE by name."""
    from sklearn.linear_model import RidgeCV
    from sklearn.neighbors import KNeighborsRegressor

    seen, truth = matrix(splits, target, "train", "val"), matrix(splits, target, "test")
    if log:
        seen, truth = np.log1p(seen), np.log1p(truth)
    mean, spread = seen.mean(0), seen.std(0)
    spread = np.where(spread > 0, spread, 1)
    found = {"marginal": rmse(truth, np.broadcast_to(mean, truth.shape), seen)}
    makers = {
        "ridge": lambda: RidgeCV(alphas=np.logspace(-2, 6, 17), alpha_per_target=True),
        "neighbours": lambda: KNeighborsRegressor(10, weights="distance"),
    }
    for what, (x, new) in inputs(splits, source).items():
        for name, make in makers.items():
            said = make().fit(x, (seen - mean) / spread).predict(new) * spread + mean
            found[f"{name} on {what}"] = rmse(truth, said, seen)
    return found


def ours(run: polymodal.Run, splits: Splits, source: str, target: str) -> dict[str, Any]:
    seen, truth = matrix(splits, target, "train", "val"), matrix(splits, target, "test")
    test = splits.test.batch(torch.arange(len(splits.test))).only([source])
    torch.manual_seed(0)
    filled = fill(run.model, test, [target], draws=DRAWS, proposals=PROPOSALS)[target]
    low, _, high = filled.quantiles.double().numpy()
    found: dict[str, Any] = {
        "rmse": rmse(truth, filled.center.double().numpy(), seen),
        "coverage_90": float(((low <= truth) & (truth <= high)).mean()),
        "effective_draws": float(filled.ess.median()),
    }
    if is_counts(splits, target):
        said = np.log1p(filled.draws.double().numpy()).mean(0)
        found["rmse_log"] = rmse(np.log1p(truth), said, np.log1p(seen))
    hidden = hide_modality(splits.test, target)
    said = predict(run.model, hidden, QUANTILES, proposals=PROPOSALS)[target]
    (modality,) = (m for m in splits.modalities if m.name == target)
    found["log_score"] = float(said.log_score.double().mean())
    scores = [
        Marginal(column, torch.from_numpy(np.sort(seen[:, k]))).log_score(
            torch.from_numpy(truth[:, k])
        )
        for k, column in enumerate(columns_of(modality))
    ]
    found["log_score_marginal"] = float(torch.stack(scores).mean())
    return found


def measured(data: str, file: Path, seed: int) -> list[dict[str, Any]]:
    splits = splits_of(file, seed)
    run, seconds = trained(splits, seed)
    chosen = {"method": run.method_name, "cpu_seconds": round(seconds, 1)}
    rows = []
    for source, target in PAIRS[data]:
        row: dict[str, Any] = {"data": data, "seed": seed, "from": source, "to": target, **chosen}
        row["cells"] = {part: len(each) for part, each in splits.parts.items()}
        row["polymodal"] = ours(run, splits, source, target)
        row["rmse"] = competitors(splits, source, target, False)
        if is_counts(splits, target):
            row["rmse_log"] = competitors(splits, source, target, True)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=PAIRS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "cells.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {"runs": []}
    kept["machine"] = f"{platform.machine()}, one thread, torch {torch.__version__}"
    for seed in options.seeds:
        if any(r["data"] == options.data and r["seed"] == seed for r in kept["runs"]):
            continue
        for row in measured(options.data, options.file, seed):
            print(json.dumps(row), flush=True)
            kept["runs"].append(row)
        path.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
