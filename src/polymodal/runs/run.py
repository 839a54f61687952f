"""A run: what lies in its directory, how training keeps it there, how it is read again.

`run.json` says how the run was made and how far it is, `model.safetensors` holds the weights,
`last.ckpt` what training needs to go on (tensors and plain values, never code), `log.csv` the
course of the losses, `metrics.json` the results.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polymodal.batch import Modality
from polymodal.checks import find
from polymodal.methods import METHODS
from polymodal.model import Method, MultimodalVAE
from polymodal.runs.files import (
    load_checkpoint,
    load_weights,
    read_json,
    refuse_code,
    write_json,
)
from polymodal.runs.log import Log

if TYPE_CHECKING:
    import pandas as pd

RUN, MODEL, LAST, LOG, METRICS = (
    "run.json",
    "model.safetensors",
    "last.ckpt",
    "log.csv",
    "metrics.json",
)
# Settings that say nothing of what is computed; a run may go on with others.
IDLE = {
    "": ("about", "evaluation", "compare", "seeds"),
    "data": ("path",),
    "training": ("progress", "logger", "checkpoint_minutes", "device"),
}


@dataclass
class Run:
    """A trained model with everything that says how it came to be.

    Args:
        model: in evaluation mode.
        method: what trained it.
        modalities: what the model knows of each modality.
        settings: the resolved settings, plain nested mappings.
        info: what run.json holds: command, seed, versions, commit, data, the stages' outcomes.
        metrics: what `save_metrics` saved last.
        directory: where it lies, or None.
        log: the course of the losses.
    """

    model: MultimodalVAE
    method: Method
    modalities: Sequence[Modality]
    settings: dict[str, Any]
    info: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    directory: Path | None = None
    log: Log = field(default_factory=lambda: Log(None))

    @property
    def history(self) -> pd.DataFrame:
        """log.csv: stage, epoch, step, seconds, lr, grad_norm, train_<term>, val_<term> (nats per
        sample), figures.
        """
        return self.log.frame()

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.info["seed"]

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Sets `metrics`, and writes metrics.json if the run has a directory."""
        self.metrics = dict(metrics)
        if self.directory is not None:
            write_json(self.directory / METRICS, self.metrics)


def commit() -> str | None:
    """The git commit of the source that runs, or None where it is no checkout."""
    try:
        found = subprocess.run(
            [
                "git",
                "log",
                "-1",
                "--format=%H",
                "--",
                ".",
            ],  # nothing where the package is ignored by another's checkout
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def versions() -> dict[str, str]:
    """The versions of what the numbers depend on."""
    found = {"python": sys.version.split()[0]}
    for name in ("polymodal", "torch", "lightning", "zuko", "numpy"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def modalities_of(info: Mapping[str, Any]) -> list[Modality]:
    """The modalities that run.json describes."""
    return [Modality(**{**m, "shape": tuple(m["shape"])}) for m in info["modalities"]]


def build(settings: Mapping[str, Any], modalities: Sequence[Modality]) -> Method:
    """The method that resolved `settings` name, with fresh weights from torch's global random
    stream.
    """
    given = dict(settings["method"])
    name = given.pop("name", None)
    if name is None:
        raise ValueError(
            f"The settings name no method; write method.name, one of: {', '.join(METHODS)}."
        )
    return METHODS[find(name, METHODS, "method")](
        modalities, networks=dict(settings["networks"]) or None, **given
    )


def load(run_dir: str | os.PathLike[str], method: Method | None = None) -> Run:
    """A finished run, its model rebuilt from run.json and model.safetensors. Code in the directory
    is never run.

    Args:
        run_dir: what was `out` of `fit`.
        method: for a run of a `Method` that has no name in METHODS: the same method, into whose
            model the weights go.

    Raises:
        ValueError: in one sentence, if it is no run, not finished, damaged, or holds files that can
            run code.

    >>> load("no/such/run")
    Traceback (most recent call last):
    ValueError: no/such/run is no run directory; give one that `polymodal train` wrote, with a run.json in it.
    """
    directory = Path(run_dir)
    if not (directory / RUN).is_file():
        raise ValueError(
            f"{directory} is no run directory; give one that `polymodal train` wrote, with a {RUN}"
            " in it."
        )
    refuse_code(directory)
    if (directory / LAST).exists():
        load_checkpoint(directory / LAST, values=False)
    info = read_json(directory / RUN)
    if info.get("status") != "finished":
        raise ValueError(
            f"The run in {directory} is not finished; finish training first; the same command"
            " resumes it."
        )
    try:
        modalities, settings, rows = modalities_of(info), info["settings"], info["rows"]
        named = settings["method"].get("name") is not None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{directory / RUN} is damaged ({error}); restore it, or train the run again."
        ) from None
    if method is None and not named:
        raise ValueError(
            f"The run in {directory} was trained with a custom Method; pass it as load(run_dir,"
            " method=...)."
        )
    with torch.random.fork_rng(devices=[]):  # building draws weights that are then replaced
        method = method or build(settings, modalities)
    load_weights(directory / MODEL, method.model)
    method.model.eval()
    metrics = read_json(directory / METRICS) if (directory / METRICS).exists() else {}
    log = Log(None, Log.read(directory / LOG, rows))
    return Run(method.model, method, modalities, settings, info, metrics, directory, log)


def computed(info: Mapping[str, Any]) -> dict[str, Any]:
    """What of run.json determines the numbers: settings (without `IDLE` ones), seed, data and
    modalities.
    """
    settings = {k: v for k, v in info["settings"].items() if k not in IDLE[""]}
    for part in ("data", "training"):
        settings[part] = {k: v for k, v in settings[part].items() if k not in IDLE[part]}
    return settings | {
        "seed": info["seed"],
        "samples": info["data"],
        "modalities of the data": info["modalities"],
    }
