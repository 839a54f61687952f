"""Three claims about surrogates and blocks, measured.

    python benchmarks/averages.py [--only averages parameters times] [--seeds 2] [--out benchmarks/results]

averages: the surrogate q_m of JMVAE (two stages) and JNF goes to q_avg(z|x_m) = E[q(z|X) | x_m]
(Senellart et al. 2023, appendix A.2, eqs. (16) to (18)), whatever the frozen joint encoder q(z|X)
is. Data are linear-Gaussian, two modalities of 2 values with diagonal loadings, so that q_avg is
normal and known for every q(z|X) that is linear with a constant diagonal covariance: "exact", the
law's own posterior, of which q_avg is p(z|x_m), and "off", with the weights of x1 times 0.5, those
of x2 times 1.2 and the deviation times 1.5, of which it is not. The surrogates (linear encoders; JNF
with a flow of 2 MADE of 3 x 128) take 1,000 steps of 256 samples of n. On 200 fresh samples, by
2,000 draws each: KL(q_avg || q_m) and KL(p(z|x_m) || q_m) in nats; the root mean square of the
means' difference in deviations of q_avg, of which 0.02 is the draws'; the mean relative
(Frobenius) error of the covariance, of which 0.03 is the draws'.

parameters: the weights of JNF and JNF-DCCA with the networks of MNIST-SVHN (the paper's section 3.3
says that DCCA adds few), by part.

times: milliseconds of processor time of the eigenvectors of H and of its five diagonal blocks, and of
one call of a denoiser of five blocks for 256 points and of five denoisers of one block, all of the
same width; median of --repeats, one thread.

Results are written into averages.json part by part; a part that is not asked for stays.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import polymodal
from polymodal import Dataset, Modality, Splits
from polymodal.batch import Batch
from polymodal.data import LinearGaussian
from polymodal.diffusion.denoisers import Denoiser
from polymodal.distributions import DiagNormal
from polymodal.methods import METHODS
from polymodal.model import Method
from polymodal.runs.run import build
from polymodal.settings import load_recipe, resolve, to_dict
from polymodal.settings.data import complete

SIZE, NOISE, STEPS, BATCH = 2, 0.8, 1000, 256
SAMPLES = (300, 3000, 30_000)
FRESH, DRAWS = 200, 2000
RATES = {"jmvae_two_stage": 3e-2, "jnf": 3e-3}  # the highest learning rates, with a cosine
# Factors on the weights of x1 and x2, and on the deviation, of the law's own posterior.
JOINTS = {"exact": (1.0, 1.0, 1.0), "off": (0.5, 1.2, 1.5)}
BLOCKS, TOTALS, POINTS = 5, (160, 320, 640), 256


# Averages.


def law() -> LinearGaussian:
    generator = torch.Generator().manual_seed(0)
    loading = {
        m: torch.diag(0.6 + torch.rand(SIZE, generator=generator, dtype=torch.float64))
        for m in ("x1", "x2")
    }
    bias = {m: torch.randn(SIZE, generator=generator, dtype=torch.float64) for m in loading}
    return LinearGaussian(loading, bias, dict.fromkeys(loading, NOISE))


class LinearJoint(nn.Module):
    """q(z|X) = N(sum_m weight_m (x_m - b_m), scale^2), coordinate by coordinate."""

    def __init__(self, truth: LinearGaussian, first: float, second: float, wide: float) -> None:
        super().__init__()
        loading = {m: A.diagonal().float() for m, A in truth.loading.items()}
        variance = 1 / (1 + sum(a.square() for a in loading.values()) / NOISE**2)
        factors = {"x1": first, "x2": second}
        self.weight = {m: factors[m] * variance * a / NOISE**2 for m, a in loading.items()}
        self.bias = {m: b.float() for m, b in truth.bias.items()}
        self.scale = wide * variance.sqrt()

    def forward(self, batch: Batch) -> DiagNormal:
        loc = sum(w * (batch.x[m] - self.bias[m]) for m, w in self.weight.items())
        return DiagNormal(loc, self.scale.expand_as(loc))

    def average(self, truth: LinearGaussian, batch: Batch, m: str) -> DiagNormal:
        """q_avg(z | x_m): the mean of q(z|X) over p(x_other | x_m)."""
        (other,) = (name for name in self.weight if name != m)
        rest = truth.conditional(batch.only([m]), other)
        shift = self.weight[other] * (rest.mean - self.bias[other])
        loc = self.weight[m] * (batch.x[m] - self.bias[m]) + shift
        spread = self.weight[other].square() * rest.variance
        return DiagNormal(loc, (self.scale.square() + spread).sqrt())


def data(truth: LinearGaussian, n: int, seed: int) -> Splits:
    generator = torch.Generator().manual_seed(1000 + seed)
    parts = [
        Dataset(truth.modalities, dict(truth.sample(size, generator).x)) for size in (n, 256, FRESH)
    ]
    return Splits(*parts, "linear_gaussian", truth)


def trained(name: str, joint: LinearJoint, splits: Splits, seed: int) -> nn.Module:
    """The surrogates of a method, trained on the frozen joint encoder by its own second stage."""
    torch.manual_seed(seed)
    networks = dict.fromkeys(("x1", "x2"), "linear")
    method = METHODS[name](splits.modalities, latent=SIZE, networks=networks)
    method.model.posterior.joint = joint
    stages = [stage for stage in method.stages if stage.name == "surrogates"]
    steps = max(1, len(splits.train) // BATCH)
    settings = {"epochs": -(-STEPS // steps), "max_steps": STEPS, "batch": BATCH, "lr": RATES[name]}
    settings |= {"schedule": "cosine", "progress": False}
    run = polymodal.fit(Method(method.model, stages), splits, seed=seed, **settings)
    return run.model.posterior


@torch.no_grad()
def compared(q: Any, average: DiagNormal, exact: Any) -> dict[str, float]:
    """The figures of one surrogate q(z|x_m) of fresh samples."""
    z = q.sample((DRAWS,))
    off = (z.mean(0) - average.mean) / average.variance.sqrt()
    centred = z - z.mean(0)
    covariance = torch.einsum("kbi,kbj->bij", centred, centred) / (DRAWS - 1)
    target = average.variance.diag_embed()
    relative = (covariance - target).flatten(1).norm(dim=1) / target.flatten(1).norm(dim=1)
    return {
        "kl_of_average": divergence(average, q),
        "kl_of_exact": divergence(exact, q),
        "mean_error": float(off.square().mean().sqrt()),
        "covariance_error": float(relative.mean()),
    }


def divergence(p: Any, q: Any) -> float:
    """KL(p || q) by draws, the mean over samples."""
    z = p.sample((DRAWS,))
    return float((p.log_prob(z) - q.log_prob(z)).mean())


def averages(seeds: int) -> list[dict[str, Any]]:
    truth, rows = law(), []
    for kind, factors in JOINTS.items():
        joint = LinearJoint(truth, *factors)
        for name in RATES:
            for n in SAMPLES:
                for seed in range(seeds):
                    splits = data(truth, n, seed)
                    posterior = trained(name, joint, splits, seed)
                    batch = splits.test.batch(torch.arange(FRESH))
                    for m, q in posterior.unimodal(batch).items():
                        exact = truth.posterior(batch.only([m]))
                        figures = compared(q, joint.average(truth, batch, m), exact)
                        row = {"joint": kind, "method": name, "n": n, "seed": seed, "given": m}
                        rows.append(row | figures)
                        print(rows[-1], flush=True)
    return rows


# Parameters.


def parameters() -> dict[str, dict[str, int]]:
    """Numbers of weights by part, of the recipes of MNIST-SVHN."""
    shapes = {"mnist": (1, 28, 28), "svhn": (3, 32, 32)}
    modalities = [Modality(m, shape, link="sigmoid") for m, shape in shapes.items()]
    found = {}
    for recipe in ("mnist-svhn-jnf", "mnist-svhn-jnf-dcca"):
        model = build(to_dict(complete(resolve(load_recipe(recipe)), modalities)), modalities).model
        parts = {"joint encoder": model.posterior.joint, "decoders": model.decoders}
        counts = {name: size(part) for name, part in parts.items()}
        for part in ("embed", "net", "head"):
            each = [getattr(expert, part) for _, expert in model.posterior.experts.items()]
            counts[f"surrogates: {part}"] = sum(size(one) for one in each if one is not None)
        found[recipe] = counts | {"all": size(model)}
    return found


def size(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


# Times.


def times(repeats: int) -> list[dict[str, float]]:
    torch.set_num_threads(1)
    rows = []
    for total in TOTALS:
        one = total // BLOCKS
        h = torch.randn(2 * total, total)
        h = h.T @ h / len(h)
        blocks = [h[i : i + one, i : i + one].contiguous() for i in range(0, total, one)]
        whole, each = Denoiser([one] * BLOCKS).eval(), Denoiser([one]).eval()
        x, sigma = torch.randn(POINTS, total), torch.rand(POINTS, BLOCKS)
        parts = list(zip(x.split(one, -1), sigma.split(1, -1), strict=True))
        rows.append(
            {
                "dimensions": total,
                "block": one,
                "eigenvectors_whole_ms": timed(lambda h=h: torch.linalg.eigh(h), repeats),
                "eigenvectors_blocks_ms": timed(
                    lambda blocks=blocks: [torch.linalg.eigh(b) for b in blocks], repeats
                ),
                "denoiser_whole_ms": timed(lambda d=whole, x=x, s=sigma: d(x, s), repeats),
                "denoiser_blocks_ms": timed(
                    lambda d=each, parts=parts: [d(a, s) for a, s in parts], repeats
                ),
            }
        )
        print(rows[-1], flush=True)
    return rows


@torch.no_grad()
def timed(call: Callable[[], Any], repeats: int) -> float:
    """The median of `repeats` calls after one that does not count, in milliseconds of
    processor time.
    """
    call()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(1000 * (time.process_time() - start))
    return round(statistics.median(taken), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    every = ["averages", "parameters", "times"]
    parser.add_argument("--only", nargs="+", choices=every, default=every)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "averages.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    makers: dict[str, Callable[[], Any]] = {
        "averages": lambda: averages(options.seeds),
        "parameters": parameters,
        "times": lambda: times(options.repeats),
    }
    for part in options.only:
        found[part] = makers[part]()
        found["torch"] = torch.__version__
        file.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
