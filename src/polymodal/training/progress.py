"""Progress of the training for the user: a bar in a terminal, else a line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

REFRESH = 0.1  # seconds between updates of the bar, at least


class Reporter:
    """Reports stages, epochs and losses on standard error.

    Args:
        shown: whether anything is reported.
        every: seconds between lines, at least.
        console: default: standard error.
    """

    def __init__(
        self, shown: bool = True, every: float = 5.0, console: Console | None = None
    ) -> None:
        self.console = console or Console(stderr=True, markup=False, highlight=False, emoji=False)
        self.shown, self.every = shown, every
        self.last_line, self.last_update = -every, 0.0
        self.bar = self._make_bar() if shown and self.console.is_terminal else None
        self.task: Any = None

    def _make_bar(self) -> Progress:
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
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

    def stage(self, name: str, steps: int, done: int) -> None:
        """Begins a stage of `steps` steps, of which an earlier process took `done`."""
        self.name, self.steps, self.done, self.start = name, steps, done, time.monotonic()
        if self.bar:
            self.task = self.bar.add_task(name, total=steps, completed=done, losses="")

    def step(self, step: int) -> None:
        """Reports a step."""
        now = time.monotonic()
        if self.bar and now - self.last_update > REFRESH:
            self.last_update = now
            self.bar.update(self.task, completed=step)

    def epoch(self, row: Mapping[str, Any], epochs: int, last: bool) -> None:
        """Reports an epoch by its row of the log."""
        if self.bar:
            self._update_bar(self.bar, row, epochs, last)
        elif self.shown:
            self._print_epoch(row, epochs, last)

    def _update_bar(self, bar: Progress, row: Mapping[str, Any], epochs: int, last: bool) -> None:
        losses = _losses({k: row[k] for k in ("train_loss", "val_loss") if k in row})
        completed = self.steps if last else row["step"]
        text = f"epoch {row['epoch']}/{epochs}  {losses}"
        bar.update(self.task, completed=completed, losses=text)

    def _print_epoch(self, row: Mapping[str, Any], epochs: int, last: bool) -> None:
        now = time.monotonic()
        if not last and now - self.last_line < self.every:
            return
        self.last_line = now
        clock = f"{row['seconds']:.0f} s"
        if not last:
            clock += f", {self._seconds_left(row['step'], now):.0f} s left"
        self.say(f"{self.name} epoch {row['epoch']}/{epochs} ({clock}): {_losses(row)}")

    def _seconds_left(self, step: int, now: float) -> float:
        per_step = (now - self.start) / max(1, step - self.done)
        return per_step * (self.steps - step)


def _losses(row: Mapping[str, Any]) -> str:
    losses = {k: v for k, v in row.items() if k.startswith(("train_", "val_"))}
    return "  ".join(f"{k} {v:.4g}" for k, v in losses.items())
