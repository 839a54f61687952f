"""The files of a run directory, and run.json: how the run was made and how far it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from polymodal.batch import Modality

RUN, MODEL, LAST = "run.json", "model.safetensors", "last.ckpt"
LOG, METRICS = "log.csv", "metrics.json"
# Settings without influence on what is computed; a run may be resumed with other values.
IDLE = {
    "": ("about", "evaluation", "compare", "seeds"),
    "data": ("path",),
    "training": ("progress", "logger", "checkpoint_minutes", "device"),
}
PACKAGES = ("polymodal", "torch", "lightning", "zuko", "numpy")


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


def modalities_of(info: Mapping[str, Any]) -> list[Modality]:
    """The modalities that run.json describes."""
    return [Modality(**{**m, "shape": tuple(m["shape"])}) for m in info["modalities"]]


def computed(info: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of run.json that determine the numbers: settings (without `IDLE` ones), seed,
    data and modalities.
    """
    settings = _without_idle("", info["settings"])
    settings["data"] = _without_idle("data", settings["data"])
    settings["training"] = _without_idle("training", settings["training"])
    return settings | {
        "seed": info["seed"],
        "samples": info["data"],
        "modalities of the data": info["modalities"],
    }


def _without_idle(section: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in IDLE[section]}


def check_unused(directory: Path) -> None:
    """Raises ValueError if `directory` holds a file of a run, which would be overwritten."""
    if (directory / RUN).exists():
        raise ValueError(
            f"{directory} already contains a run; give another directory, nothing is overwritten."
        )
    for name in (MODEL, LAST, LOG, METRICS):
        if (directory / name).exists():
            raise ValueError(
                f"{directory} contains a {name} but no {RUN}; give another directory (--out),"
                " nothing is overwritten."
            )
