"""`Run`: a trained model with its settings, its log and its results; how a run is saved and loaded.

A run directory holds `run.json` (how the run was made, and how far it is), `model.safetensors` (the
weights), `last.ckpt` (the state from which training resumes: tensors and plain values, never code),
`log.csv` (the losses) and `metrics.json` (the results). Each file carries the identity of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polymodal.batch import Modality
from polymodal.checks import CountOrZero, FilePath, Measured, checked, find, typed
from polymodal.checks.files import damaged, make_directory
from polymodal.data.hashing import hash_of
from polymodal.methods import METHODS
from polymodal.model import Method, MultimodalVAE
from polymodal.runs.files import (
    LAST,
    LOG,
    METRICS,
    MODEL,
    RUN,
    read_json,
    refuse_code,
    write_json,
)
from polymodal.runs.info import check_unused, modalities_of, read_info
from polymodal.runs.lock import locked
from polymodal.runs.log import Log
from polymodal.runs.tensors import (
    budget_of,
    check_checkpoint,
    load_into,
    opened,
    save_tensors,
)
from polymodal.settings.schema import OpenGroup

if TYPE_CHECKING:
    import pandas as pd


class Result(OpenGroup):
    """A row of a table of results."""

    method: str
    data: str
    metric: str
    target: str
    given: str
    value: Measured | None
    se: Measured | None
    n: CountOrZero
    seed: int
    direction: str
    unit: str
    reason: str | None = None


class Results(OpenGroup):
    """The contents of metrics.json.

    Args:
        identity: of the run.
        weights: a hash of those that were measured.
    """

    identity: str
    weights: str
    table: list[Result] = []


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
        measured: the hash of the weights to which `metrics` belong; None: the present ones.
    """

    model: MultimodalVAE
    method: Method
    modalities: Sequence[Modality]
    settings: dict[str, Any]
    info: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    directory: Path | None = None
    log: Log = field(default_factory=lambda: Log(None))
    measured: str | None = None
    _writes: bool = field(default=False, repr=False, compare=False)

    @property
    def identity(self) -> str:
        """The hash of what determines the run's numbers, which each of its files carries."""
        return self.info.get("identity", "")

    @property
    def method_name(self) -> str:
        """The method's name; "custom" for a `Method` of the user's own."""
        return (self.settings.get("method") or {}).get("name") or "custom"

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

    @checked
    def save(self, directory: FilePath) -> None:
        """Writes the run, with its present weights, into a directory, for `load`.

        A run that had no directory has this one from now on.

        Raises ValueError in one sentence if the directory contains another run, or cannot be
        written.
        """
        path = Path(directory)
        make_directory(path)
        with locked(path):
            if not self._lies_in(path):
                check_unused(path)
            try:
                self._write(path)
            except BaseException:
                if not (path / RUN).exists():
                    for part in (MODEL, LOG, METRICS):
                        (path / part).unlink(missing_ok=True)
                raise
        self.directory = self.directory or path

    def _lies_in(self, path: Path) -> bool:
        return self.directory is not None and self.directory.resolve() == path.resolve()

    def _write(self, path: Path) -> None:
        """Writes the run; results of other weights are left out. run.json comes last: without it,
        the directory is no run.
        """
        if self.measured not in (None, hash_of(self.model.state_dict())):
            self.metrics, self.measured = {}, None
            (path / METRICS).unlink(missing_ok=True)
        save_tensors(path / MODEL, self.model.state_dict(), identity=self.identity)
        Log(path / LOG, self.log.rows, self.identity)
        if self.metrics:
            self._write_metrics(path)
        write_json(path / RUN, self.info)

    def _write_metrics(self, path: Path) -> None:
        self.measured = hash_of(self.model.state_dict())
        belongs = {"identity": self.identity, "weights": self.measured}
        write_json(path / METRICS, belongs | self.metrics)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, no other process writes into the run directory, and `metrics` are those that the
        last one wrote.

        Raises ValueError if another process writes into it.
        """
        if self._writes or self.directory is None:
            yield
            return
        with locked(self.directory):
            self._writes = True
            try:
                if (self.directory / METRICS).exists():
                    self._read_metrics(self.directory)
                yield
            finally:
                self._writes = False

    def save_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Sets `metrics`, and writes metrics.json if the run has a directory.

        Raises ValueError in one sentence if it cannot be written.
        """
        with self.writing():
            self.metrics = dict(metrics)
            if self.directory is not None:
                self._write_metrics(self.directory)

    def _read_metrics(self, directory: Path) -> None:
        """Raises ValueError for damaged results, and those of another run or of other weights."""
        path, weights = directory / METRICS, hash_of(self.model.state_dict())
        saved = read_json(path)
        try:
            typed(Results, saved)
        except ValueError as error:
            raise damaged(path, error, "remove it, and evaluate the run again") from None
        if (saved.pop("identity"), saved.pop("weights")) != (self.identity, weights):
            raise ValueError(
                f"{path} holds results of other weights than {MODEL} beside it; remove it, and"
                " evaluate the run again."
            )
        self.metrics, self.measured = saved, weights


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


@checked
def load(run_dir: FilePath, method: Method | None = None) -> Run:
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
    identity, modalities = info["identity"], modalities_of(info)
    if method is None and info["settings"]["method"].get("name") is None:
        raise ValueError(
            f"The run in {directory} was trained with a custom Method; pass it as load(run_dir,"
            " method=...)."
        )
    with opened(directory / MODEL, identity) as file:
        if method is None:
            with budget_of(file, directory / MODEL):
                method = _rebuilt(info["settings"], modalities)
        load_into(method.model, file, directory / MODEL)
    _check_stages(method, info, directory)
    method.model.eval()
    log = Log(None, Log.read(directory / LOG, info["rows"], identity))
    run = Run(method.model, method, modalities, info["settings"], info, {}, directory, log)
    if (directory / METRICS).exists():
        run._read_metrics(directory)
    return run


def _check_stages(method: Method, info: Mapping[str, Any], directory: Path) -> None:
    """Raises ValueError if run.json does not have an outcome of each stage."""
    if missing := [s.name for s in method.stages if s.name not in info["stages"]]:
        raise damaged(directory / RUN, f"stages.{missing[0]} is missing")


def _rebuilt(settings: Mapping[str, Any], modalities: Sequence[Modality]) -> Method:
    """Builds the method; the weights that this draws leave torch's random stream as it was."""
    with torch.random.fork_rng(devices=[]):
        return build(settings, modalities)


def _finished_info(directory: Path) -> dict[str, Any]:
    """The run.json of a finished run, after a check of the other files."""
    if not (directory / RUN).is_file():
        raise ValueError(f"{directory} is no run directory; give one with a {RUN}.")
    refuse_code(directory)
    info = read_info(directory / RUN)
    if info["status"] != "finished":
        raise ValueError(
            f"The run in {directory} is not finished; finish training first; the same command"
            " resumes it."
        )
    if (directory / LAST).exists():
        check_checkpoint(directory / LAST, info["identity"])
    return info
