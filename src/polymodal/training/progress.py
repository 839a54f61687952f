"""Progress of the training for the user: a bar in a terminal, else a line now and then. Everything
else is in log.csv.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from polymodal.training.epoch_line import Scale, epoch_line

LINES = 20  # of a stage, at most, where there is no terminal
REFRESH = 0.1  # seconds between updates of the bar, at least


class Reporter:
    """Reports stages, epochs and losses on standard error.

    Args:
        shown: whether anything is reported.
        every: seconds between lines, at least; a stage that takes longer has about `LINES` lines.
        console: default: standard error.
    """

    def __init__(
        self, shown: bool = True, every: float = 5.0, console: Console | None = None
    ) -> None:
        self.console = console or Console(
            stderr=True, force_jupyter=False, markup=False, highlight=False, emoji=False
        )
        self.shown, self.every = shown, every
        self.last_line, self.last_update = -math.inf, 0.0
        self.bar = self._make_bar() if shown and self.console.is_terminal else None
        self.task: Any = None
        self.scales: Mapping[str, Scale] = {}

    def _make_bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[clock]}", markup=False),
            TextColumn("{task.fields[losses]}", markup=False),
            console=self.console,
        )

    def __enter__(self) -> Reporter:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, text: str) -> None:
        """Prints one line."""
        if self.shown:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stage(
        self,
        name: str,
        steps: int,
        done: int,
        scales: Mapping[str, Scale],
        stops_early: bool = False,
    ) -> None:
        """Begins a stage of `steps` steps, of which an earlier process took `done`; `stops_early`:
        it may end before the last of them.
        """
        self.bound = "at most " if stops_early else ""
        self.name, self.steps, self.done, self.start = name, steps, done, time.monotonic()
        self.scales, self.is_new = scales, True
        if self.bar:
            self.task = self.bar.add_task(name, total=steps, completed=done, losses="", clock="")

    def step(self, step: int) -> None:
        """Reports a step."""
        now = time.monotonic()
        if self.bar and now - self.last_update > REFRESH:
            self.last_update = now
            self.bar.update(self.task, completed=step, clock=self._clock(step))

    def epoch(self, row: Mapping[str, Any], epochs: int, last: bool) -> None:
        """Reports an epoch by its row of the log."""
        if self.bar:
            self._update_bar(self.bar, row, epochs, last)
        elif self.shown:
            self._print_epoch(row, epochs, last)

    def _update_bar(self, bar: Progress, row: Mapping[str, Any], epochs: int, last: bool) -> None:
        bar.update(
            self.task,
            description=f"{self.name} {row['epoch']}/{epochs}",
            completed=self.steps if last else row["step"],
            clock=_duration(row["seconds"]) if last else self._clock(row["step"]),
            losses=epoch_line(row, self.scales),
        )

    def _print_epoch(self, row: Mapping[str, Any], epochs: int, last: bool) -> None:
        now = time.monotonic()
        left = self._seconds_left(row["step"])
        part = 0.0 if self.is_new else (now - self.start + left) / LINES
        if not last and now - self.last_line < max(self.every, part):
            return
        self.last_line, self.is_new = now, False
        clock = (
            f"took {_duration(row['seconds'])}" if last else f"{self.bound}{_duration(left)} left"
        )
        line = epoch_line(row, self.scales)
        self.say(f"{self.name} epoch {row['epoch']}/{epochs}, {clock}: {line}")

    def _clock(self, step: int) -> str:
        return f"{self.bound}{_duration(self._seconds_left(step))} left"

    def _seconds_left(self, step: int) -> float:
        per_step = (time.monotonic() - self.start) / max(1, step - self.done)
        return per_step * (self.steps - step)


def _duration(seconds: float) -> str:
    """
    >>> _duration(75), _duration(7500)
    ('1 min 15 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
