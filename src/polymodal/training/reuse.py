"""Stages whose result is taken from another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polymodal.checks import first_difference
from polymodal.model import Method, Stage
from polymodal.runs.run import Run, computed, load
from polymodal.runs.state import plain_state, trained_names
from polymodal.settings import resolve


def taken_from(
    stage: Stage, source: Any, info: Mapping[str, Any], method: Method
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The outcome and the state of `stage` in another run.

    Options of the method may differ, since most belong to other stages: the outcome names those,
    under "options that differ".

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
    for name in sorted(names):
        if name not in theirs or name not in ours or theirs[name][1].shape != ours[name][1].shape:
            raise ValueError(f"{refusal}, which has no {name} of the same shape.")
    reused = {
        "status": "reused",
        "from": where,
        "figures": outcome["figures"],
        "finish": sorted(ours[name][0] for name in finished),
        "apart": _different_options(run.info, info),
    }
    return reused, {ours[name][0]: theirs[name][1] for name in names}


def _check_settings(theirs: Any, ours: Any, stage: str, refusal: str) -> None:
    if difference := first_difference(_stage_settings(theirs, stage), _stage_settings(ours, stage)):
        key, their_value, our_value = difference
        raise ValueError(f"{refusal}: {key}: {their_value!r} there, {our_value!r} now.")


def _check_later_stages(run: Run, stage: str, names: set[str], refusal: str) -> None:
    order = [s.name for s in run.method.stages]
    for later in run.method.stages[order.index(stage) + 1 :]:
        finished = run.info["stages"][later.name]["finish"]
        moved = trained_names(later, run.method) | set(map(run.method.plain_name, finished))
        if not names.isdisjoint(moved):
            raise ValueError(f"{refusal}: its stage {later.name!r} trained it further.")


def _different_options(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{option: [their value, our value]} for options of the method that both have."""
    there, here = (info["settings"].get("method") or {} for info in (theirs, ours))
    shared = [k for k in there if k != "name" and k in here]
    return {k: [there[k], here[k]] for k in shared if there[k] != here[k]}


def said_of(outcome: Mapping[str, Any]) -> str:
    """The log's line about a stage that was taken from another run."""
    options = outcome["apart"].items()
    differences = ", ".join(f"{k}: {there!r} there, {now!r} now" for k, (there, now) in options)
    return f"taken from {outcome['from']}" + (f" ({differences})" if differences else "")


def _stage_settings(info: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The parts of run.json that determine the result of a stage, as far as settings can say."""
    whole = computed(info)
    training = resolve({"training": info["settings"]["training"]}).training.stage(stage)
    keys = ("data", "modalities", "networks", "seed", "samples", "modalities of the data")
    kept = {k: whole[k] for k in keys}
    latent = whole["method"].get("latent")
    return kept | {"latent": latent, f"training.stages.{stage}": dict(training)}
