"""An evaluation that the processes of torchrun share: each takes places that no other one has
taken, and writes their rows into a file that all of them read.

A number is a function of the run, the data and the seed, so that it does not matter who computes
it. The system frees what a process has taken when it ends, however it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from polymodal.checks.files import disk_errors, make_directory, write
from polymodal.metrics.places import Given

Row = dict[str, Any]
FOLDER = ".evaluation"  # in the run directory, beginning of the name
WAIT = 0.5  # seconds before the places of other processes are looked at again


@dataclass(frozen=True)
class Processes:
    """Who measures: process `rank` of `count`, started by the process `parent`."""

    rank: int = 0
    count: int = 1
    parent: int = 0

    @classmethod
    def of_torchrun(cls) -> Processes:
        """Those of torchrun; one process without it."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        rank, count = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
        return cls(rank, count, os.getppid())

    @property
    def is_first(self) -> bool:
        return self.rank == 0


@contextmanager
def one_at_a_time(processes: Processes, folder: Path) -> Iterator[None]:
    """Inside, the other processes of torchrun wait: what the first one leaves in the folder, they
    find there.
    """
    if processes.count > 1:
        make_directory(folder)
    with FileLock(folder / ".lock") if processes.count > 1 else nullcontext():
        yield


class SharedRows:
    """The rows of one evaluation, in files by what is given.

    Args:
        directory: of the run.
        key: says what is measured and how; equal for all processes.
        processes: who shares it.
    """

    def __init__(self, directory: Path, key: str, processes: Processes) -> None:
        self.folder = directory / f"{FOLDER}-{sha256(key.encode()).hexdigest()[:16]}"
        self.processes = processes

    def measured(self, work: Mapping[Given, Callable[[], Sequence[Row]]]) -> list[Row]:
        """The rows of all of `work`, which this process and the others have done."""
        with disk_errors(self.folder, "written"):
            make_directory(self.folder)
            rows: dict[Given, Sequence[Row]] = {}
            while len(rows) < len(work):
                before = len(rows)
                for given in [each for each in work if each not in rows]:
                    if (done := self._done(given, work[given])) is not None:
                        rows[given] = done
                if len(rows) == before:
                    time.sleep(WAIT)
            self._leave()
        return [row for given in work for row in rows[given]]

    def _done(self, given: Given, compute: Callable[[], Sequence[Row]]) -> Sequence[Row] | None:
        """The rows, read or computed; None while another process computes them."""
        name = sha256("+".join(given).encode()).hexdigest()[:16]
        file, lock = self.folder / f"{name}.json", FileLock(self.folder / f"{name}.lock")
        if not file.exists():
            try:
                with lock.acquire(timeout=0):
                    if not file.exists():
                        write(file, json.dumps(list(compute())).encode())
            except Timeout:
                return None
        return json.loads(file.read_bytes())

    def _leave(self) -> None:
        """The first process deletes the files once the others have read them."""
        left = f"left-{self.processes.parent}-"
        if not self.processes.is_first:
            write(self.folder / f"{left}{self.processes.rank}", b"")
            return
        while len(list(self.folder.glob(f"{left}*"))) < self.processes.count - 1:
            time.sleep(WAIT)
        shutil.rmtree(self.folder)


def forget_others(directory: Path) -> None:
    """Deletes what interrupted evaluations that were shared left in the run directory."""
    for folder in directory.glob(f"{FOLDER}-*"):
        shutil.rmtree(folder, ignore_errors=True)
