"""Stages that are taken over from another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from polymodal.checks import first_difference
from polymodal.model import MultimodalVAE, Stage
from polymodal.runs.run import Run, computed, load
from polymodal.runs.state import plain_state
from polymodal.settings.resolve import resolve


def taken_from(
    stage: Stage, source: Any, info: Mapping[str, Any], model: MultimodalVAE
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `stage` trained in another run: outcome and state. Raises ValueError if it would not be
    the same here.

    Options of the method may be others, since most are of other stages: the outcome names those,
        under "apart".
    """
    run = source if isinstance(source, Run) else load(source)
    where = str(run.directory or "another run")
    theirs, ours = (_stage_says(i, stage.name) for i in (run.info, info))
    if difference := first_difference(theirs, ours):
        key, there, here = difference
        raise ValueError(
            f"Stage {stage.name!r} cannot be taken from {where}: {key} is {there!r} there and"
            f" {here!r} here."
        )
    if stage.name not in run.info["stages"]:
        raise ValueError(
            f"Stage {stage.name!r} cannot be taken from {where}, whose stages are"
            f" {list(run.info['stages'])}."
        )
    state, found = plain_state([model], model), plain_state([run.model], run.model)
    plain = {name: key for key, (name, _) in found.items()}
    moved = lambda s: (
        {*plain_state(s.trains, run.model)}
        | {*map(plain.get, run.info["stages"][s.name]["finish"])}
    )
    finish = {plain.get(name, name) for name in run.info["stages"][stage.name]["finish"]}
    names = {*plain_state(stage.trains, model)} | finish
    order = [s.name for s in run.method.stages]
    for later in run.method.stages[order.index(stage.name) + 1 :]:
        if not names.isdisjoint(moved(later)):
            raise ValueError(
                f"Stage {stage.name!r} cannot be taken from {where}: its stage {later.name!r}"
                " trained it further."
            )
    for name in sorted(names):
        if name not in found or name not in state or found[name][1].shape != state[name][1].shape:
            raise ValueError(
                f"Stage {stage.name!r} cannot be taken from {where}, which has no {name} of the"
                " same shape."
            )
    figures = run.info["stages"][stage.name]["figures"]
    mine = sorted(state[name][0] for name in finish)
    there, here = (i["settings"].get("method") or {} for i in (run.info, info))
    apart = {
        k: [v, here[k]] for k, v in there.items() if k != "name" and k in here and v != here[k]
    }
    outcome = {
        "status": "reused",
        "from": where,
        "figures": figures,
        "finish": mine,
        "apart": apart,
    }
    return outcome, {state[name][0]: found[name][1] for name in names}


def said_of(outcome: Mapping[str, Any]) -> str:
    """What the log says of a stage that was taken over."""
    apart = "".join(f"; there {k} is {a!r}, here {b!r}" for k, (a, b) in outcome["apart"].items())
    return f"taken from {outcome['from']}{apart}"


def _stage_says(info: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What of run.json determines what a stage computes, as far as settings can say."""
    says = computed(info)
    training = resolve({"training": info["settings"]["training"]}).training.stage(stage)
    kept = {
        k: says[k]
        for k in ("data", "modalities", "networks", "seed", "samples", "modalities of the data")
    }
    return kept | {
        "latent": says["method"].get("latent"),
        f"training.stages.{stage}": training.model_dump(),
    }
