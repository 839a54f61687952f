"""Commands killed at random instants, and several at once in one run directory.

    python benchmarks/kills.py --kills 50

Each command runs in a process of its own, forked from this one so that nothing is imported again,
and is killed (SIGKILL) at an instant that is uniform over its length. Its writes are slowed: half of
the data is written, then the process waits; so it does before every fsync and rename. The same
command then runs to its end. Counted are the kills that landed inside a write, results that differ
from those of an uninterrupted command in any bit (the clock aside), and files that were left behind.
Then 2, 3 and 4 processes train into one run directory at the same time: one trains, the others exit
with status 2. An interrupted benchmark continues where it was.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import polymodal.checks.files as files
import polymodal.metrics.evaluate
import polymodal.report.page  # noqa: F401
from polymodal.cli import main as cli

RESULTS = Path(__file__).parent / "results" / "kills.json"
# Seconds in every write, fsync and rename; more where there are few.
SLOW = {"train": 0.1, "compare": 0.1, "evaluate": 1.2, "report": 2.0, "generate": 0.8}
SMALL = "data.n=160 training.epochs=2 training.batch=32 method.hidden=8 training.progress=false"
SMALL += " training.checkpoint_minutes=0 training.device=cpu"
MEASURES = "joint_log_likelihood,conditional_log_likelihood"
COMMANDS = ("train", "evaluate", "compare", "report", "generate")


def arguments(command: str, folder: Path) -> list[str]:
    """The command line; what it writes lies in `folder`, which holds a run."""
    run, out = str(folder / "run"), str(folder / "out")
    lines = {
        "train": f"train shapes-jnf {SMALL} method.flow.hidden=[8] --out {out}",
        "evaluate": f"evaluate {run} --metrics {MEASURES} --limit 20",
        "compare": f"train {folder / 'pair.yaml'} {SMALL} --out {out}",
        "report": f"report {run} --out {out}/page.html",
        "generate": f"generate {run} --n 2 --out {out}",
    }
    return lines[command].split()


def prepared(folder: Path, run: Path | None) -> Path:
    """A new folder with a comparison and a copy of the run."""
    folder.mkdir(parents=True)
    recipe = "compare: [shapes-jmvae, shapes-jmvae-two-stage]\nevaluation:\n"
    recipe += "  metrics: [joint_log_likelihood]\n  limit: 10\n"
    (folder / "pair.yaml").write_text(recipe)
    if run is not None:
        shutil.copytree(run, folder / "run")
    return folder


# Processes.


class Slowed:
    """Slows the writes of this process by `seconds`. `flag`: one shared byte, 1 inside a write."""

    def __init__(self, flag: mmap.mmap, seconds: float) -> None:
        self.flag, self.seconds = flag, seconds
        os.fsync, os.replace = self.of(os.fsync), self.of(os.replace)
        files.open = self.opened  # type: ignore[attr-defined]

    def wait(self) -> None:
        self.flag[0] = 1
        time.sleep(self.seconds)

    def of(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **kwargs: Any) -> Any:
            self.wait()
            try:
                return real(*args, **kwargs)
            finally:
                self.flag[0] = 0

        return slow

    def opened(self, path: Any, mode: str = "r") -> Any:
        file = open(path, mode)
        if mode == "wb":
            slowed, real = self, file

            class Half:
                def __enter__(self) -> Half:
                    return self

                def __exit__(self, *_: object) -> None:
                    real.close()
                    slowed.flag[0] = 0

                def write(self, data: bytes) -> None:
                    real.write(data[: len(data) // 2])
                    real.flush()
                    slowed.wait()
                    real.write(data[len(data) // 2 :])

            return Half()
        return file


def started(command: list[str], flag: mmap.mmap | None) -> int:
    """The number of a process that runs the command, slowed if there is a flag."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        if flag is not None:
            kind = "compare" if any(".yaml" in word for word in command) else command[0]
            Slowed(flag, SLOW[kind])
        status = cli.run(command)
    finally:
        os._exit(status)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def finish(command: list[str], flag: mmap.mmap | None = None) -> float:
    """Runs a command to its end; the seconds."""
    begin = time.monotonic()
    status = ended(started(command, flag))
    if status:
        raise SystemExit(f"polymodal {' '.join(command)} ended with status {status}")
    return time.monotonic() - begin


# Results.


def contents(folder: Path) -> dict[str, Any]:
    """What lies in a folder, without clocks and places."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "pair.yaml")
    return {str(p.relative_to(folder)): content(p, folder) for p in paths}


def content(path: Path, folder: Path) -> Any:
    data = path.read_bytes()
    if path.name == "run.json":
        info = json.loads(data)
        outcomes = info["stages"].values()
        for outcome in outcomes:
            outcome.pop("seconds", None)
            outcome.pop("from", None)
        return {k: v for k, v in info.items() if k not in ("command", "started")}
    if path.name == "log.csv":
        lines = [line.split(",") for line in data.decode().splitlines()]
        clock = lines[0].index("seconds")
        return [line[:clock] + line[clock + 1 :] for line in lines]
    if path.name == "last.ckpt":
        return None  # holds the clock; that it is whole, the resumed run shows
    if path.suffix == ".html":
        text = data.decode().replace(str(folder), "")
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|[\d.]+ s\b|# .*", "", text)
        return re.sub(r"(?:id=\"|#|url\(#)[\w-]+|<dc:date>.*?</dc:date>", "", text)
    return data


def kill(command: str, at: float, places: dict[str, Any], flag: mmap.mmap) -> dict[str, Any]:
    """One kill, `at` the share of the command's length; what came of it."""
    folder = prepared(places["work"] / "kill", places["run"])
    line = arguments(command, folder)
    flag[0] = 0
    child = started(line, flag)
    time.sleep(at * places["seconds"][command])
    os.kill(child, signal.SIGKILL)
    was_killed = ended(child) == -signal.SIGKILL
    inside = was_killed and flag[0] == 1
    finish(line)
    sound, found = places["sound"][command], contents(folder)
    result = {
        "command": command,
        "at": round(at, 4),
        "killed": was_killed,
        "in a write": bool(inside),
        "differ": sorted(k for k in sound if k in found and found[k] != sound[k]),
        "left": sorted(found.keys() - sound.keys()),
        "missing": sorted(sound.keys() - found.keys()),
    }
    shutil.rmtree(folder)
    return result


def together(count: int, work: Path) -> dict[str, Any]:
    """`count` processes that train into one run directory at the same time."""
    folder = prepared(work / f"together{count}", None)
    line = [sys.executable, "-m", "polymodal", *arguments("train", folder), "training.epochs=30"]
    children = [
        subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    said = [child.communicate()[1] for child in children]
    result = {
        "processes": count,
        "trained": sum(child.returncode == 0 for child in children),
        "refused": sum(
            child.returncode == 2 and f"writes into {folder / 'out'}" in text
            for child, text in zip(children, said, strict=True)
        ),
        "left": sorted(p.name for p in (folder / "out").glob(".*")),
    }
    shutil.rmtree(folder)
    return result


def measured(work: Path, flag: mmap.mmap) -> dict[str, Any]:
    """The uninterrupted results of every command, and the seconds that it takes when slowed."""
    first = prepared(work / "first", None)
    finish(arguments("train", first))
    places = {"work": work, "run": first / "out", "sound": {}, "seconds": {}}
    for command in COMMANDS:
        folder = prepared(work / "kill", places["run"])
        places["seconds"][command] = finish(arguments(command, folder), flag)
        places["sound"][command] = contents(folder)
        shutil.rmtree(folder)
    return places


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    saved = json.loads(given.out.read_text()) if given.out.exists() else {"kills": []}
    draw = random.Random(given.seed)
    plan = [(COMMANDS[i % len(COMMANDS)], draw.random()) for i in range(given.kills)]
    with tempfile.TemporaryDirectory() as folder:
        work, flag = Path(folder), mmap.mmap(-1, 1)
        places = measured(work, flag)
        for command, at in plan[len(saved["kills"]) :]:
            saved["kills"].append(kill(command, at, places, flag))
            write_results(given.out, saved)
        saved["together"] = [together(count, work) for count in (2, 3, 4)]
        write_results(given.out, saved)
    print(json.dumps(saved["summary"], indent=1))


def write_results(path: Path, saved: dict[str, Any]) -> None:
    kills = saved["kills"]
    saved["summary"] = {
        "kills": sum(k["killed"] for k in kills),
        "in a write": sum(k["in a write"] for k in kills),
        "results that differ": sum(bool(k["differ"]) for k in kills),
        "files left behind": sum(len(k["left"]) for k in kills),
        "files missing": sum(len(k["missing"]) for k in kills),
        "together": saved.get("together"),
    }
    files.write(path, (json.dumps(saved, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
