"""How long a full evaluation of a run takes, part by part.

    python benchmarks/evaluate.py runs/mine --data ../shared/data --threads 2

All subsets; likelihoods by 1,000 latents on 500 items; coherence, Fréchet distance, precision and
the other default metrics of generated values on 2,000; `--all` also representation, copying,
calibration and annealed importance sampling. Loading the data and the classifiers counts (these are
read from the cache, where an evaluation before trained them). Each metric is charged with what it is
the first one to need: latents and classifications that coherence computes serve those after it. The
run is not written to. The load is that of the whole machine when a part begins and ends, this
process included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import polymodal
from polymodal.metrics import METRICS
from polymodal.metrics.evaluate import evaluate

RESULTS = Path(__file__).parent / "results" / "evaluate.json"
LIKELIHOODS = ["joint_log_likelihood", "conditional_log_likelihood"]
MORE = ("probe_500", "probe_all", "cluster", "retrieval", "nearest", "sbc", "tarp")
CLOCKS = (time.monotonic, time.process_time)


def parts(everything: bool) -> dict[str, dict[str, Any]]:
    """Arguments of `evaluate` by part."""
    others = [k for k, m in METRICS.items() if m.default and k not in LIKELIHOODS]
    found = {
        "likelihoods, 500 items": {"metrics": LIKELIHOODS, "limit": 500, "samples": 1000},
        "all else by default, 2,000 items": {"metrics": others, "limit": 2000},
    }
    if everything:
        more = [k for k in METRICS if k.startswith(MORE)]
        found["representation, copying, calibration, 500 items"] = {"metrics": more, "limit": 500}
        found["annealed importance sampling, 20 items"] = {
            "metrics": ["ais_joint_log_likelihood", "ais_error", "ais_gap"],
            "ais_items": 20,
            "limit": 500,
        }
    return found


def charge(spent: dict[str, list[float]]) -> None:
    """Lets every metric add its wall and processor seconds to `spent`."""
    for name, metric in METRICS.items():

        def timed(
            m: Any, given: Any, target: str, name: str = name, of: Any = metric.compute
        ) -> Any:
            start = [clock() for clock in CLOCKS]
            try:
                return of(m, given, target)
            finally:
                took = [clock() - s for clock, s in zip(CLOCKS, start, strict=True)]
                spent[name] = [a + b for a, b in zip(spent.get(name, [0, 0]), took, strict=True)]

        METRICS[name] = replace(metric, compute=timed)


@contextmanager
def clocked(into: dict[str, Any]) -> Iterator[None]:
    load, start = os.getloadavg()[0], [clock() for clock in CLOCKS]
    yield
    wall, processor = (round(clock() - s, 1) for clock, s in zip(CLOCKS, start, strict=True))
    loads = [round(load, 1), round(os.getloadavg()[0], 1)]
    into |= {"wall_s": wall, "processor_s": processor, "load": loads}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("run", type=Path)
    p.add_argument("--data", default=None, help="the folder of the named data sets")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument(
        "--all", action="store_true", help="also what is not measured by default, in part"
    )
    p.add_argument("--out", type=Path, default=RESULTS)
    options = p.parse_args()
    torch.set_num_threads(options.threads)
    spent: dict[str, list[float]] = {}
    charge(spent)
    found: dict[str, Any] = {"parts": {}}
    with clocked(found):
        run = polymodal.load(options.run)
        data = polymodal.load_data(run.settings["data"]["name"], path=options.data)
        for name, arguments in parts(options.all).items():
            part: dict[str, Any] = {"items": arguments["limit"]}
            with clocked(part):
                table = evaluate(run, data, save=False, **arguments)
            seconds = {k: [round(v, 2) for v in spent.pop(k)] for k in list(spent)}
            rows = [
                (r["metric"], r["target"], r["given"], r["value"], r["se"]) for r in table.records()
            ]
            part |= {"wall_and_processor_s_by_metric": seconds, "rows": rows}
            found["parts"][name] = part
            print(name, part["wall_s"], part["processor_s"], part["load"], seconds, flush=True)
    about = {
        "method": run.method_name,
        "data": run.settings["data"]["name"],
        "threads": options.threads,
    }
    about |= {"cores": os.cpu_count(), "processor": platform.machine(), "torch": torch.__version__}
    options.out.write_text(json.dumps(about | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
