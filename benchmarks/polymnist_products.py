"""Products on PolyMNIST: draws, densities and calibration of trained runs.

    python benchmarks/polymnist_products.py RUN ... --data DATA [--items 500] [--part PART ...]

RUN: directories of `jnf` and `jnf_dcca`, as benchmarks/papers/train.py trains them. One to four
modalities are given; of the five cyclic subsets of each size each item has one. Parts:

- importance: the coherence of one draw with all modalities that are not given; |z|^2 / D of the
  draws beside that of the data; the effective number of proposals; processor time of four draws.
- hmc: the same by chains, with R-hat.
- densities, of likelihoods, for z*, a draw of q(z|X).
  `spread` is E|z* - mean|^2 / tr Var, 1 if calibrated, with the moments of chains: those of
  importance resampling, of some ten effective proposals, would make it too large. `excess` is the
  mean log-likelihood of the chains' draws less that of z*, nats for each modality given, 0 if
  calibrated. `log_density` is log q(z*|x_S) with the constant by bridge sampling (Meng and Wong
  1996) between the chains' draws and proposals; its differences between sizes are paired.
- control: densities at exponent 1 of tuples drawn from the model itself, z* ~ a(z), g_m ~
  p(g_m|z*), for which the product is calibrated: the figures of an exact sampler.

A part is added to what the file holds of the run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import polymodal
from polymodal.batch import Batch
from polymodal.distributions import DiagNormal, LikelihoodProduct
from polymodal.metrics.classifiers import Classifiers
from polymodal.sampling import HMC, Importance

SIZES, PROPOSALS = (1, 2, 3, 4), 1024
PARTS = ["importance", "hmc", "densities", "control"]
CHAIN = HMC(warmup=80, draws=100, chains=4)


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
    """The figures of draws given subsets of one size, each item one subset."""
    model, names = run.model, list(batch.x)
    model.posterior.combine.sampler = sampler
    values: dict[str, list[Tensor]] = {name: [] for name in ("coherence", "norm", "ess", "rhat")}
    seconds = 0.0
    for shift, given in enumerate(subsets(names, size)):
        part = batch.rows(torch.arange(shift, len(batch), len(names)))
        clock = time.process_time()
        q = product(model.posterior, part.only(given))
        z = q.sample((4,))
        seconds += time.process_time() - clock
        targets = [m for m in names if m not in given]
        values["coherence"].append(agreement(model, z[0], part.label, targets, nets))
        values["norm"].append(z.square().mean(-1).mean(0))
        report = getattr(q, "report", None)
        for name in ("ess", "rhat"):
            if hasattr(report, name):
                values[name].append(getattr(report, name))
    whole = {name: torch.cat(parts) for name, parts in values.items() if parts}
    found = {"given": size, "coherence": mean_and_error(whole["coherence"])}
    found["squared_norm"] = float(whole["norm"].mean())
    found["seconds_per_item"] = round(seconds / len(batch), 4)
    if "ess" in whole:
        found["ess"] = float(whole["ess"].median())
    if "rhat" in whole:
        found["rhat_ok"] = float((whole["rhat"] < 1.05).double().mean())
    return found


def given_once(posterior: Any, g: Any, size: int, shift: int, exponent: Any) -> tuple[Any, Tensor]:
    """The product for items shift, shift + 5, ... given a cyclic subset of modalities; the items.

    Args:
        g: g[m] (B, d), embeddings.
    """
    names = list(g)
    chosen = subsets(names, size)[shift]
    rows = torch.arange(shift, len(g[names[0]]), len(names))
    shape = torch.zeros(len(rows), posterior.aggregate().event_shape.numel())
    experts = [DiagNormal(shape, shape + 1)] * size
    embeddings = {m: g[m][rows] for m in chosen}
    return posterior.product_of(embeddings, experts, None, exponent), rows


def log_constant(q: Any, start: Any, draws: Tensor) -> Tensor:
    """log Z of q by bridge sampling between draws (n, B, D) of it and PROPOSALS of its start."""
    proposals = start.sample((PROPOSALS,))
    there, here = (q.log_prob(z) - start.log_prob(z) for z in (proposals, draws))
    share = len(draws) / (len(draws) + PROPOSALS)
    log_z = there.logsumexp(0) - math.log(PROPOSALS)
    for _ in range(50):
        shift = log_z + math.log((1 - share) / share)
        above = (there - torch.logaddexp(there, shift)).logsumexp(0) - math.log(PROPOSALS)
        below = (-torch.logaddexp(here, shift)).logsumexp(0) - math.log(len(draws))
        log_z = above - below
    return log_z


def run_chains(q: Any, start: Any) -> tuple[Tensor, Any]:
    """All draws of the chains, (n, B, D), and their report."""
    count = CHAIN.draws * CHAIN.chains
    return CHAIN(q.log_prob, lambda n: start.sample((n,)), start.log_prob, count)


def densities(posterior: Any, g: Any, truth: Tensor, exponent: Any) -> list[dict[str, Any]]:
    """Held-out densities, spread and excess of the product of likelihoods, by size."""
    rows, before = [], {}
    for size in SIZES:
        names = ("spread", "excess", "log_density", "rhat")
        values = {name: truth.new_zeros(len(truth)) for name in names}
        for shift in range(len(g)):
            q, index = given_once(posterior, g, size, shift, exponent)
            start, z = q.start(), truth[index]
            draws, report = run_chains(q, start)
            variance = draws.var(0).sum(-1)
            values["spread"][index] = (z - draws.mean(0)).square().sum(-1) / variance
            excess = q.log_likelihood(draws).mean(0) - q.log_likelihood(z)
            values["excess"][index] = excess / size
            values["log_density"][index] = q.log_prob(z) - log_constant(q, start, draws)
            values["rhat"][index] = report.rhat
        log, rhat = values["log_density"], values.pop("rhat")
        row = {"given": size, "rhat_ok": float((rhat < 1.05).double().mean())}
        row |= {name: mean_and_error(v) for name, v in values.items()}
        row |= {f"gain_over_{k}": mean_and_error(log - earlier) for k, earlier in before.items()}
        before[size] = log
        rows.append(row)
    return rows


def simulated(posterior: Any, g: Any, count: int) -> tuple[dict[str, Tensor], Tensor]:
    """Embeddings and latents of the model itself; directions that are not used stay 0."""
    z = posterior.aggregate().sample((count,))
    drawn = {}
    for m, seen in g.items():
        mean, log_scale = posterior.likelihoods[m].moments(z)
        noisy = mean + log_scale.exp() * torch.randn_like(mean)
        drawn[m] = torch.where((seen != 0).any(0), noisy, 0)
    return drawn, z


def measured(run: Any, part: str, data: Any, nets: Any, options: argparse.Namespace) -> Any:
    """The figures of one part."""
    torch.manual_seed(0)
    counts = {"importance": options.items, "hmc": options.chains}
    batch = data.test.batch(torch.arange(counts.get(part, options.density)))
    posterior = run.model.posterior
    if part in counts:
        sampler = Importance(256) if part == "importance" else CHAIN
        rows = [drawn(run, batch, k, sampler, nets) for k in SIZES]
        truth = posterior.joint(batch).sample()
        right = agreement(run.model, truth, batch.label, list(batch.x), nets)
        whole = {"coherence": mean_and_error(right), "squared_norm": float(truth.square().mean())}
        return {"n": len(batch), "data": whole, "rows": rows}
    g = {m: posterior.embed(m, x) for m, x in batch.x.items()}
    truth = posterior.joint(batch).sample()
    exponent = posterior.exponent
    if part == "control":
        g, truth = simulated(posterior, g, len(batch))
        exponent = 1.0
    return {"n": len(batch), "rows": densities(posterior, g, truth, exponent)}


def described(run: Any, directory: Path) -> dict[str, Any]:
    """What a run is, and where it is measured."""
    here = Path(__file__).parent
    asked = ["git", "-C", str(here), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    exponent = getattr(run.model.posterior, "exponent", None)
    return {
        "run": f"{directory.resolve().parent.name}/{directory.name}",
        "method": run.settings["method"],
        "exponent": None if exponent is None else float(exponent),
        "seed": run.seed,
        "commit": commit,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} thread",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--items", type=int, default=500, help="of importance")
    parser.add_argument("--chains", type=int, default=100, help="items of hmc")
    parser.add_argument("--density", type=int, default=200, help="items of densities and control")
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "results" / "polymnist_products.json")
    options = parser.parse_args()
    for directory in options.runs:
        run = polymodal.load(directory)
        limit, modalities = run.settings["data"]["limit"], run.settings["modalities"]
        data = polymodal.load_data(
            "polymnist", path=options.data, limit=limit, modalities=modalities
        )
        pictures = {"importance", "hmc"} & {*options.part}
        nets = Classifiers.fit_or_load(data) if pictures else None
        for part in options.part:
            if part in ("densities", "control") and not hasattr(run.model.posterior, "exponent"):
                continue
            with torch.no_grad():
                found = described(run, directory) | {part: measured(run, part, data, nets, options)}
            keep(options.out, found)
            print(f"Measured {part} of {directory}.", flush=True)


def keep(path: Path, found: dict[str, Any]) -> None:
    """Adds the figures to those that the file holds of the run."""
    rows = json.loads(path.read_text()) if path.exists() else []
    earlier = next((row for row in rows if row["run"] == found["run"]), {})
    rows = [row for row in rows if row["run"] != found["run"]] + [earlier | found]
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
