"""Stages that two methods have in common, so that they are trained once for both."""

from __future__ import annotations

from typing import Any

from polymodal.model import Method, Stage
from polymodal.runs.state import plain_state, trained_names
from polymodal.settings import TrainingSettings


def same_stage(stage: Stage, method: Method, other_stage: Stage, other: Method) -> bool:
    """Whether both stages have the same loss, steps and options, and train parts that were built
    from the same values, to entries of the state of the same names and shapes.

    Initial weights are not compared. A stage without `built_from` equals none, and neither does one
    whose options have no plain equality, such as arrays.
    """
    if stage.built_from is None or other_stage.built_from is None:
        return False
    try:
        return _value(stage, method) == _value(other_stage, other)
    except (ValueError, RuntimeError):  # arrays and tensors of options: no one truth
        return False


def _value(stage: Stage, method: Method) -> list[Any]:
    """The plain values that determine what a stage trains."""
    state = plain_state(stage.modules(method.model), method)
    shapes = {name: value.shape for name, (_, value) in state.items()}
    return [stage.name, stage.loss, stage.prepare, stage.finish, stage.built_from, shapes]


def common_stages(
    pair: tuple[Method, Method], training: tuple[TrainingSettings, TrainingSettings]
) -> list[str]:
    """The names of the leading stages that both methods train in the same way.

    Args:
        pair: a method, and the one whose stages it could take over.
        training: the settings of both.
    """
    method, other = pair
    names: list[str] = []
    for stage, other_stage in zip(method.stages, other.stages, strict=False):
        settings = [section.stage(stage.name) for section in training]
        same = same_stage(stage, method, other_stage, other) and settings[0] == settings[1]
        if not same or not is_trained_once(other_stage, other):
            break
        names.append(stage.name)
    return names


def is_trained_once(stage: Stage, method: Method) -> bool:
    """Whether no later stage of the method trains the same parts again."""
    trained = trained_names(stage, method)
    later = list(method.stages)[list(method.stages).index(stage) + 1 :]
    return all(trained.isdisjoint(trained_names(other, method)) for other in later)
