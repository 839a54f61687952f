"""Further processes that work at the same runs: on this machine, or as jobs of a SLURM cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from polymodal.cli.console import say, standard_output

Processes = Annotated[
    int, typer.Option(min=1, max=256, help="How many processes share the runs on this machine.")
]
Jobs = Annotated[
    int,
    typer.Option(min=0, max=1000, help="Submit so many SLURM jobs that share the runs, and end."),
]
Slurm = Annotated[
    list[str] | None,
    typer.Option(metavar="key=value", help="What sbatch is told: partition=gpu, time=240, ..."),
]
TIME = 240  # minutes of a job, if nothing else is said
TIMES = 50  # that a job whose time ended is queued again


class Again:
    """A command that a SLURM job runs, and that is queued again when its time ends: runs resume.

    Raises subprocess.CalledProcessError if the command fails.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)

    def __call__(self) -> None:
        subprocess.run(self.command, check=True)

    def checkpoint(self) -> Any:
        """What submitit queues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class Workers:
    """Who works at the runs of a directory.

    Args:
        processes: how many share them on this machine.
        jobs: how many SLURM jobs share them, while this process does nothing; 0: none.
        slurm: "key=value", what sbatch is told, by the names of its options.
    """

    processes: int
    jobs: int
    slurm: Sequence[str]

    def submitted(self, out: Path) -> bool:
        """Whether SLURM jobs do the work, which are then submitted.

        Raises ValueError as `submit`, and for options of jobs where there are none.
        """
        if self.slurm and not self.jobs:
            raise ValueError("--slurm says how jobs are submitted; say how many by --jobs.")
        if self.jobs:
            say(standard_output(), submit(self.jobs, self.slurm, out))
        return self.jobs > 0

    def start_others(self) -> list[subprocess.Popen[bytes]]:
        """Starts the same command in further processes, which share the runs by their locks."""
        if self.processes == 1:
            return []
        import torch

        threads = max(1, (os.cpu_count() or 1) // self.processes)
        torch.set_num_threads(threads)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        none = subprocess.DEVNULL
        command = _same_command(["--processes"])
        return [
            subprocess.Popen(command, env=environment, stdout=none, stderr=none)
            for _ in range(self.processes - 1)
        ]


def wait_for(others: Sequence[subprocess.Popen[bytes]]) -> None:
    """Waits until all of them have ended."""
    for other in others:
        other.wait()


def submit(jobs: int, settings: Sequence[str], out: Path) -> str:
    """Submits the same command as an array of SLURM jobs, and says which.

    Args:
        jobs: how many.
        settings: "key=value", what sbatch is told, by the names of its options.
        out: the directory of the runs; the jobs' output goes to its folder `slurm`.

    Raises ValueError without submitit or SLURM, and for a setting that sbatch does not have.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError('--jobs needs submitit: pip install "polymodal[slurm]".') from None
    options = {"job_name": "polymodal", "time": TIME, **dict(_setting(word) for word in settings)}
    work = Again(_same_command(["--jobs", "--slurm"]))
    try:
        executor = submitit.SlurmExecutor(out / "slurm", max_num_timeout=TIMES)
        executor.update_parameters(**options)
        with executor.batch():
            submitted = [executor.submit(work) for _ in range(jobs)]
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"No SLURM job was submitted: {' '.join(str(error).split())}") from None
    names = " ".join(job.job_id for job in submitted)
    return f"Jobs submitted that share the runs: {names}. What they say: {out / 'slurm'}."


def _setting(word: str) -> tuple[str, Any]:
    """The name and the value of "key=value". Raises ValueError for other words."""
    from polymodal.checks.yaml_text import read

    name, equals, text = word.partition("=")
    if not equals:
        raise ValueError(f"--slurm takes key=value, such as partition=gpu, got {word!r}.")
    return name.replace("-", "_"), read(text, name)


def _same_command(without: Sequence[str]) -> list[str]:
    """The command of this process, without some of its options, each of which has a value."""
    words = iter(sys.argv[1:])
    kept = []
    for word in words:
        if word in without:
            next(words)
        elif word.partition("=")[0] not in without:
            kept.append(word)
    return [sys.executable, "-m", "polymodal", *kept]
