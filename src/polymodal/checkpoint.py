"""A run: what lies in its directory, how training keeps it there, how it is read again.

`run.json` says how the run was made and how far it is, `model.safetensors` holds the weights, `last.ckpt` what training
needs to go on (tensors and plain values, never code), `log.csv` the course of the losses, `metrics.json` the results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from polymodal.batch import Modality
from polymodal.checkpoint_files import (
    Log,
    load_checkpoint,
    load_weights,
    make_directory,
    read_json,
    refuse_code,
    save_checkpoint,
    save_weights,
    write_json,
)
from polymodal.checks import find, first_difference
from polymodal.methods import METHODS
from polymodal.model import Method, MultimodalVAE
from polymodal.priors import FittedPrior

if TYPE_CHECKING:
    import pandas as pd

RUN, MODEL, LAST, LOG, METRICS = "run.json", "model.safetensors", "last.ckpt", "log.csv", "metrics.json"
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
        """log.csv: stage, epoch, step, seconds, lr, grad_norm, train_<term>, val_<term> (nats per sample), figures."""
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
    """The method that resolved `settings` name, with fresh weights from torch's global random stream."""
    given = dict(settings["method"])
    name = given.pop("name", None)
    if name is None:
        raise ValueError(f"The settings name no method; write method.name, one of: {', '.join(METHODS)}.")
    return METHODS[find(name, METHODS, "method")](modalities, networks=dict(settings["networks"]) or None, **given)


def load(run_dir: str | os.PathLike[str], method: Method | None = None) -> Run:
    """A finished run, its model rebuilt from run.json and model.safetensors. Code in the directory is never run.

    Args:
        run_dir: what was `out` of `fit`.
        method: for a run of a `Method` that has no name in METHODS: the same method, into whose model the weights go.

    Raises:
        ValueError: in one sentence, if it is no run, not finished, damaged, or holds files that can run code.

    >>> load("no/such/run")
    Traceback (most recent call last):
    ValueError: no/such/run is no run directory; give one that `polymodal train` wrote, with a run.json in it.
    """
    directory = Path(run_dir)
    if not (directory / RUN).is_file():
        raise ValueError(f"{directory} is no run directory; give one that `polymodal train` wrote, with a {RUN} in it.")
    refuse_code(directory)
    if (directory / LAST).exists():
        load_checkpoint(directory / LAST, values=False)
    info = read_json(directory / RUN)
    if info.get("status") != "finished":
        raise ValueError(
            f"The run in {directory} is not finished; train it to its end first, the same command goes on."
        )
    try:
        modalities, settings, rows = modalities_of(info), info["settings"], info["rows"]
        named = settings["method"].get("name") is not None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory / RUN} is damaged ({error}); restore it, or train the run again.") from None
    if method is None and not named:
        raise ValueError(
            f"The run in {directory} has a method of its own; give the same one: load(run_dir, method=...)."
        )
    with torch.random.fork_rng(devices=[]):  # building draws weights that are then replaced
        method = method or build(settings, modalities)
    load_weights(directory / MODEL, method.model)
    method.model.eval()
    metrics = read_json(directory / METRICS) if (directory / METRICS).exists() else {}
    log = Log(None, Log.read(directory / LOG, rows))
    return Run(method.model, method, modalities, settings, info, metrics, directory, log)


def state_of(modules: Sequence[nn.Module], model: nn.Module) -> dict[str, Tensor]:
    """The entries of the model's state that belong to `modules`, by name, sharing memory with the model.

    Raises ValueError if a module has parameters that are not the model's, since they would not be saved.
    """
    parts = {id(t): t for module in modules for t in module.state_dict(keep_vars=True).values()}
    found = {name: t for name, t in model.state_dict(keep_vars=True).items() if id(t) in parts}
    if parts.keys() - {id(t) for t in found.values()}:
        raise ValueError(
            "A stage trains a module that is no part of the model; add it to the model, or it is not saved."
        )
    return {name: t.detach() for name, t in found.items()}


def plain_state(modules: Sequence[nn.Module], model: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """{plain name: (name, value)} of `state_of`, a tensor of several names once.

    The plain name is what an entry is called in the same model without a fitted prior.
    """
    fitted = isinstance(getattr(model, "prior", None), FittedPrior)
    tensors, met = model.state_dict(keep_vars=True), set()
    found = {}
    for name, value in state_of(modules, model).items():
        if id(tensors[name]) not in met:
            met.add(id(tensors[name]))
            base = fitted and name.startswith("prior.base.")
            found[name.replace("prior.base.", "prior.", 1) if base else name] = (name, value)
    return found


def computed(info: Mapping[str, Any]) -> dict[str, Any]:
    """What of run.json determines the numbers: settings (without `IDLE` ones), seed, data and modalities."""
    settings = {k: v for k, v in info["settings"].items() if k not in IDLE[""]}
    for part in ("data", "training"):
        settings[part] = {k: v for k, v in settings[part].items() if k not in IDLE[part]}
    return settings | {"seed": info["seed"], "samples": info["data"], "modalities of the data": info["modalities"]}


class Keeper:
    """Keeps a run in its directory while it trains; `out` None: keeps nothing.

    A checkpoint holds all that a run is at one moment: the model, the stage's trainer, how many rows of the log count.

    Args:
        out: the directory; may hold an unfinished run of the same settings, which then goes on.
        info: what run.json is to say.

    Raises ValueError for a run of other settings, damaged files, or a directory that cannot be written.
    """

    def __init__(self, out: str | os.PathLike[str] | None, info: Mapping[str, Any]) -> None:
        self.path = None if out is None else Path(out)
        self.info: dict[str, Any] = json.loads(json.dumps(info))
        self.stage, self.trainer, self.finished = 0, None, False
        self._model: dict[str, Tensor] | None = None
        self._cost, self._saved = 0.0, time.monotonic()
        self._rows: list[dict[str, Any]] = []
        if self.path is not None and (self.path / RUN).exists():
            self._rows = self._found(self.path)
        elif self.path is not None:
            for name in (MODEL, LAST, LOG, METRICS):
                if (self.path / name).exists():
                    raise ValueError(
                        f"{self.path} holds a {name} but no {RUN}; give another --out, nothing is overwritten."
                    )

    def _found(self, path: Path) -> list[dict[str, Any]]:
        """Takes over what an earlier process left; the rows of its log that count."""
        theirs = read_json(path / RUN)
        try:
            difference = first_difference(computed(theirs), computed(self.info))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path / RUN} is damaged ({error}); remove the directory to start again.") from None
        if difference:
            key, there, here = difference
            raise ValueError(
                f"{path} holds a run of other settings: {key} is {there!r} there and {here!r} here; give another "
                "--out, or the same settings to go on with that run."
            )
        self.finished = theirs.get("status") == "finished"
        if self.finished or not (path / LAST).exists():
            return []
        refuse_code(path)
        state = load_checkpoint(path / LAST)
        try:
            self.stage, self.trainer, self._model = state["stage"], state["trainer"], state["model"]
            self.info["stages"] = json.loads(state["stages"])
            return Log.read(path / LOG, state["rows"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path / LAST} is damaged ({error}); remove it to start again from the beginning."
            ) from None

    def begin(self, model: nn.Module, writes: bool = True) -> None:
        """Puts the checkpoint's weights, if there is one, into `model`; from now on the process that `writes` does."""
        self.model = model
        if self._model is not None:
            model.load_state_dict(self._model)
        self._model = None
        self.target = self.path if writes else None
        if self.target:
            make_directory(self.target)
            write_json(self.target / RUN, self.info)
        self.log = Log(self.target / LOG if self.target else None, self._rows)

    def offer(self, snapshot: Callable[[], Mapping[str, Any]], seconds: float | None = None) -> None:
        """Writes a checkpoint if the last is `seconds` old; None: so old that writing takes a tenth of the time."""
        age = time.monotonic() - self._saved
        if self.target and age >= (9 * self._cost if seconds is None else seconds):
            self._save(self.target, snapshot())

    def _save(self, target: Path, trainer: Mapping[str, Any] | None) -> None:
        start = time.monotonic()
        self.log.sync()
        state = {"stage": self.stage, "rows": len(self.log.rows), "stages": json.dumps(self.info["stages"])}
        save_checkpoint(target / LAST, state | {"model": self.model.state_dict(), "trainer": trainer})
        self._saved = time.monotonic()
        self._cost = self._saved - start

    def stage_done(self, name: str, outcome: Mapping[str, Any]) -> None:
        """A stage ended: keeps its outcome and the weights."""
        self.info["stages"][name] = dict(outcome)
        self.stage, self.trainer = self.stage + 1, None
        if self.target:
            self._save(self.target, None)
            save_weights(self.target / MODEL, self.model)
            write_json(self.target / RUN, self.info)

    def close(self, method: Method, modalities: Sequence[Modality]) -> Run:
        """The run ended: keeps that."""
        self.info |= {"status": "finished", "rows": len(self.log.rows)}
        if self.target:
            self.log.sync()
            save_weights(self.target / MODEL, self.model)
            write_json(self.target / RUN, self.info)
        log = Log(None, self.log.rows)
        return Run(method.model, method, list(modalities), self.info["settings"], self.info, {}, self.path, log)
