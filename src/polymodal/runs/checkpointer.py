"""How training keeps a run in its directory."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from polymodal.batch import Modality
from polymodal.checks import first_difference
from polymodal.model import Method
from polymodal.runs.files import (
    load_checkpoint,
    make_directory,
    read_json,
    refuse_code,
    save_checkpoint,
    save_weights,
    write_json,
)
from polymodal.runs.log import Log
from polymodal.runs.run import LAST, LOG, METRICS, MODEL, RUN, Run, computed

if TYPE_CHECKING:
    pass


class Checkpointer:
    """Keeps a run in its directory while it trains; `out` None: keeps nothing.

    A checkpoint holds all that a run is at one moment: the model, the stage's trainer, how many
        rows of the log count.

    Args:
        out: the directory; may hold an unfinished run of the same settings, which then goes on.
        info: what run.json is to say.

    Raises ValueError for a run of other settings, damaged files, or a directory that cannot be
    written.
    """

    def __init__(self, out: str | os.PathLike[str] | None, info: Mapping[str, Any]) -> None:
        self.path = None if out is None else Path(out)
        self.info: dict[str, Any] = json.loads(json.dumps(info))
        self.stage, self.trainer, self.finished = 0, None, False
        self._model: dict[str, Tensor] | None = None
        self._cost, self._saved = 0.0, time.monotonic()
        self._rows: list[dict[str, Any]] = []
        if self.path is not None and (self.path / RUN).exists():
            self._rows = self._found(self.path)
        elif self.path is not None:
            for name in (MODEL, LAST, LOG, METRICS):
                if (self.path / name).exists():
                    raise ValueError(
                        f"{self.path} holds a {name} but no {RUN}; give another --out, nothing is"
                        " overwritten."
                    )

    def _found(self, path: Path) -> list[dict[str, Any]]:
        """Takes over what an earlier process left; the rows of its log that count."""
        theirs = read_json(path / RUN)
        try:
            difference = first_difference(computed(theirs), computed(self.info))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path / RUN} is damaged ({error}); remove the directory to start again."
            ) from None
        if difference:
            key, there, here = difference
            raise ValueError(
                f"{path} already contains a run with different settings ({key}: {there!r} there,"
                f" {here!r} now); give another --out, or the same settings to resume that run."
            )
        self.finished = theirs.get("status") == "finished"
        if self.finished or not (path / LAST).exists():
            return []
        refuse_code(path)
        state = load_checkpoint(path / LAST)
        try:
            self.stage, self.trainer, self._model = state["stage"], state["trainer"], state["model"]
            self.info["stages"] = json.loads(state["stages"])
            return Log.read(path / LOG, state["rows"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path / LAST} is damaged ({error}); remove it to start again from the beginning."
            ) from None

    def begin(self, model: nn.Module, writes: bool = True) -> None:
        """Puts the checkpoint's weights, if there is one, into `model`; from now on the process
        that `writes` does.
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

    def offer(
        self, snapshot: Callable[[], Mapping[str, Any]], seconds: float | None = None
    ) -> None:
        """Writes a checkpoint if the last is `seconds` old; None: so old that writing takes a tenth
        of the time.
        """
        age = time.monotonic() - self._saved
        if self.target and age >= (9 * self._cost if seconds is None else seconds):
            self._save(self.target, snapshot())

    def _save(self, target: Path, trainer: Mapping[str, Any] | None) -> None:
        start = time.monotonic()
        self.log.sync()
        state = {
            "stage": self.stage,
            "rows": len(self.log.rows),
            "stages": json.dumps(self.info["stages"]),
        }
        save_checkpoint(
            target / LAST, state | {"model": self.model.state_dict(), "trainer": trainer}
        )
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def stage_done(self, name: str, outcome: Mapping[str, Any]) -> None:
        """A stage ended: keeps its outcome and the weights."""
        self.info["stages"][name] = dict(outcome)
        self.stage, self.trainer = self.stage + 1, None
        if self.target:
            self._save(self.target, None)
            save_weights(self.target / MODEL, self.model)
            write_json(self.target / RUN, self.info)

    def close(self, method: Method, modalities: Sequence[Modality]) -> Run:
        """The run ended: keeps that."""
        self.info |= {"status": "finished", "rows": len(self.log.rows)}
        if self.target:
            self.log.sync()
            save_weights(self.target / MODEL, self.model)
            write_json(self.target / RUN, self.info)
        log = Log(None, self.log.rows)
        return Run(
            method.model,
            method,
            list(modalities),
            self.info["settings"],
            self.info,
            {},
            self.path,
            log,
        )
