"""How exact are the samples of a score prior? On a normal law whose every conditional is known; and at how many calls.

    python benchmarks/score.py [--steps 6000] [--out benchmarks/results]

Trains one small denoiser (6 dimensions, 3 modalities, joint and masked) and measures errors of means in standard
deviations and of covariances (relative, Frobenius), the worst over the six subsets, on 20,000 draws. Samplers of many
calls: 4,000 draws (particles: 1,000) and two subsets. The same with the exact denoiser in place of the learned one says
which error is the sampler's.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch

from polymodal.denoisers import Denoiser, Patterns, matching
from polymodal.sampling import Diffusion, Task, Twisted
from polymodal.sampling.diffusion import spread
from polymodal.sampling.ode import log_density

SIZES = (2, 2, 2)
FEW = ((0,), (1, 2))  # for samplers of many calls
SUBSETS = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2))


def law() -> torch.Tensor:
    loading = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    c = loading @ loading.T + 0.3 * torch.eye(6)
    return c / c.diag().sqrt() / c.diag().sqrt()[:, None]


def exact(c: torch.Tensor):
    """E[x0 | x] for items that all have the same sigmas."""
    return lambda x, s: x @ torch.linalg.solve(c + torch.diag(spread(s[0], SIZES) ** 2), c)


def train(c: torch.Tensor, steps: int) -> Denoiser:
    net, factor = Denoiser(SIZES, width=128, depth=2), torch.linalg.cholesky(c)
    optimizer, patterns = torch.optim.Adam(net.parameters(), 2e-3), Patterns()
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999))
    for _ in range(steps):
        x = torch.randn(1024, 6) @ factor.T
        sigma, counted = patterns(x, torch.ones(1024, 3, dtype=torch.bool))
        optimizer.zero_grad()
        matching(net, x, sigma, counted).mean().backward()
        optimizer.step()
        rate.step()
        mean.update_parameters(net)
    return mean.module.eval()


def errors(sampler, net, c: torch.Tensor, blocks: tuple[int, ...], n: int, pull=None) -> tuple[float, float, int]:
    """Of the mean in standard deviations, of the covariance, and calls."""
    generator = torch.Generator().manual_seed(sum(2**b for b in blocks))
    seen = torch.zeros(n, 3, dtype=torch.bool)
    seen[:, list(blocks)] = True
    known = spread(seen, SIZES)[0]
    value = (torch.linalg.cholesky(c) @ torch.randn(6, generator=generator)) * known
    gain = torch.linalg.solve(c[known][:, known], c[known][:, ~known]).T
    left = c[~known][:, ~known] - gain @ c[known][:, ~known]
    x, calls = sampler(net, Task(value.expand(n, 6), seen, SIZES), pull)
    x = x[:, ~known]
    mean = ((x.mean(0) - gain @ value[known]) / left.diag().sqrt()).abs().max()
    return float(mean), float((x.T.cov() - left).norm() / left.norm()), calls.calls


def worst(sampler, net, c, n: int = 20_000, subsets=SUBSETS) -> dict[str, float]:
    each = [errors(sampler, net, c, blocks, n) for blocks in subsets if n > 4000 or blocks in FEW]
    return {"mean": max(e[0] for e in each), "covariance": max(e[1] for e in each), "calls": each[0][2]}


def samplers() -> dict[str, tuple]:
    """name: (sampler, draws)."""
    replaced = lambda k: Diffusion("replacement", "pc", steps=100, corrector=k)
    again = lambda k: Diffusion("repaint", "ddim", eta=1.0, steps=50, repeats=k)
    return {
        "(c) masks, dpm, 60 calls": (Diffusion("masks", steps=60), 20_000),
        "(c) masks, heun, 79 calls": (Diffusion("masks", "heun", steps=40), 20_000),
        "(f) twisted, 32 particles": (Twisted(steps=200, particles=32), 1000),
        "(a) replacement, dpm": (Diffusion("replacement", steps=60), 20_000),
        **{f"(a) replacement, pc, {k} corrector steps": (replaced(k), 4000) for k in (0, 1, 2, 5)},
        **{f"(b) repaint, {k} times": (again(k), 4000) for k in (1, 3, 10)},
        "the released code's (clean latents), pc": (Diffusion("clean", "pc", steps=100), 4000),
    }


def curve(net, c: torch.Tensor) -> dict[str, list]:
    """Error of the covariance given block 0 against the number of calls, for each solver."""
    found: dict[str, list] = {}
    for name, options in (("dpm", {}), ("heun", {}), ("ddim", {}), ("ancestral", {"eta": 1.0}), ("pc", {"end": 1e-4})):
        solver = "ddim" if name == "ancestral" else name
        for calls in (10, 20, 30, 50, 100, 200):
            if name == "pc" and calls < 50:  # its steps must exceed beta's 20
                continue
            steps = {"heun": (calls + 1) // 2, "pc": calls // 2}.get(name, calls)
            e = errors(Diffusion("masks", solver, steps=steps, **options), net, c, (0,), 4000)
            found.setdefault(name, []).append((e[2], max(e[:2])))
    return found


def densities(net, c: torch.Tensor) -> dict[str, float]:
    """log p(x) and log p(x_U | x_0) through the ODE less the exact ones, nats, over 500 points."""
    x = torch.randn(500, 6) @ torch.linalg.cholesky(c).T
    normal = lambda k: torch.distributions.MultivariateNormal(torch.zeros(k), c[:k, :k]).log_prob(x[:, :k])
    found = {}
    for name, k in (("joint", 0), ("given one", 2)):
        seen = torch.tensor([k > 0, False, False]).expand(500, 3)
        error = log_density(net, Task(x, seen, SIZES)) - normal(6) + (normal(k) if k else 0)
        found |= {f"{name}, mean": float(error.mean()), f"{name}, mean absolute": float(error.abs().mean())}
    return found


def picture(found: dict, path: Path) -> None:
    """Errors against corrector steps and repeats, and against calls."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for kind, style in (("exact", "--"), ("learned", "-")):
        for word, colour in (("corrector steps", "C0"), ("times", "C1")):
            rows = [(int(k.split()[-3 if word[0] == "c" else -2]), v) for k, v in found[kind].items() if k.endswith(word)]
            label = f"{'replacement, Langevin steps' if word[0] == 'c' else 'RePaint, repeats'} ({kind} denoiser)"
            left.plot([k for k, _ in rows], [max(v["mean"], v["covariance"]) for _, v in rows], style + "o", color=colour, label=label)
    masks = found["learned"]["(c) masks, dpm, 60 calls"]
    left.axhline(max(masks["mean"], masks["covariance"]), color="k", lw=1, label="masks (learned)")
    left.set(xscale="symlog", yscale="log", xlabel="at every level", ylabel="worst error", title="The bias that replacement hides")
    for name, points in found["curve"].items():
        right.plot(*zip(*points, strict=True), "o-", label=name)
    right.set(xscale="log", yscale="log", xlabel="calls of the network", title="Masks, given one modality: error by solver")
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    torch.manual_seed(0)
    c, clock = law(), time.process_time()
    net = train(c, given.steps)
    seconds = time.process_time() - clock
    found: dict = {"training": {"steps": given.steps, "batch": 1024, "cpu seconds": round(seconds)}}
    joint = Task(torch.zeros(20_000, 6), torch.zeros(20_000, 3, dtype=torch.bool), SIZES)
    for name, sampler in (("dpm, 60 calls", Diffusion(steps=60)), ("pc, 400 calls", Diffusion(solver="pc", steps=200))):
        x, _ = sampler(net, joint)
        off = {"mean": float(x.mean(0).abs().max()), "covariance": float((x.T.cov() - c).norm() / c.norm())}
        found.setdefault("joint samples", {})[name] = off
    found["densities"] = densities(net, c)
    for kind, one in (("learned", net), ("exact", exact(c))):
        found[kind] = {k: worst(s, one, c, n) for k, (s, n) in samplers().items()}
    found["curve"] = curve(net, c)
    given.out.mkdir(exist_ok=True)
    (given.out / "score.json").write_text(json.dumps(found, indent=1) + "\n")
    picture(found, given.out / "score.png")
    lines = ["| conditioning | mean, sd | covariance | with the exact denoiser: mean | covariance | calls |", "|---|---|---|---|---|---|"]
    for name, e in found["learned"].items():
        other = found["exact"].get(name, {"mean": math.nan, "covariance": math.nan})
        cells = [f"{v:.3f}" for v in (e["mean"], e["covariance"], other["mean"], other["covariance"])]
        lines.append(f"| {name} | {' | '.join(cells)} | {e['calls']} |")
    text = f"# Exactness of a score prior\n\n{__doc__}\n\n" + "\n".join(lines) + "\n\n" + json.dumps(
        {k: found[k] for k in ("training", "joint samples", "densities", "curve")}, indent=1
    )
    (given.out / "score.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
