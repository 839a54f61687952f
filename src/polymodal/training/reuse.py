"""Stages whose result is taken from another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polymodal.checks import first_difference
from polymodal.model import Method, Stage
from polymodal.runs.info import computed
from polymodal.runs.run import Run, load
from polymodal.runs.state import plain_state, trained_names
from polymodal.settings import resolve

Info = Mapping[str, Any]  # the contents of run.json
# The entries of `computed` that determine every stage.
COMMON = ("data", "modalities", "networks", "seed", "samples", "modalities of the data")


def taken_from(
    stage: Stage, source: Any, info: Info, method: Method
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The outcome and the state of `stage` in another run.

    Options of the method may differ, since most belong to other stages: the outcome lists those
    that differ under "apart".

    Args:
        source: a `Run` or its directory.
        info: of the run that takes the stage.
        method: of the run that takes the stage.

    Raises ValueError if the stage would not be the same in this run.
    """
    run = source if isinstance(source, Run) else load(source)
    where = str(run.directory or "another run")
    refusal = f"Stage {stage.name!r} cannot be taken from {where}"
    _check_settings(run.info, info, stage.name, refusal)
    if stage.name not in run.info["stages"]:
        raise ValueError(f"{refusal}, whose stages are {list(run.info['stages'])}.")
    outcome = run.info["stages"][stage.name]
    finished = {run.method.plain_name(name) for name in outcome["finish"]}
    names = trained_names(stage, method) | finished
    _check_later_stages(run, stage.name, names, refusal)
    ours, theirs = plain_state([method.model], method), plain_state([run.model], run.method)
    _check_shapes(names, ours, theirs, refusal)
    reused = {
        "status": "reused",
        "from": where,
        "figures": outcome["figures"],
        "finish": sorted(ours[name][0] for name in finished),
        "apart": _different_options(run.info, info),
    }
    return reused, {ours[name][0]: theirs[name][1] for name in names}


def said_of(outcome: Mapping[str, Any]) -> str:
    """The log's line about a stage that was taken from another run."""
    options = outcome["apart"].items()
    differences = ", ".join(f"{k}: {there!r} there, {now!r} now" for k, (there, now) in options)
    return f"taken from {outcome['from']}" + (f" ({differences})" if differences else "")


def _check_settings(theirs: Info, ours: Info, stage: str, refusal: str) -> None:
    difference = first_difference(_stage_settings(theirs, stage), _stage_settings(ours, stage))
    if difference:
        key, there, now = difference
        raise ValueError(f"{refusal} ({key}: {there!r} there, {now!r} now).")


def _stage_settings(info: Info, stage: str) -> dict[str, Any]:
    """The parts of run.json that determine the result of a stage, as far as settings can say."""
    entries = computed(info)
    training = resolve({"training": info["settings"]["training"]}).training.stage(stage)
    latent = entries["method"].get("latent")
    common = {key: entries[key] for key in COMMON}
    return common | {"latent": latent, f"training.stages.{stage}": dict(training)}


def _check_later_stages(run: Run, stage: str, names: set[str], refusal: str) -> None:
    """Raises ValueError if a later stage of the run changed what the stage trained."""
    order = [s.name for s in run.method.stages]
    for later in run.method.stages[order.index(stage) + 1 :]:
        finished = run.info["stages"][later.name]["finish"]
        changed = trained_names(later, run.method) | set(map(run.method.plain_name, finished))
        if not names.isdisjoint(changed):
            raise ValueError(f"{refusal}: its stage {later.name!r} trained it further.")


def _check_shapes(
    names: set[str],
    ours: Mapping[str, tuple[str, Tensor]],
    theirs: Mapping[str, tuple[str, Tensor]],
    refusal: str,
) -> None:
    for name in sorted(names):
        shapes = [state[name][1].shape for state in (ours, theirs) if name in state]
        if len(shapes) < 2 or shapes[0] != shapes[1]:
            raise ValueError(f"{refusal}, which has no {name} of the same shape.")


def _different_options(theirs: Info, ours: Info) -> dict[str, list[Any]]:
    """{option: [their value, our value]} for options of the method that both have."""
    there, now = (info["settings"].get("method") or {} for info in (theirs, ours))
    shared = [k for k in there if k != "name" and k in now]
    return {k: [there[k], now[k]] for k in shared if there[k] != now[k]}
