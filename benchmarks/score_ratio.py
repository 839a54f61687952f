"""Whether score ratio matching finds what is there, and nothing where nothing is.

    python benchmarks/score_ratio.py [--seeds 20] [--minutes 12] [--out benchmarks/results]

Null data are N(0, I): n = 200, 1,000 and 10,000 samples, of which a fifth is held out, in 12, 20
and 60 dimensions, two blocks of half of them; no direction must be kept. Planted data are 20
dimensions, two blocks of 10 with three canonical correlations c = .5 or .8, whose eigenvalues are
c^2 / (1 - c^2); three directions of each block must be kept, with a principal angle below 15
degrees to the planted ones. Seconds are those of one core. Every fit is written into
score_ratio.json at once, and the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from polymodal.analysis import score_ratio as srm

NULL = [(n, d) for n in (200, 1000, 10_000) for d in (12, 20, 60)]
PLANTED = [(n, c) for n in (1000, 1500, 2000, 10_000) for c in (0.5, 0.8)]
EPSILON, HALF, DIRECTIONS, DEGREES = 0.05, 10, 3, 15.0


def fits(seeds: int) -> Iterator[tuple[str, int, float, int]]:
    """(kind, n, dimensions or correlation, seed), the seeds last."""
    for seed in range(seeds):
        yield from (("null", n, d, seed) for n, d in NULL)
        if seed < seeds // 2:
            yield from (("planted", n, c, seed) for n, c in PLANTED)


def reduced(x: torch.Tensor, half: int) -> tuple[srm.Reduction, torch.Tensor]:
    """The reduction of samples (n, 2 half) in two blocks, and the whitening matrix."""
    sizes, train = {"a": half, "b": half}, round(0.8 * len(x))
    mean, matrix = srm.whitening_of(srm.blocks(x[:train], sizes))
    z = (x - mean) @ matrix
    score = srm.fit(z[:train], z[train:])
    return srm.reduce(score, z[:train], z[train:], sizes), matrix


def null(n: int, d: float) -> dict[str, Any]:
    found, _ = reduced(torch.randn(n, int(d)), int(d) // 2)
    return {"kept": sum(found.choose(EPSILON).values()), "found": found.found}


def planted(n: int, c: float) -> dict[str, Any]:
    a, b = torch.randn(n, HALF), torch.randn(n, HALF)
    noise = math.sqrt(1 - c * c) * b[:, :DIRECTIONS]
    b = torch.cat([c * a[:, :DIRECTIONS] + noise, b[:, DIRECTIONS:]], -1)
    found, matrix = reduced(torch.cat([a, b], -1), HALF)
    kept = list(found.choose(EPSILON).values())
    if kept != [DIRECTIONS, DIRECTIONS]:
        return {"kept": kept, "right": False}
    angles = [
        angle(matrix[i : i + HALF, i : i + HALF], found, m) for i, m in ((0, "a"), (HALF, "b"))
    ]
    return {"kept": kept, "degrees": max(angles), "right": max(angles) < DEGREES}


def angle(matrix: torch.Tensor, found: srm.Reduction, block: str) -> float:
    """The largest principal angle between the planted directions and those of a block, degrees."""
    unit = torch.eye(HALF)[:, :DIRECTIONS]
    true = torch.linalg.qr(torch.linalg.solve(matrix, unit))[0]
    cosines = torch.linalg.svdvals(true.T @ found.vectors[block][:, :DIRECTIONS])
    return math.degrees(math.acos(min(1.0, float(cosines.min()))))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    file, end = args.out / "score_ratio.json", time.monotonic() + 60 * args.minutes
    results = json.loads(file.read_text()) if file.exists() else {}
    for kind, n, setting, seed in fits(args.seeds):
        name = f"{kind} n={n} {'c' if kind == 'planted' else 'd'}={setting} seed={seed}"
        if name in results or time.monotonic() > end:
            continue
        torch.manual_seed(seed)
        start = time.process_time()
        result = (planted if kind == "planted" else null)(n, setting)
        results[name] = result | {"seconds": round(time.process_time() - start, 1)}
        file.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(summary(results)))


def summary(results: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each kind of data: how many fits, and how many of them are right."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for name, result in results.items():
        groups.setdefault(name.partition(" seed")[0], []).append(result)
    return [
        f"{name}: {sum(r.get('right', r['kept'] == 0) for r in group)} of {len(group)} right,"
        f" at most {max(r['seconds'] for r in group):.0f} s"
        for name, group in groups.items()
    ]


if __name__ == "__main__":
    main()
