"""The picture and the table of `curves.py`, from its results."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

OURS, PEER = "polymodal", "multivae"
NAMES = {OURS: "polymodal", PEER: "MultiVae"}
LOOKS = {OURS: ("#0072B2", "o", "-"), PEER: ("#D55E00", "s", "--")}
QUANTITIES = {"coherence": "coherence", "frechet": "Fréchet distance / variance"}
METHODS = {"mopoe": "MoPoE", "jnf": "JNF", "mvtcae": "MVTCAE", "mmvae_plus": "MMVAE+"}
Curve = dict[float, tuple[float, float]]  # minutes: (value, standard error)


def curve_of(results: dict[str, Any], task: str, method: str, library: str, name: str) -> Curve:
    """Means over seeds. The error is that over seeds; of one seed, that over test items."""
    found: dict[float, list[tuple[float, float]]] = {}
    for entry in results["trainings"]:
        if (entry["task"], entry["method"], entry["library"]) != (task, method, library):
            continue
        for mark, figures in entry["marks"].items():
            found.setdefault(float(mark), []).append((figures[name], figures[f"{name}_se"]))
    return {mark: _mean_and_error(found[mark]) for mark in sorted(found)}


def _mean_and_error(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    values, errors = zip(*pairs, strict=True)
    if len(values) == 1:
        return values[0], errors[0]
    return mean(values), stdev(values) / math.sqrt(len(values))


def places(results: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Data sets and methods of which there are results."""
    there = {(entry["task"], entry["method"]) for entry in results["trainings"]}
    tasks = sorted({task for task, _ in there})
    return ((task, m) for task in tasks for m in METHODS if (task, m) in there)


def draw(results: dict[str, Any], file: Path) -> None:
    """One column for each data set and method, one row for each quantity; bars are two standard
    errors.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = list(places(results))
    if not columns:
        return
    size = (2.9 * len(columns) + 0.6, 5.2)
    figure, axes = plt.subplots(len(QUANTITIES), len(columns), figsize=size, squeeze=False)
    for k, (task, method) in enumerate(columns):
        axes[0, k].set_title(f"{METHODS[method]}, {task}", fontsize=10)
        for row, (quantity, label) in zip(axes[:, k], QUANTITIES.items(), strict=True):
            for library, (colour, marker, line) in LOOKS.items():
                curve = curve_of(results, task, method, library, quantity)
                if not curve:
                    continue
                values, errors = zip(*curve.values(), strict=True)
                look = {"color": colour, "marker": marker, "linestyle": line, "capsize": 3}
                bars = [2 * e for e in errors]
                row.errorbar(list(curve), values, bars, label=NAMES[library], **look)
            row.set_ylabel(label if k == 0 else "")
            row.margins(0.1)
            row.autoscale_view()
            row.set(xlim=(0, row.get_xlim()[1]), ylim=(0, 1.05 * row.get_ylim()[1]))
            row.grid(alpha=0.3)
        axes[-1, k].set_xlabel("minutes of processor time")
    axes[0, 0].legend(fontsize=9)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
    plt.close(figure)


def table(results: dict[str, Any]) -> str:
    """The figures at every mark, and whether ours are as good within two standard errors."""
    head = [
        "data",
        "method",
        "minutes",
        *(f"{n}, {q}" for q in QUANTITIES.values() for n in NAMES.values()),
    ]
    lines = [f"| {' | '.join([*head, 'as good'])} |", "|---" * (len(head) + 1) + "|"]
    for task, method in places(results):
        curves = {
            (q, side): curve_of(results, task, method, side, q)
            for q in QUANTITIES
            for side in NAMES
        }
        for mark in curves["coherence", OURS]:
            if any(mark not in curve for curve in curves.values()):
                continue
            cells = [f"{curve[mark][0]:.3f} ± {curve[mark][1]:.3f}" for curve in curves.values()]
            good = all(as_good(q, curves[q, OURS][mark], curves[q, PEER][mark]) for q in QUANTITIES)
            row = [task, METHODS[method], f"{mark:g}", *cells, "yes" if good else "no"]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def as_good(quantity: str, ours: tuple[float, float], theirs: tuple[float, float]) -> bool:
    """Whether ours is at most two standard errors of the difference worse."""
    worse = theirs[0] - ours[0] if quantity == "coherence" else ours[0] - theirs[0]
    return worse <= 2 * math.hypot(ours[1], theirs[1])


def page(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    facts = results["about"]
    seeds = sorted({entry["seed"] for entry in results["trainings"]})
    loads = [x for entry in results["trainings"] for x in entry["load"]]
    head = (
        f"polymodal {facts[OURS]}, multivae {facts[PEER]}, torch {facts['torch']}, one thread,"
        f" {facts['cpu']}; seeds {', '.join(map(str, seeds))}; load of the machine {min(loads):g} to"
        f" {max(loads):g}. Higher coherence and lower distances are better; ± one standard error"
        " (over seeds; of one seed, over test items). As good: both figures of ours are at most two"
        " standard errors of the difference worse."
    )
    return "\n\n".join(["# Curves beside MultiVae", head, table(results)]) + "\n"
