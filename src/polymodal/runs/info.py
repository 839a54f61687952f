"""run.json: how a run was made, how far it is, and the identity that all of its files carry."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from polymodal.batch import Column, Covariate, Modality
from polymodal.checks import Count, CountOrZero, Group, Measured, NonNegative, call, typed
from polymodal.checks.files import damaged
from polymodal.runs.files import LAST, LOG, METRICS, MODEL, RUN, read_json
from polymodal.settings.schema import OpenGroup, Settings

# Settings without influence on what is computed; a run may be resumed with other values.
NO_EFFECT_ON_RESULTS = {
    "": ("about", "evaluation", "compare", "vary", "seeds"),
    "data": ("path", "memory"),
    "training": ("progress", "logger", "checkpoint_minutes", "device"),
}
PACKAGES = (
    "polymodal",
    "torch",
    "lightning-fabric",
    "zuko",
    "numpy",
    "scipy",
    "scikit-learn",
    "torchjd",
    "torchmetrics",
)


class Outcome(OpenGroup):
    """What came of a stage; `from`, `figures` and other entries are written as they are."""

    status: Literal["trained", "reused"]
    figures: dict[str, Any] = {}
    finish: list[str] = []
    epochs: CountOrZero | None = None
    steps: CountOrZero | None = None
    seconds: NonNegative | None = None
    best_epoch: Count | None = None
    best_val_loss: Measured | None = None


class Sizes(Group):
    """The data: its name, and the numbers of samples."""

    name: str
    train: CountOrZero
    val: CountOrZero
    test: CountOrZero


class RunInfo(Group):
    """The contents of run.json.

    Args:
        identity: a hash of all that determines the numbers, which the other files carry too.
        usual: means over the training data of modalities whose entries have names.
        rows: of the log, when the run is finished.
    """

    status: Literal["training", "finished"]
    identity: str
    command: str
    seed: int
    started: str
    settings: Settings
    data: Sizes
    modalities: list[dict[str, Any]]
    usual: dict[str, list[Measured]] = {}
    versions: dict[str, str]
    commit: str | None
    stages: dict[str, Outcome]
    rows: CountOrZero | None = None


def read_info(path: Path) -> dict[str, Any]:
    """The contents of run.json.

    Raises ValueError in one sentence if the file is missing or damaged, or if what determines the
    numbers was changed after the run began.
    """
    info = read_json(path)
    try:
        finished = typed(RunInfo, info).status == "finished"
        modalities_of(info)
        if identity_of(info) != info["identity"]:
            raise ValueError("it is not as it was when the run began")
        if finished and info.get("rows") is None:
            raise ValueError("rows is missing")
    except ValueError as error:
        remedy = "restore it, or remove the directory to start again"
        raise damaged(path, error, remedy) from None
    return info


def identity_of(info: Mapping[str, Any]) -> str:
    """A hash of what determines the numbers of a run: `computed`, and the versions."""
    determined = {**computed(info), "versions": info["versions"]}
    return hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()


def commit() -> str | None:
    """The git commit of the source that runs, or None if it is no checkout."""
    # With the path ".", git is silent in a package that another checkout ignores.
    command = ["git", "log", "-1", "--format=%H", "--", "."]
    folder = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which the numbers depend."""
    installed = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed


def _modality(given: Mapping[str, Any], path: str) -> Modality:
    """A modality with its columns and its covariate."""
    columns = given.get("columns", ())
    made = [call(Column, c, f"{path}.columns[{i}]") for i, c in enumerate(columns)]
    fields = {**given, "columns": tuple(made)}
    if covariate := given.get("covariate"):
        fields["covariate"] = call(Covariate, covariate, f"{path}.covariate")
    return call(Modality, fields, path)


def modalities_of(info: Mapping[str, Any]) -> list[Modality]:
    """The modalities that run.json describes. Raises ValueError for fields that none has."""
    given = info["modalities"]
    try:
        return [_modality(m, f"modalities[{i}]") for i, m in enumerate(given)]
    except TypeError:
        raise ValueError("a modality has no name or no shape") from None


def computed(info: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of run.json that determine the numbers: settings (without those that have
    `NO_EFFECT_ON_RESULTS`), seed, data and modalities.
    """
    settings = _with_effect("", info["settings"])
    for section in ("data", "training"):
        settings[section] = _with_effect(section, settings.get(section, {}))
    return settings | {
        "seed": info["seed"],
        "samples": info["data"],
        "modalities of the data": info["modalities"],
    }


def _with_effect(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in settings.items() if key not in NO_EFFECT_ON_RESULTS[section]
    }


def check_unused(directory: Path) -> None:
    """Raises ValueError if `directory` holds a file of a run, which would be overwritten."""
    for name in (RUN, MODEL, LAST, LOG, METRICS):
        if (directory / name).exists():
            kind = "a run" if name == RUN else f"a {name} but no {RUN}"
            raise ValueError(
                f"{directory} already contains {kind}; give another directory (--out), nothing is"
                " overwritten."
            )
