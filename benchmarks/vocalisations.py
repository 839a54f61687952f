"""Whether a trained model names the neurons that follow a band of frequency.

    python benchmarks/vocalisations.py [--seeds 3] [--out benchmarks/results]

The recipe vocalisations-jnf on its simulated data, a seed for data and training. The response of a
neuron to a band is that of `polymodal.analysis.bands.band_responses` on 200 test calls, 16 draws of
the latent each; the area under the ROC curve compares it with what was planted. Beside it stand the
same area before training, and that of a plain correlation of counts with the mean value in a band.
Every seed is written into vocalisations.json at once, and the same command resumes; the picture
vocalisations.png is that of seed 0.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

import polymodal
from polymodal.analysis.bands import band_auc, band_responses, followers
from polymodal.batch import Batch
from polymodal.data import Splits, load_data

CALLS, DRAWS = 200, 16


def rates_of(model: Any) -> Any:
    """Expected counts (n, N) given calls, by a model."""

    def rates(calls: Tensor) -> Tensor:
        x, _ = model.sample(Batch({"call": calls}), DRAWS, ["neurons"], seed=0)
        return x["neurons"].mean(0)

    return rates


def responses_of(model: Any, data: Splits) -> Tensor:
    calls = data.test.batch(torch.arange(CALLS)).x["call"]
    return band_responses(rates_of(model), calls, data.truth.bands)


def correlations(data: Splits) -> Tensor:
    """Correlation of each neuron's count with the mean value in each band, (N, B)."""
    batch = data.train.batch(torch.arange(len(data.train)))
    means = [batch.x["call"][:, 0, a:b].mean((1, 2)) for a, b in data.truth.bands]
    both = torch.cat([batch.x["neurons"], torch.stack(means, 1)], 1)
    return both.T.corrcoef()[: batch.x["neurons"].shape[1], -len(means) :]


def measured(seed: int) -> tuple[dict[str, Any], Any, Splits, Tensor]:
    """The figures of one seed, its run, data and responses."""
    data = load_data("vocalisations", seed=seed)
    cluster, start = data.truth.cluster, time.process_time()
    untrained = polymodal.fit("vocalisations-jnf", data, seed=seed, progress=False, epochs=0)
    run = polymodal.fit("vocalisations-jnf", data, seed=seed, progress=False)
    responses = responses_of(run.model, data)
    named = [followers(responses, b) for b in range(len(data.truth.bands))]
    figures = {
        "auc": band_auc(responses, cluster).tolist(),
        "auc untrained": band_auc(responses_of(untrained.model, data), cluster).tolist(),
        "auc correlation": band_auc(correlations(data), cluster).tolist(),
        "named": [len(n) for n in named],
        "named and planted": [int((cluster[n] == b).sum()) for b, n in enumerate(named)],
        "planted": [int((cluster == b).sum()) for b in range(len(named))],
        "cpu seconds": round(time.process_time() - start),
    }
    return figures, run, data, responses


def draw(run: Any, data: Splits, responses: Tensor, file: Path) -> None:
    """Two calls with their bands, the responses by cluster, and a call given counts of neurons."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    batch = data.test.batch(torch.arange(2))
    given = run.model.sample(batch.only(["neurons"]), 64, ["call"], seed=0)[0]["call"].mean(0)
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), width_ratios=[1, 1, 1, 1.4])
    shown = [
        (batch.x["call"][0, 0], "a call, and the planted bands"),
        (batch.x["call"][1, 0], "another call"),
        (given[1, 0], "its mean, given only the counts"),
    ]
    for axis, (picture, title) in zip(axes, shown, strict=False):
        axis.imshow(picture, origin="lower", cmap="magma", vmin=0, vmax=1)
        axis.set(title=title, xlabel="frame", ylabel="frequency row")
        for low, _ in data.truth.bands[1:]:
            axis.axhline(low - 0.5, color="white", linewidth=0.8, linestyle=":")
    cluster = data.truth.cluster
    order = torch.where(cluster < 0, len(data.truth.bands), cluster).argsort(stable=True)
    image = axes[3].imshow(responses[order], aspect="auto", cmap="RdBu_r", vmin=-1, vmax=1)
    for edge in (cluster[order].diff() != 0).nonzero().squeeze(1).tolist():
        axes[3].axhline(edge + 0.5, color="black", linewidth=0.8)
    axes[3].set(title="response, by planted cluster", xlabel="band", ylabel="neuron, sorted")
    axes[3].set_xticks(range(len(data.truth.bands)))
    figure.colorbar(image, ax=axes[3])
    figure.tight_layout()
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    file = options.out / "vocalisations.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for seed in range(options.seeds):
        if str(seed) in results:
            continue
        results[str(seed)], run, data, responses = measured(seed)
        print(seed, results[str(seed)], flush=True)
        file.write_text(json.dumps(results, indent=1) + "\n")
        if seed == 0:
            draw(run, data, responses, options.out / "vocalisations.png")


if __name__ == "__main__":
    main()
