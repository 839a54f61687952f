"""Products on PolyMNIST: draws, densities and calibration of trained runs.

    python benchmarks/polymnist_products.py RUN ... --data DATA [--items 500] [--out FILE]

RUN: directories of `jnf` and `jnf_dcca`, as benchmarks/papers/train.py trains them. For one to four
modalities given, on five cyclic subsets of each size: the coherence of one draw with all modalities
that are not given; |z|^2 / D of the draws beside that of the data; the effective number of
proposals, or R-hat; the processor time of four draws. For likelihoods also the calibration on the
first --density items of z*, a draw of q(z|X): E|z* - mean|^2 / tr Var, and log q(z*|x_S) with two
independent estimates of the normalising constant, whose differences between sizes are paired.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import polymodal
from polymodal.batch import Batch
from polymodal.distributions import LikelihoodProduct
from polymodal.metrics.classifiers import Classifiers
from polymodal.sampling import HMC, Importance

SIZES, PROPOSALS = (1, 2, 3, 4), 1024


def subsets(names: list[str], size: int) -> list[list[str]]:
    """Five cyclic subsets."""
    count = len(names)
    return [[names[(i + k) % count] for k in range(size)] for i in range(count)]


def product(posterior: Any, batch: Batch) -> Any:
    """The posterior; of a single modality too by likelihoods, where the run has them."""
    q = posterior.surrogate(batch)
    if not hasattr(posterior, "likelihoods") or isinstance(q, LikelihoodProduct):
        return q
    return posterior.product(batch)


def mean_and_error(x: Tensor) -> list[float]:
    x = x.double()
    return [float(x.mean()), float(x.std() / math.sqrt(len(x)))]


def agreement(model: Any, z: Tensor, label: Tensor, targets: list[str], nets: Any) -> Tensor:
    """The share of the targets in which a draw z (B, D) shows the label, (B,)."""
    right = []
    for m in targets:
        x = model.decoders[m](z).mean
        right.append((nets[m].net(x).argmax(-1) == label).double())
    return torch.stack(right).mean(0)


def drawn(run: Any, batch: Batch, size: int, sampler: Any, nets: Any) -> dict[str, Any]:
    """The figures of draws given subsets of one size."""
    model, names = run.model, list(batch.x)
    model.posterior.combine.sampler = sampler
    right, norms, effective, rhat, seconds = [], [], [], [], []
    for given in subsets(names, size):
        part = batch.only(given)
        clock = time.process_time()
        q = product(model.posterior, part)
        z = q.sample((4,))
        seconds.append((time.process_time() - clock) / len(batch))
        targets = [m for m in names if m not in given]
        right.append(agreement(model, z[0], batch.label, targets, nets))
        norms.append(z.square().mean(-1).mean(0))
        if report := getattr(q, "report", None):
            effective.append(report.ess)
            rhat += [report.rhat] if hasattr(report, "rhat") else []
    found: dict[str, Any] = {"given": size}
    found["coherence"] = mean_and_error(torch.stack(right).mean(0))
    found["squared_norm"] = float(torch.cat(norms).mean())
    found["seconds_per_item"] = round(sum(seconds) / len(seconds), 4)
    if effective:
        found["ess"] = float(torch.cat(effective).median())
    if rhat:
        found["rhat_ok"] = float((torch.cat(rhat) < 1.05).double().mean())
    return found


def calibrated(run: Any, batch: Batch, truth: Tensor) -> list[dict[str, Any]]:
    """Held-out densities and spread of the product of likelihoods, by size."""
    rows, before = [], {}
    for size in SIZES:
        logs, gaps, ratios = [], [], []
        for given in subsets(list(batch.x), size):
            q = product(run.model.posterior, batch.only(given))
            start, constants, moments = q.start(), [], None
            for _ in range(2):
                z = start.sample((PROPOSALS,))
                log_weight = q.log_prob(z) - start.log_prob(z)
                constants.append(log_weight.logsumexp(0) - math.log(PROPOSALS))
                moments = (z, log_weight.softmax(0).unsqueeze(-1))
            z, weight = moments
            mean = (weight * z).sum(0)
            variance = (weight * (z - mean).square()).sum(0).sum(-1)
            ratios.append((truth - mean).square().sum(-1) / variance)
            value = torch.stack([q.log_prob(truth) - c for c in constants])
            logs.append(value.mean(0))
            gaps.append(constants[0] - constants[1])
        log = torch.stack(logs).mean(0)
        row = {"given": size, "log_density": mean_and_error(log)}
        row["two_estimates"] = mean_and_error(torch.stack(gaps).mean(0))
        row["two_estimates_spread"] = float(torch.stack(gaps).abs().median())
        row["spread"] = mean_and_error(torch.stack(ratios).mean(0))
        for other, earlier in before.items():
            row[f"gain_over_{other}"] = mean_and_error(log - earlier)
        before[size] = log
        rows.append(row)
    return rows


def measured(directory: Path, data: Any, nets: Any, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run."""
    run = polymodal.load(directory)
    torch.manual_seed(0)
    batch = data.test.batch(torch.arange(options.items))
    with torch.no_grad():
        truth = run.model.posterior.joint(batch).sample()
        found: dict[str, Any] = {"run": directory.name, "method": run.settings["method"]}
        found["data"] = {
            "squared_norm": float(truth.square().mean()),
            "coherence": mean_and_error(
                agreement(run.model, truth, batch.label, list(batch.x), nets)
            ),
        }
        found["importance"] = [drawn(run, batch, k, Importance(256), nets) for k in SIZES]
        few = batch.rows(torch.arange(options.chains))
        if options.chains:
            chain = HMC(warmup=80, draws=100, chains=4)
            found["hmc"] = [drawn(run, few, k, chain, nets) for k in SIZES]
        if hasattr(run.model.posterior, "likelihoods"):
            part = batch.rows(torch.arange(options.density))
            found["densities"] = calibrated(run, part, truth[: options.density])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--density", type=int, default=200)
    parser.add_argument("--chains", type=int, default=200, help="items for HMC; 0: none")
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "results" / "polymnist_products.json")
    options = parser.parse_args()
    data = polymodal.load_data("polymnist", path=options.data)
    nets = Classifiers.fit_or_load(data)
    rows = json.loads(options.out.read_text()) if options.out.exists() else []
    for directory in options.runs:
        row = measured(directory, data, nets, options)
        row |= {"items": options.items, "density": options.density, "chains": options.chains}
        rows = [r for r in rows if r["run"] != row["run"]] + [row]
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"Measured {directory}.", flush=True)


if __name__ == "__main__":
    main()
