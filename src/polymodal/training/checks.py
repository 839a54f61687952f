"""What can be known of a run before its first step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from polymodal.checks import check_name
from polymodal.data import Splits
from polymodal.metrics.evaluate import chosen_metrics, chosen_subsets
from polymodal.model import Method
from polymodal.runs.state import state_of
from polymodal.settings.schema import EvaluationSettings, Settings
from polymodal.training.memory import check_run


def check_evaluation(evaluation: EvaluationSettings, splits: Splits) -> None:
    """Raises ValueError for metrics or subsets that the data do not allow."""
    chosen_metrics(evaluation.metrics, splits.test, True)
    if evaluation.subsets != "all":
        chosen_subsets(evaluation.subsets, [m.name for m in splits.modalities])


def check_method(method: Method, settings: Settings, samples: int) -> None:
    """Raises ValueError for stages that do not fit together, settings of stages that do not exist,
    and a run that needs more memory than there is.

    Args:
        samples: for training.
    """
    names = [stage.name for stage in method.stages]
    if len(set(names)) != len(names):
        raise ValueError(f"A method's stages need distinct names, got {names}.")
    settings.training.check_stages(names)
    for stage in method.stages:
        state_of(stage.modules(method.model), method.model)
    check_run(settings, method, samples)


def check_reuse(given: Iterable[str], names: Sequence[str]) -> None:
    """Raises ValueError for a stage to reuse that is none of `names`, with the nearest."""
    for name in given:
        check_name(name, names, "stage to reuse")
