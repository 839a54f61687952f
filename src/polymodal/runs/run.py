"""`Run`: a trained model with its settings, its log and its results; how a run is saved and loaded.

A run directory holds `run.json` (how the run was made, and how far it is), `model.safetensors` (the
weights), `last.ckpt` (the state from which training resumes: tensors and plain values, never code),
`log.csv` (the losses) and `metrics.json` (the results).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polymodal.batch import Modality
from polymodal.checks import find
from polymodal.methods import METHODS
from polymodal.model import Method, MultimodalVAE
from polymodal.runs.files import (
    damaged,
    load_checkpoint,
    load_weights,
    make_directory,
    read_json,
    refuse_code,
    save_weights,
    write_json,
)
from polymodal.runs.info import LAST, LOG, METRICS, MODEL, RUN, check_unused, modalities_of
from polymodal.runs.log import Log

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Run:
    """A trained model, and how it was made.

    Args:
        model: in evaluation mode.
        method: the method that trained it.
        modalities: the modalities of the model.
        settings: the resolved settings, plain nested mappings.
        info: the contents of run.json: command, seed, versions, commit, data, outcomes of the
            stages.
        metrics: the results that `save_metrics` saved last.
        directory: the run directory, or None.
        log: losses and figures of the training.
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

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the run, with its present weights, into a directory, for `load`.

        A run that had no directory has this one from now on.

        Raises ValueError in one sentence if the directory contains another run, or cannot be
        written.
        """
        path = Path(directory)
        if not self._lies_in(path):
            check_unused(path)
        make_directory(path)
        save_weights(path / MODEL, self.model)
        Log(path / LOG, self.log.rows)
        if self.metrics:
            write_json(path / METRICS, self.metrics)
        write_json(path / RUN, self.info)  # last: without it, the directory is no run
        self.directory = self.directory or path

    def _lies_in(self, path: Path) -> bool:
        return self.directory is not None and self.directory.resolve() == path.resolve()

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Sets `metrics`, and writes metrics.json if the run has a directory."""
        self.metrics = dict(metrics)
        if self.directory is not None:
            write_json(self.directory / METRICS, self.metrics)


def build(settings: Mapping[str, Any], modalities: Sequence[Modality]) -> Method:
    """The method that resolved settings name, with fresh weights from torch's global random
    stream.
    """
    options = dict(settings["method"])
    name = options.pop("name", None)
    if name is None:
        raise ValueError(
            f"The settings name no method; write method.name, one of: {', '.join(METHODS)}."
        )
    networks = dict(settings["networks"]) or None
    function = METHODS[find(name, METHODS, "method")]
    return function(modalities, networks=networks, **options)


def load(run_dir: str | os.PathLike[str], method: Method | None = None) -> Run:
    """A finished run, its model rebuilt from run.json and model.safetensors. Code in the directory
    is never run.

    Args:
        run_dir: the directory that was `out` of `fit`, or that `Run.save` wrote.
        method: for a run of a custom `Method`, which has no name in METHODS: the same method; the
            weights are loaded into its model.

    Raises:
        ValueError: in one sentence, if it is no run, not finished, damaged, or contains files that
            can run code.

    >>> load("no/such/run")
    Traceback (most recent call last):
    ValueError: no/such/run is no run directory; give one with a run.json.
    """
    directory = Path(run_dir)
    info = _finished_info(directory)
    modalities, rows, is_named = _described(info, directory / RUN)
    if method is None and not is_named:
        raise ValueError(
            f"The run in {directory} was trained with a custom Method; pass it as load(run_dir,"
            " method=...)."
        )
    method = method or _rebuilt(info["settings"], modalities)
    load_weights(directory / MODEL, method.model)
    method.model.eval()
    metrics = read_json(directory / METRICS) if (directory / METRICS).exists() else {}
    log = Log(None, Log.read(directory / LOG, rows))
    return Run(method.model, method, modalities, info["settings"], info, metrics, directory, log)


def _rebuilt(settings: Mapping[str, Any], modalities: Sequence[Modality]) -> Method:
    """Builds the method; the weights that this draws leave torch's random stream as it was."""
    with torch.random.fork_rng(devices=[]):
        return build(settings, modalities)


def _finished_info(directory: Path) -> dict[str, Any]:
    """The run.json of a finished run, after a check of the other files."""
    if not (directory / RUN).is_file():
        raise ValueError(f"{directory} is no run directory; give one with a {RUN}.")
    refuse_code(directory)
    if (directory / LAST).exists():
        load_checkpoint(directory / LAST, values=False)
    info = read_json(directory / RUN)
    if info.get("status") != "finished":
        raise ValueError(
            f"The run in {directory} is not finished; finish training first; the same command"
            " resumes it."
        )
    return info


def _described(info: Mapping[str, Any], path: Path) -> tuple[list[Modality], int, bool]:
    """The modalities, the number of rows of the log, and whether the method has a name in METHODS.

    Raises ValueError if run.json lacks any of them.
    """
    try:
        is_named = info["settings"]["method"].get("name") is not None
        return modalities_of(info), info["rows"], is_named
    except (KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from None
