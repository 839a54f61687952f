"""`Checkpointer`: writes a run into its directory while it trains, and resumes it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import nn

from polymodal.batch import Modality
from polymodal.checks import FilePath, first_difference
from polymodal.checks.files import damaged, make_directory
from polymodal.model import Method
from polymodal.runs.files import LAST, LOG, MODEL, RUN, finite, refuse_code, write_json
from polymodal.runs.info import check_unused, computed, identity_of, read_info
from polymodal.runs.lock import locked
from polymodal.runs.log import Log
from polymodal.runs.run import Run
from polymodal.runs.tensors import load_checkpoint, save_checkpoint, save_tensors

PAUSE = 9  # a checkpoint is due after this many times the seconds that the last one took


class Checkpointer:
    """Writes a run into its directory while it trains; a context, in which no other process does.

    A checkpoint (last.ckpt) is the whole state of a run at one moment: the model, the trainer of
    the current stage, and how many rows of the log count.

    Args:
        out: the run directory; an unfinished run with the same settings in it is resumed. None:
            nothing is written.
        info: the contents of run.json.
        writes: whether this process writes; of several, only one does.

    Raises ValueError for a run with different settings, damaged files, a directory that cannot be
    written, or into which another process writes.
    """

    def __init__(
        self,
        out: FilePath | None,
        info: Mapping[str, Any],
        writes: bool = True,
    ) -> None:
        self.path = None if out is None else Path(out)
        self.target = self.path if writes else None
        self.info: dict[str, Any] = json.loads(json.dumps(info))
        self.info["identity"] = identity_of(self.info)
        self.stage, self.finished = 0, False
        self.trainer: Mapping[str, Any] | None = None
        self._lock, self._is_locked = ExitStack(), False
        self._seconds, self._saved = 0.0, time.monotonic()
        self._rows: list[dict[str, Any]] = []
        if self.path is None:
            return
        if not (self.path / RUN).exists():
            check_unused(self.path)
        elif read_info(self.path / RUN)["status"] != "finished" and self.target:
            self._hold(self.target)
        if (self.path / RUN).exists():
            self._resume(self.path)

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def _hold(self, target: Path) -> None:
        """Locks the directory until the context ends."""
        make_directory(target)
        self._lock.enter_context(locked(target))
        self._is_locked = True

    def _resume(self, path: Path) -> None:
        """Compares the run in the directory with this one, whose beginning it is."""
        earlier = read_info(path / RUN)
        if difference := first_difference(computed(earlier), computed(self.info)):
            key, there, now = difference
            raise ValueError(
                f"{path} already contains a run with different settings ({key}: {there!r} there,"
                f" {now!r} now); give another --out, or the same settings to resume that run."
            )
        self.info |= {key: earlier[key] for key in ("identity", "versions")}
        self.finished = earlier["status"] == "finished"
        if not self.finished:
            refuse_code(path)

    def restore(self, method: Method) -> None:
        """Takes over the checkpoint of the run in the directory, if there is one: weights, finished
        stages, the trainer's state and the log.

        Raises ValueError if it is damaged, or no checkpoint of this run.
        """
        if self.path is None or not (self.path / RUN).exists() or not (self.path / LAST).exists():
            return
        progress = load_checkpoint(self.path / LAST, self.info["identity"], method.model)
        names, done = [stage.name for stage in method.stages], list(progress.stages)
        if done != names[: len(done)] or (progress.trainer and done == names):
            reason = f"it is in stage {len(done) + 1} of {len(names)}, after {', '.join(done)}"
            raise damaged(self.path / LAST, reason, "remove it to start again from the beginning")
        self.stage, self.trainer = len(done), progress.trainer
        self.info["stages"] = {
            k: v.model_dump(exclude_unset=True) for k, v in progress.stages.items()
        }
        self._rows = Log.read(self.path / LOG, progress.rows, self.info["identity"])

    def begin(self, model: nn.Module) -> None:
        """Opens the directory, to write the state of `model` into it."""
        self.model = model
        if self.target and not self._is_locked:
            self._hold(self.target)
            check_unused(self.target)  # another process may have begun in the meantime
        if self.target:
            write_json(self.target / RUN, self.info)
        log = self.target / LOG if self.target else None
        self.log = Log(log, self._rows, self.info["identity"])

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
        due = PAUSE * self._seconds if seconds is None else seconds
        if self.target and age >= due:
            self._save(self.target, snapshot())

    def _save(self, target: Path, trainer: Mapping[str, Any] | None) -> None:
        start = time.monotonic()
        self.log.sync()
        stages, rows = self.info["stages"], len(self.log.rows)
        progress = {"stages": stages, "rows": rows, "trainer": trainer}
        save_checkpoint(target / LAST, self.info["identity"], self.model, progress)
        self._saved = time.monotonic()
        self._seconds = self._saved - start

    def end_stage(self, name: str, outcome: Mapping[str, Any]) -> None:
        """Records the outcome of a stage that has ended, and writes the weights."""
        self.info["stages"][name] = finite(outcome)
        self.stage, self.trainer = self.stage + 1, None
        if self.target:
            self._save(self.target, None)
            self._write_run(self.target)

    def _write_run(self, target: Path) -> None:
        state = self.model.state_dict()
        save_tensors(target / MODEL, state, identity=self.info["identity"])
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
