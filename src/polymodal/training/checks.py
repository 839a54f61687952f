"""What can be known of a run before its first step."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from polymodal.checks import check_name
from polymodal.data import Splits
from polymodal.metrics.classifier_networks import check_networks
from polymodal.metrics.evaluate import chosen_metrics, chosen_subsets
from polymodal.model import Method, Stage
from polymodal.runs.checkpointer import Checkpointer
from polymodal.runs.files import RUN
from polymodal.runs.info import commit, versions
from polymodal.runs.state import state_of
from polymodal.settings.resolve import to_dict
from polymodal.settings.schema import EvaluationSettings, Settings, StageSettings
from polymodal.training.memory import check_run


def check_evaluation(evaluation: EvaluationSettings, splits: Splits) -> None:
    """Raises ValueError for metrics, subsets or classifiers that the data do not allow."""
    chosen_metrics(evaluation.metrics, splits.test, True)
    check_networks(evaluation.classifiers, splits.modalities)
    if evaluation.subsets not in (None, "all"):
        chosen_subsets(evaluation.subsets, [m.name for m in splits.modalities])


def check_method(method: Method, settings: Settings, splits: Splits) -> None:
    """Raises ValueError for stages that do not fit together, settings of stages that do not exist,
    batches that are too small for a stage's loss, and a run that needs more memory than there is.
    """
    names = [stage.name for stage in method.stages]
    if len(set(names)) != len(names):
        raise ValueError(f"A method's stages need distinct names, got {names}.")
    settings.training.check_stages(names)
    for stage in method.stages:
        state_of(stage.modules(method.model), method.model)
        chosen = settings.training.stage(stage.name)
        if stage.min_pairs and stage.trains and chosen.epochs:
            _check_pairs(stage, chosen, splits)
    check_run(settings, method, len(splits.train))


def _check_pairs(stage: Stage, settings: StageSettings, splits: Splits) -> None:
    """Raises ValueError if no batch can hold as many pairs as the stage's loss needs."""
    for part, data in (("training", splits.train), ("validation", splits.val)):
        pairs = [data.is_present(i) & data.is_present(j) for i, j in combinations(data.names, 2)]
        size = settings.batch
        if part == "validation" and len(data):  # in parts of equal size
            size = len(data) // math.ceil(len(data) / size)
        rows = min(size, max(int(both.sum()) for both in pairs))
        if len(data) and rows < stage.min_pairs:
            batch = f"training.stages.{stage.name}.batch={settings.batch}"
            raise ValueError(
                f"Stage {stage.name!r} needs batches with at least {stage.min_pairs} rows in which"
                " two modalities are present, more than both embeddings have dimensions; those of"
                f" the {part} data have at most {rows} (with {batch}): take more data, a larger"
                " batch or a smaller method.embedding.embedding_size."
            )


def check_reuse(given: Iterable[str], names: Sequence[str]) -> None:
    """Raises ValueError for a stage to reuse that is none of `names`, with the nearest."""
    for name in given:
        check_name(name, names, "stage to reuse")


def check_sources(given: Mapping[str, Path]) -> None:
    """Raises ValueError for a stage that is to be taken from what is no run directory."""
    for stage, directory in given.items():
        if not (directory / RUN).is_file():
            raise ValueError(
                f"Stage {stage!r} is to be taken from {directory}, which is no run directory; give"
                f" one with a {RUN}."
            )


def check_place(settings: Settings, splits: Splits, seed: int, directory: Path) -> None:
    """Raises ValueError if the run of these settings cannot be written into its directory: a file
    is in the way, another run is in it, or writing is not permitted.
    """
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"{nearest} is a file; give another directory as out.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{nearest} may not be written to; give another directory as out.")
    with Checkpointer(directory, run_info(settings, splits, seed)):
        pass  # it compares the run that is there, and sees whether another process writes it


def run_info(settings: Settings, splits: Splits, seed: int) -> dict[str, Any]:
    """The contents of run.json when a run starts."""
    sizes = {part: len(data) for part, data in splits.parts.items()}
    return {
        "status": "training",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "settings": to_dict(settings),
        "data": {"name": splits.name, **sizes},
        "modalities": [asdict(m) for m in splits.modalities],
        "usual": {
            m.name: splits.train.mean(m.name).tolist()
            for m in splits.modalities
            if m.names is not None
        },
        "versions": versions(),
        "commit": commit(),
        "stages": {},
    }
