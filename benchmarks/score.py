"""Exactness of the samples of a score prior, on a normal law all of whose conditionals are known;
and the number of calls.

    python benchmarks/score.py [--steps 12000] [--quick] [--out benchmarks/results]

Trains one small denoiser (6 dimensions, 3 modalities, joint and masked) and measures errors of
means in standard deviations and of covariances (relative, Frobenius), the worst over the six
subsets, on 20,000 draws. Samplers of many calls: 4,000 draws (particles: 1,000) and two subsets.
The same with the exact denoiser in place of the learned one says which error is the sampler's. Then
draws per second of a prior of PolyMNIST's size (5 modalities of 32 dimensions, a residual MLP of
512), all 31 subsets in one batch. Results are written after every part; --quick takes a hundredth
of the draws and steps, which checks only that everything runs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from polymodal.diffusion.conditioning import Inpainting, spread
from polymodal.diffusion.denoisers import Denoiser, denoising_score_matching
from polymodal.diffusion.masking import TrainingMasks
from polymodal.diffusion.ode import log_density
from polymodal.diffusion.sampler import Diffusion
from polymodal.diffusion.twisted import Twisted

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
    optimizer, patterns = torch.optim.Adam(net.parameters(), 2e-3), TrainingMasks(joint=0.3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    mean = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    for _ in range(steps):
        x = torch.randn(1024, 6) @ factor.T
        sigma, counted = patterns(x, torch.ones(1024, 3, dtype=torch.bool))
        optimizer.zero_grad()
        denoising_score_matching(net, x, sigma, counted).mean().backward()
        optimizer.step()
        rate.step()
        mean.update_parameters(net)
    return mean.module.eval()


def errors(
    sampler, net, c: torch.Tensor, blocks: tuple[int, ...], n: int
) -> tuple[float, float, int]:
    """Errors of the mean in standard deviations and of the covariance; and calls."""
    generator = torch.Generator().manual_seed(sum(2**b for b in blocks))
    seen = torch.zeros(n, 3, dtype=torch.bool)
    seen[:, list(blocks)] = True
    known = spread(seen, SIZES)[0]
    value = (torch.linalg.cholesky(c) @ torch.randn(6, generator=generator)) * known
    gain = torch.linalg.solve(c[known][:, known], c[known][:, ~known]).T
    left = c[~known][:, ~known] - gain @ c[known][:, ~known]
    x, report = sampler(net, Inpainting(value.expand(n, 6), seen, SIZES))
    x = x[:, ~known]
    mean = ((x.mean(0) - gain @ value[known]) / left.diag().sqrt()).abs().max()
    return float(mean), float((x.T.cov() - left).norm() / left.norm()), report.calls


def worst(sampler, net, c, n: int, subsets) -> dict[str, float]:
    each = [errors(sampler, net, c, blocks, n) for blocks in subsets]
    return {
        "mean": max(e[0] for e in each),
        "covariance": max(e[1] for e in each),
        "calls": each[0][2],
    }


def samplers(quick: bool = False) -> dict[str, tuple]:
    """name: (sampler, draws); of 20,000 all six subsets are taken. Quick: a few steps each."""

    def steps(n: int) -> int:
        return min(n, 22) if quick else n  # of more than 19, the least that "pc" takes

    def replaced(k: int) -> Diffusion:
        return Diffusion("replacement", "pc", steps=steps(100), corrector=k)

    def again(k: int) -> Diffusion:
        return Diffusion("repaint", "ddim", eta=1.0, steps=steps(50), repeats=k)

    return {
        "(c) masks, dpm, 60 calls": (Diffusion("masks", steps=steps(60)), 20_000),
        "(c) masks, heun, 79 calls": (Diffusion("masks", "heun", steps=steps(40)), 20_000),
        "(f) twisted, 32 particles": (Twisted(steps=steps(200), particles=32), 1000),
        "(a) replacement, dpm": (Diffusion("replacement", steps=steps(60)), 20_000),
        **{f"(a) replacement, pc, {k} corrector steps": (replaced(k), 4000) for k in (0, 1, 2, 5)},
        **{f"(b) repaint, {k} times": (again(k), 4000) for k in (1, 3, 10)},
        "the released code's (clean latents), pc": (
            Diffusion("clean", "pc", steps=steps(100)),
            4000,
        ),
    }


def curve(net, c: torch.Tensor, n: int, counts=(10, 20, 30, 50, 100, 200, 500)) -> dict[str, list]:
    """The larger of both errors given block 0 against the number of calls, for each solver."""
    found: dict[str, list] = {}
    for name, options in (
        ("dpm", {}),
        ("heun", {}),
        ("ddim", {}),
        ("ancestral", {"eta": 1.0}),
        ("pc", {"end": 1e-4}),
    ):
        solver = "ddim" if name == "ancestral" else name
        for calls in counts:
            if name == "pc" and calls < 50:  # its steps must exceed beta's 20
                continue
            steps = {"heun": (calls + 1) // 2, "pc": calls // 2}.get(name, calls)
            e = errors(Diffusion("masks", solver, steps=steps, **options), net, c, (0,), n)
            found.setdefault(name, []).append((e[2], max(e[:2])))
    return found


def speed(rows: int) -> dict[str, dict[str, float]]:
    """Draws per second of a prior of PolyMNIST's size, `rows` items for each of the 31 subsets in
    one batch.
    """
    sizes = (32,) * 5
    net = Denoiser(sizes, width=512, depth=2).eval()
    seen = torch.tensor([[bool(i >> m & 1) for m in range(5)] for i in range(31)]).repeat(rows, 1)
    task = Inpainting(torch.randn(len(seen), 160), seen, sizes)
    found = {}
    for name, sampler in (
        ("masks, dpm, 30 steps", Diffusion()),
        ("guidance, dpm, 30 steps", Diffusion("guidance")),
        ("guidance against single blocks, dpm, 30 steps", Diffusion("guidance", against="alone")),
        ("replacement, predictor-corrector, 100 steps", Diffusion("replacement", "pc", steps=100)),
        ("repaint, ddim, 30 steps 5 times", Diffusion("repaint", "ddim", steps=30, repeats=5)),
    ):
        clock, cpu = time.perf_counter(), time.process_time()
        _, calls = sampler(net, task)
        seconds = {"draws per second": len(seen) / (time.perf_counter() - clock)}
        seconds["draws per cpu second"] = len(seen) / (time.process_time() - cpu)
        found[name] = {**seconds, "calls": calls.calls, "points per draw": calls.rows / calls.items}
    return found


def densities(net, c: torch.Tensor, n: int = 500) -> dict[str, float]:
    """log p(x) and log p(x_U | x_0) through the ODE less the exact ones, nats, over n points."""
    x = torch.randn(n, 6) @ torch.linalg.cholesky(c).T

    def normal(k: int) -> torch.Tensor:
        law = torch.distributions.MultivariateNormal(torch.zeros(k), c[:k, :k])
        return law.log_prob(x[:, :k])

    found = {}
    for name, k in (("joint", 0), ("given one", 2)):
        seen = torch.tensor([k > 0, False, False]).expand(n, 3)
        error = log_density(net, Inpainting(x, seen, SIZES)) - normal(6) + (normal(k) if k else 0)
        found |= {
            f"{name}, mean": float(error.mean()),
            f"{name}, mean absolute": float(error.abs().mean()),
        }
    return found


def picture(found: dict, path: Path) -> None:
    """Errors against corrector steps and repeats, and against calls."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for kind, style in (("exact", "--"), ("learned", "-")):
        for word, colour in (("corrector steps", "C0"), ("times", "C1")):
            rows = [
                (int(k.split()[-3 if word[0] == "c" else -2]), v)
                for k, v in found[kind].items()
                if k.endswith(word)
            ]
            label = (
                f"{'replacement, Langevin steps' if word[0] == 'c' else 'RePaint, repeats'} ({kind}"
                " denoiser)"
            )
            left.plot(
                [k for k, _ in rows],
                [max(v["mean"], v["covariance"]) for _, v in rows],
                style + "o",
                color=colour,
                label=label,
            )
    masks = found["learned"]["(c) masks, dpm, 60 calls"]
    left.axhline(max(masks["mean"], masks["covariance"]), color="k", lw=1, label="masks (learned)")
    left.set(
        xscale="symlog",
        yscale="log",
        xlabel="at every level",
        ylabel="worst error",
        title="The bias that replacement hides",
    )
    for name, points in found["curve"].items():
        right.plot(*zip(*points, strict=True), "o-", label=name)
    right.set(
        xscale="log",
        yscale="log",
        xlabel="calls of the network",
        title="Masks, given one modality: error by solver",
    )
    left.legend(fontsize=7)
    right.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def table(found: dict) -> str:
    lines = [
        (
            "| conditioning | mean, sd | covariance | with the exact denoiser: mean | covariance |"
            " calls |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for name, e in found["learned"].items():
        cells = [
            f"{v:.3f}"
            for kind in ("learned", "exact")
            for v in (found[kind][name][k] for k in ("mean", "covariance"))
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {e['calls']} |")
    lines += ["", "| sampler | draws per cpu second | calls | points a draw |", "|---|---|---|---|"]
    for name, e in found["speed"].items():
        lines.append(
            f"| {name} | {e['draws per cpu second']:.0f} | {e['calls']} |"
            f" {e['points per draw']:.0f} |"
        )
    lines += ["", "| solver | calls: worst error given one modality |", "|---|---|"]
    lines += [
        f"| {name} | {', '.join(f'{k}: {e:.3f}' for k, e in points)} |"
        for name, points in found["curve"].items()
    ]
    rest = {k: found[k] for k in ("training", "joint samples", "densities")}
    return "\n".join(lines) + "\n\n" + json.dumps(rest, indent=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    less = 100 if given.quick else 1
    given.out.mkdir(exist_ok=True, parents=True)
    found: dict = {}

    def keep(**part) -> None:
        found.update(part)
        (given.out / "score.json").write_text(json.dumps(found, indent=1) + "\n")
        print(", ".join(part), len(found[next(iter(part))]), flush=True)

    torch.manual_seed(0)
    c, clock, n = law(), time.process_time(), 20_000 // less
    net = train(c, given.steps // less)
    keep(
        training={
            "steps": given.steps // less,
            "batch": 1024,
            "cpu seconds": round(time.process_time() - clock),
        }
    )
    joint = Inpainting(torch.zeros(n, 6), torch.zeros(n, 3, dtype=torch.bool), SIZES)
    drawn = {"dpm, 60 calls": Diffusion(steps=60)(net, joint)[0]}
    drawn["pc, 400 calls"] = Diffusion(solver="pc", steps=200)(net, joint)[0]

    def off(x: torch.Tensor) -> dict[str, float]:
        error = (x.T.cov() - c).norm() / c.norm()
        return {"mean": float(x.mean(0).abs().max()), "covariance": float(error)}

    keep(**{"joint samples": {name: off(x) for name, x in drawn.items()}})
    keep(densities=densities(net, c, 500 // less))
    keep(speed=speed(max(1, 64 // less)))
    keep(curve=curve(net, c, n, (10, 50)) if given.quick else curve(net, c, n))
    for kind, one in (("learned", net), ("exact", exact(c))):
        found[kind] = {}
        for name, (sampler, draws) in samplers(given.quick).items():
            subsets = SUBSETS if draws == 20_000 else FEW
            keep(
                **{
                    kind: {
                        **found[kind],
                        name: worst(sampler, one, c, max(10, draws // less), subsets),
                    }
                }
            )
    picture(found, given.out / "score.png")
    (given.out / "score.md").write_text(
        f"# Exactness of a score prior\n\n{__doc__}\n\n{table(found)}\n"
    )


if __name__ == "__main__":
    main()
