"""`Checkpointer`: writes a run into its directory while it trains, and resumes it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from polymodal.batch import Modality
from polymodal.checks import first_difference
from polymodal.model import Method
from polymodal.runs.files import (
    damaged,
    load_checkpoint,
    make_directory,
    read_json,
    refuse_code,
    save_checkpoint,
    save_weights,
    write_json,
)
from polymodal.runs.info import LAST, LOG, MODEL, RUN, check_unused, computed
from polymodal.runs.log import Log
from polymodal.runs.run import Run

SHARE = 9  # a checkpoint is due after this many times the seconds that the last one took


class Checkpointer:
    """Writes a run into its directory while it trains.

    A checkpoint (last.ckpt) is the whole state of a run at one moment: the model, the trainer of
    the current stage, and how many rows of the log count.

    Args:
        out: the run directory; an unfinished run with the same settings in it is resumed. None:
            nothing is written.
        info: the contents of run.json.

    Raises ValueError for a run with different settings, damaged files, or a directory that cannot
    be written.
    """

    def __init__(self, out: str | os.PathLike[str] | None, info: Mapping[str, Any]) -> None:
        self.path = None if out is None else Path(out)
        self.info: dict[str, Any] = json.loads(json.dumps(info))
        self.stage, self.finished = 0, False
        self.trainer: Mapping[str, Any] | None = None
        self._model: dict[str, Tensor] | None = None
        self._seconds, self._saved = 0.0, time.monotonic()
        self._rows: list[dict[str, Any]] = []
        if self.path is None:
            return
        if (self.path / RUN).exists():
            self._resume(self.path)
        else:
            check_unused(self.path)

    def _resume(self, path: Path) -> None:
        """Takes over the state of the run in the directory."""
        earlier = read_json(path / RUN)
        self._check_same(earlier, path)
        self.finished = earlier.get("status") == "finished"
        if self.finished or not (path / LAST).exists():
            return
        refuse_code(path)
        try:
            self._take(load_checkpoint(path / LAST), path)
        except (KeyError, TypeError) as error:
            raise damaged(
                path / LAST, error, "remove it to start again from the beginning"
            ) from None

    def _take(self, state: Mapping[str, Any], path: Path) -> None:
        """Takes over a checkpoint."""
        self.stage, self.trainer, self._model = state["stage"], state["trainer"], state["model"]
        self.info["stages"] = json.loads(state["stages"])
        self._rows = Log.read(path / LOG, state["rows"])

    def _check_same(self, earlier: Mapping[str, Any], path: Path) -> None:
        """Raises ValueError if the run in the directory has different settings."""
        try:
            difference = first_difference(computed(earlier), computed(self.info))
        except (KeyError, TypeError, AttributeError) as error:
            raise damaged(path / RUN, error, "remove the directory to start again") from None
        if difference:
            key, there, now = difference
            raise ValueError(
                f"{path} already contains a run with different settings ({key}: {there!r} there,"
                f" {now!r} now); give another --out, or the same settings to resume that run."
            )

    def begin(self, model: nn.Module, writes: bool = True) -> None:
        """Loads the weights of the checkpoint, if there is one, into `model`, and opens the
        directory.

        Args:
            writes: whether this process writes; of several, only one does.
        """
        self.model = model
        if self._model is not None:
            model.load_state_dict(self._model)
        self._model = None
        self.target = self.path if writes else None
        if self.target:
            make_directory(self.target)
            write_json(self.target / RUN, self.info)
        self.log = Log(self.target / LOG if self.target else None, self._rows)

    def save_if_due(
        self, snapshot: Callable[[], Mapping[str, Any]], seconds: float | None = None
    ) -> None:
        """Writes a checkpoint if the last one is old enough.

        Args:
            snapshot: the state of the trainer.
            seconds: the age at which a checkpoint is due; None: so that writing takes at most a
                tenth of the time.
        """
        age = time.monotonic() - self._saved
        due = SHARE * self._seconds if seconds is None else seconds
        if self.target and age >= due:
            self._save(self.target, snapshot())

    def _save(self, target: Path, trainer: Mapping[str, Any] | None) -> None:
        start = time.monotonic()
        self.log.sync()
        save_checkpoint(target / LAST, self._state(trainer))
        self._saved = time.monotonic()
        self._seconds = self._saved - start

    def _state(self, trainer: Mapping[str, Any] | None) -> dict[str, Any]:
        """The contents of a checkpoint."""
        return {
            "stage": self.stage,
            "rows": len(self.log.rows),
            "stages": json.dumps(self.info["stages"]),
            "model": self.model.state_dict(),
            "trainer": trainer,
        }

    def end_stage(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Records the outcome of a stage that has ended, and writes the weights."""
        self.info["stages"][name] = dict(outcome)
        self.stage, self.trainer = self.stage + 1, None
        if self.target:
            self._save(self.target, None)
            self._write_run(self.target)

    def _write_run(self, target: Path) -> None:
        save_weights(target / MODEL, self.model)
        write_json(target / RUN, self.info)

    def close(self, method: Method, modalities: Sequence[Modality]) -> Run:
        """Marks the run as finished, and returns it."""
        self.info |= {"status": "finished", "rows": len(self.log.rows)}
        if self.target:
            self.log.sync()
            self._write_run(self.target)
        run = Run(method.model, method, list(modalities), self.info["settings"], self.info)
        run.directory, run.log = self.path, Log(None, self.log.rows)
        return run
