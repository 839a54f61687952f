"""What the user sees while a run trains: a moving bar in a terminal, else a plain line every few
seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Reporter:
    """Tells of stages, epochs and losses on standard error; `shown` False: of nothing.

    Args:
        shown: whether to tell anything.
        every: seconds between plain lines, at least.
        console: where to; default standard error.
    """

    def __init__(
        self, shown: bool = True, every: float = 5.0, console: Console | None = None
    ) -> None:
        self.console = console or Console(stderr=True)
        self.shown, self.every, self.told, self.moved = shown, every, -every, 0.0
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self.bar = (
            Progress(*columns, console=self.console) if shown and self.console.is_terminal else None
        )
        self.task: Any = None

    def __enter__(self) -> Reporter:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar:
            self.bar.stop()

    def say(self, text: str) -> None:
        """One line of text."""
        if self.shown:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def stage(self, name: str, steps: int, done: int) -> None:
        """A stage of `steps` steps begins, `done` of them done before."""
        self.name, self.steps, self.start, self.begun = name, steps, done, time.monotonic()
        if self.bar:
            self.task = self.bar.add_task(name, total=steps, completed=done, losses="")

    def step(self, step: int) -> None:
        """A step was made."""
        now = time.monotonic()
        if self.bar and now - self.moved > 0.1:
            self.moved = now
            self.bar.update(self.task, completed=step)

    def epoch(self, row: Mapping[str, Any], epochs: int, last: bool) -> None:
        """An epoch ended, with this row of the log."""
        losses = "  ".join(
            f"{k} {v:.4g}" for k, v in row.items() if k.startswith(("train_", "val_"))
        )
        now = time.monotonic()
        if self.bar:
            short = "  ".join(f"{k} {row[k]:.4g}" for k in ("train_loss", "val_loss") if k in row)
            self.bar.update(
                self.task,
                completed=self.steps if last else row["step"],
                losses=f"epoch {row['epoch']}/{epochs}  {short}",
            )
        elif self.shown and (last or now - self.told >= self.every):
            self.told = now
            left = (
                (now - self.begun) * (self.steps - row["step"]) / max(1, row["step"] - self.start)
            )
            left_text = "" if last else f", {left:.0f} s left"
            self.say(
                f"{self.name} epoch {row['epoch']}/{epochs} ({row['seconds']:.0f} s{left_text}):"
                f" {losses}"
            )
