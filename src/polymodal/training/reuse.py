"""Stages whose result is taken from another run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polymodal.checks import first_difference
from polymodal.model import Method, Stage
from polymodal.runs.info import computed
from polymodal.runs.run import Run, load
from polymodal.runs.state import plain_state, trained_names
from polymodal.settings import resolve

Info = Mapping[str, Any]  # the contents of run.json
State = Mapping[str, tuple[str, Tensor]]  # see `plain_state`
# The entries of `computed` that determine every stage.
COMMON = ("data", "modalities", "networks", "seed", "samples", "modalities of the data")


def taken_from(
    stage: Stage, source: Any, info: Info, method: Method
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The outcome and the state of `stage` in another run.

    Options of the method may differ, since most belong to other stages: the outcome lists those
    that differ under "different_options".

    Args:
        source: a `Run` or its directory.
        info: of the run that takes the stage.
        method: of the run that takes the stage.

    Raises ValueError if the stage would not be the same in this run.
    """
    trained = TrainedStage(source if isinstance(source, Run) else load(source), stage.name)
    trained.check_settings(info)
    names = trained_names(stage, method) | trained.finished
    trained.check_not_changed(names)
    ours = plain_state([method.model], method)
    theirs = plain_state([trained.run.model], trained.run.method)
    trained.check_shapes(names, ours, theirs)
    finished = sorted(ours[name][0] for name in trained.finished)
    outcome = trained.outcome(info) | {"finish": finished}
    return outcome, {ours[name][0]: theirs[name][1] for name in names}


def reuse_message(outcome: Mapping[str, Any]) -> str:
    """The log's line about a stage that was taken from another run."""
    options = outcome["different_options"].items()
    differences = ", ".join(f"{k}: {there!r} there, {now!r} now" for k, (there, now) in options)
    return f"taken from {outcome['from']}" + (f" ({differences})" if differences else "")


@dataclass(frozen=True)
class TrainedStage:
    """A stage of a finished run. The checks raise ValueError if another run cannot take it."""

    run: Run
    name: str

    @property
    def where(self) -> str:
        """The directory of the run."""
        return str(self.run.directory or "another run")

    def refusal(self, reason: str) -> ValueError:
        """The error; `reason` follows the name of the directory."""
        return ValueError(f"Stage {self.name!r} cannot be taken from {self.where}{reason}.")

    def check_settings(self, info: Info) -> None:
        """Checks the settings of the stage, and that the run has it."""
        theirs, ours = (_stage_settings(i, self.name) for i in (self.run.info, info))
        if difference := first_difference(theirs, ours):
            key, there, now = difference
            raise self.refusal(f" ({key}: {there!r} there, {now!r} now)")
        if self.name not in self.run.info["stages"]:
            raise self.refusal(f", whose stages are {list(self.run.info['stages'])}")

    @property
    def finished(self) -> set[str]:
        """Plain names of the entries that the end of the stage changed and it does not train."""
        return _finished(self.run, self.name)

    def check_not_changed(self, names: set[str]) -> None:
        """Checks that no later stage of the run changed these entries."""
        stages = list(self.run.method.stages)
        order = [stage.name for stage in stages]
        for later in stages[order.index(self.name) + 1 :]:
            changed = trained_names(later, self.run.method) | _finished(self.run, later.name)
            if not names.isdisjoint(changed):
                raise self.refusal(f": its stage {later.name!r} trained it further")

    def check_shapes(self, names: set[str], ours: State, theirs: State) -> None:
        """Checks that both states have these entries, with the same shapes."""
        for name in sorted(names):
            if _shape(ours, name) != _shape(theirs, name) or name not in ours:
                raise self.refusal(f", which has no {name} of the same shape")

    def outcome(self, info: Info) -> dict[str, Any]:
        """The outcome of the stage in the run that takes it."""
        return {
            "status": "reused",
            "from": self.where,
            "figures": self.run.info["stages"][self.name]["figures"],
            "different_options": _different_options(self.run.info, info),
        }


def _finished(run: Run, stage: str) -> set[str]:
    return {run.method.plain_name(name) for name in run.info["stages"][stage]["finish"]}


def _shape(state: State, name: str) -> tuple[int, ...] | None:
    return tuple(state[name][1].shape) if name in state else None


def _stage_settings(info: Info, stage: str) -> dict[str, Any]:
    """The parts of run.json that determine the result of a stage, as far as settings can say."""
    entries = computed(info)
    training = resolve({"training": info["settings"]["training"]}).training.stage(stage)
    latent = entries["method"].get("latent")
    common = {key: entries[key] for key in COMMON}
    return common | {"latent": latent, f"training.stages.{stage}": dict(training)}


def _different_options(theirs: Info, ours: Info) -> dict[str, list[Any]]:
    """{option: [their value, our value]} for options of the method that both have."""
    there, now = (info["settings"].get("method") or {} for info in (theirs, ours))
    shared = [k for k in there if k != "name" and k in now]
    return {k: [there[k], now[k]] for k in shared if there[k] != now[k]}
