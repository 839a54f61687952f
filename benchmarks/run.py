"""Speed of polymodal beside MultiVae, in one run: each task in its own process, the two libraries
in turn.

    python benchmarks/run.py --peer-python PEER/bin/python    # 17 tasks in 3 rounds
    python benchmarks/run.py --only train_jnf bare            # only polymodal, two tasks

Writes results/speed.json (all measurements) and results/speed.md (the table). README.md describes
the peer's environment and each line of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import FAMILIES

HERE = Path(__file__).parent
OURS, PEER = "polymodal", "multivae"
SCRIPTS = {OURS: HERE / "speed.py", PEER: HERE / "peer_multivae.py"}
TASKS = {  # task: the sides that do it, and whether every round repeats it
    "import": ((OURS, PEER), True),
    "train_jnf": ((OURS, PEER), True),
    "bare": ((OURS,), True),
    "train_jnf_dcca": ((OURS,), True),
    "train_jmvae": ((OURS, PEER), True),
    "sample": ((OURS, PEER), True),
    "joint_likelihood": ((OURS, PEER), True),
    "conditional_likelihood": ((OURS, PEER), True),
    "precision": ((OURS,), False),
    "memory": ((OURS,), False),
} | dict.fromkeys(FAMILIES, ((OURS, PEER), True))
QUICK = "--train 256 --epochs 1 --items 16 --warm 1 --points 4 --k 100 --repeats 1".split()
Results = dict[
    str, dict[str, list[dict[str, Any]]]
]  # results[side][task]: one entry for each round


@dataclass(frozen=True)
class Line:
    """One line of the table: the ratio of our rate to another one, each given as (side, task,
    figure), and the ratio that is aimed at.
    """

    name: str
    ours: tuple[str, str, str]
    other: tuple[str, str, str]
    aim: float | None


def against_peer(
    name: str, task: str, figure: str, aim: float | None, other: str | None = None
) -> Line:
    return Line(name, (OURS, task, figure), (PEER, task, other or figure), aim)


FAMILY_LINES = (  # task, what it is, aim
    ("train_mvae", "MVAE, samples/s", 1.0),
    ("train_mmvae_1", "MMVAE with 1 sample, samples/s", 1.0),
    ("train_mmvae_30_iwae", "MMVAE with 30 samples, IWAE", 1.5),
    ("train_mmvae_30_dreg", "MMVAE with 30 samples, DReG", 1.5),
    ("train_mopoe", "MoPoE, samples/s", 1.0),
    ("train_mvae_5", "MVAE of 5 modalities, samples/s", 1.5),
    ("train_mopoe_5", "MoPoE of 5 modalities (31 subsets), samples/s", 1.5),
)
JOINT, CONDITIONAL = "joint_likelihood", "conditional_likelihood"
LINES = (
    against_peer("JNF stage 1, samples/s", "train_jnf", "joint", 1.2),
    Line(
        "JNF stage 1 (other: its bare networks)",
        (OURS, "train_jnf", "joint"),
        (OURS, "bare", "joint"),
        0.95,
    ),
    against_peer("JNF stage 2, samples/s", "train_jnf", "surrogates", 2.0),
    Line(
        "JNF-DCCA stage 2 (other: JNF's)",
        (OURS, "train_jnf_dcca", "surrogates"),
        (PEER, "train_jnf", "surrogates"),
        6.0,
    ),
    against_peer("JMVAE, samples/s", "train_jmvae", "joint", None),
    against_peer("z given 2 of 3, one for each item, draws/s", "sample", "draws", 20.0),
    against_peer("z given 2 of 3, effective draws/s", "sample", "effective", 50.0, "draws"),
    against_peer("joint likelihood, points/s", JOINT, "points", 1.6),
    against_peer("joint likelihood, bf16 decoders", JOINT, "bf16", 2.5, "points"),
    against_peer("conditional likelihood, points/s", CONDITIONAL, "points", 1.6),
    against_peer("conditional likelihood, bf16 decoders", CONDITIONAL, "bf16", 2.5, "points"),
    *(against_peer(name, task, "all", aim) for task, name, aim in FAMILY_LINES),
)


def parse() -> tuple[argparse.Namespace, list[str]]:
    """The settings of the run, and those of the tasks."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--peer-python",
        default=os.environ.get("PEER_PYTHON"),
        help="Python of an environment with multivae",
    )
    p.add_argument(
        "--only",
        nargs="+",
        choices=list(TASKS),
        default=list(TASKS),
        metavar="TASK",
        help=", ".join(TASKS),
    )
    p.add_argument("--rounds", type=int, default=3, help="runs of each task on each side")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument(
        "--quick",
        action="store_true",
        help="tiny sizes, one round: checks that it runs, and measures nothing",
    )
    p.add_argument(
        "--wait-idle",
        type=float,
        default=0,
        metavar="S",
        help="wait up to S seconds for other programs",
    )
    p.add_argument("--out", type=Path, default=HERE / "results")
    args, rest = p.parse_known_args()
    if args.quick:
        args.rounds = 1
    return args, [*(QUICK if args.quick else []), *rest, "--threads", str(args.threads)]


def busy() -> float:
    """Processor seconds that all programs have used since the machine started; 0 where it does not
    say.
    """
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    values = [int(v) for v in stat.read_text().splitlines()[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / os.sysconf("SC_CLK_TCK")


def wait_idle(limit: float) -> None:
    """Returns once other programs use less than a tenth of a core, or after `limit` seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        before = busy()
        time.sleep(3)
        if busy() - before < 0.3:
            return


def measure(python: str, side: str, task: str, settings: list[str], threads: int) -> dict[str, Any]:
    """The figures that one process printed, and how many cores other programs used meanwhile."""
    env = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONWARNINGS": "ignore",
    }
    env["PYTHONPATH"] = str(HERE.parent / "src") if side == OURS else ""
    start, before, own = time.perf_counter(), busy(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [python, str(SCRIPTS[side]), task, *settings], env=env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{side} {task} failed:\n{done.stderr[-3000:]}")
    wall, use = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    mine = use.ru_utime + use.ru_stime - own.ru_utime - own.ru_stime
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"process_s": wall, "other_cores": max(0.0, busy() - before - mine) / wall}


def diagnose(path: str) -> dict[str, float]:
    """R-hat and effective sample size of draws (N, chains, items, D), by the same code for both
    sides: the worst dimension of the median item.
    """
    import torch

    from polymodal.sampling import ess, rhat

    draws = torch.load(path, weights_only=True)
    worst, size = rhat(draws).amax(-1), ess(draws).amin(-1)
    share = (worst < 1.05).float().mean().item()
    count = len(draws) * draws.shape[1]
    return {
        "rhat": worst.median().item(),
        "rhat_ok": share,
        "ess": size.median().item(),
        "draws": count,
    }


def collect(args: argparse.Namespace, settings: list[str]) -> Results:
    """Runs everything, the two sides in turn, each first in every other round."""
    pythons = {OURS: sys.executable} | ({PEER: args.peer_python} if args.peer_python else {})
    results: Results = {side: {} for side in pythons}
    for r in range(args.rounds):
        for task in args.only:
            for side in order(task, r):
                if side not in pythons:
                    continue
                wait_idle(args.wait_idle)
                figures = one_task(pythons[side], side, task, settings, args.threads, r == 0)
                results[side].setdefault(task, []).append(figures)
                text = f"round {r + 1}: {side} {task} {figures['process_s']:.0f} s"
                print(text, file=sys.stderr, flush=True)
    return results


def order(task: str, r: int) -> tuple[str, ...]:
    """The sides that do a task in round r, in order."""
    sides, every_round = TASKS[task]
    if r > 0 and not every_round:
        return ()
    return sides if r % 2 == 0 else sides[::-1]


def one_task(
    python: str, side: str, task: str, settings: list[str], threads: int, diagnosed: bool
) -> dict[str, Any]:
    """The figures of one task; if `diagnosed`, with those of the draws that it made."""
    if task != "sample" or not diagnosed:
        return measure(python, side, task, settings, threads)
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/draws.pt"
        figures = measure(python, side, task, [*settings, "--draws-file", file], threads)
        return figures | {"diagnosed": diagnose(file)}


def rates(results: Results, key: tuple[str, str, str], clock: str) -> list[float]:
    side, task, figure = key
    return [found[figure][clock] for found in results.get(side, {}).get(task, [])]


def compared(results: Results) -> list[dict[str, Any]]:
    """Each line that was measured: medians over the rounds; the ratio, round by round; and of
    processor time.
    """
    table = []
    for line in LINES:
        ours, other = (rates(results, key, "median") for key in (line.ours, line.other))
        if not ours or not other:
            continue
        ratios = [a / b for a, b in zip(ours, other, strict=True)]
        cpu = [
            a / b
            for a, b in zip(
                rates(results, line.ours, "cpu"), rates(results, line.other, "cpu"), strict=True
            )
        ]
        table.append(
            {
                "name": line.name,
                "ours": statistics.median(ours),
                "other": statistics.median(other),
                "aim": line.aim,
                "ratio": statistics.median(ratios),
                "low": min(ratios),
                "high": max(ratios),
                "cpu": statistics.median(cpu),
            }
        )
    return table


def number(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def rate_table(table: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| | polymodal | MultiVae (or other) | ratio | lowest to highest | of processor time |"
        " aim |"
    ]
    lines.append("|---|---|---|---|---|---|---|")
    for row in table:
        aim = "" if row["aim"] is None else f"{row['aim']:g}"
        lines.append(
            f"| {row['name']} | {number(row['ours'])} | {number(row['other'])} | {row['ratio']:.2f}"
            f" | {row['low']:.2f} to {row['high']:.2f} | {row['cpu']:.2f} | {aim} |"
        )
    return lines


def memory_table(results: Results) -> list[str]:
    lines = ["| peak memory of the process, MB | polymodal | MultiVae |", "|---|---|---|"]
    for task in TASKS:
        peaks = [
            max((f["peak_mb"] for f in results.get(s, {}).get(task, [])), default=None)
            for s in (OURS, PEER)
        ]
        if any(peaks):
            lines.append(f"| {task} | {' | '.join(number(p) if p else '' for p in peaks)} |")
    return lines


def remarks(results: Results) -> list[str]:
    """One line each on chains, bf16 and K."""
    lines = []
    for side in results:
        for first in results[side].get("sample", [])[:1]:
            told, taken = first["diagnosed"], first["acceptance"]
            lines.append(
                f"Chains of {side}: R-hat {told['rhat']:.3f}, below 1.05 for {told['rhat_ok']:.0%}"
                f" of the items; effective size {told['ess']:.0f} of {told['draws']}; acceptance"
                f" {taken:.3f}; {first['gradients']} gradients a call."
            )
    for found in results[OURS].get("precision", []):
        for name in ("joint", "conditional"):
            gap = found[name]
            lines.append(
                f"bf16 decoders move the {name} log-likelihood ({gap['nats']:.1f} nats) by"
                f" {gap['mean_gap']:+.3f} nats in the mean over {found['points']} points, by"
                f" {gap['max_gap']:.3f} at most."
            )
    for found in results[OURS].get("memory", []):
        grown = ", ".join(f"{mb:.0f} MB at K = {k}" for k, mb in found["added_mb_by_k"].items())
        lines.append(
            f"Both likelihoods of 64 points need, beyond what the process had before: {grown}."
        )
    return lines


def page(results: Results, table: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The results as Markdown."""
    versions = ", ".join(f"{side} {version}" for side, version in machine["versions"].items())
    head = (
        f"{versions}, torch {machine['torch']}, {machine['threads']} threads, {machine['cpu']};"
        f" {machine['rounds']} rounds; other programs used up to {machine['other_cores']:.2f}"
        " cores. Rates: higher is better; medians over the rounds."
    )
    return (
        "\n\n".join(
            [
                "# Speed beside MultiVae",
                head,
                "\n".join(rate_table(table)),
                "\n".join(memory_table(results)),
                *remarks(results),
            ]
        )
        + "\n"
    )


def describe(
    args: argparse.Namespace, settings: list[str], results: Results, seconds: float
) -> dict[str, Any]:
    """Machine, versions and settings of the run."""
    every = [found for side in results.values() for task in side.values() for found in task]
    info = Path("/proc/cpuinfo")
    names = [
        v.split(":")[1].strip() for v in info.read_text().splitlines() if v.startswith("model name")
    ]
    return {
        "cpu": f"{len(names)} x {names[0]}" if names else platform.machine(),
        "python": platform.python_version(),
        "torch": every[0]["torch"],
        "threads": args.threads,
        "rounds": args.rounds,
        "settings": settings,
        "versions": {
            side: next(iter(tasks.values()))[0]["version"] for side, tasks in results.items()
        },
        "other_cores": max(found["other_cores"] for found in every),
        "seconds": seconds,
    }


def main() -> None:
    args, settings = parse()
    if not args.peer_python:
        print(
            "No --peer-python: only polymodal is measured. README.md says how to install the peer.",
            file=sys.stderr,
        )
    start = time.perf_counter()
    results = collect(args, settings)
    machine, table = (
        describe(args, settings, results, time.perf_counter() - start),
        compared(results),
    )
    text = page(results, table, machine)
    args.out.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "table": table, "results": results}
    (args.out / "speed.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "speed.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
