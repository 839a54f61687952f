"""`fit`: trains a method on data, stage by stage, so that a run can stop anywhere and go on as if
it had not.

The loop is our own, on Lightning Fabric (devices, precision, processes). The data lie on the
device; a batch is an index into them. What a stage does not train is frozen and in evaluation mode,
what it `prepare`s is computed once.

    run = fit("jmvae", load_data("shapes"), out="runs/first", epochs=20, latent=4)
    run.model.generate(batch.only(["square"]))["circle"]

Several processes: `torchrun --nproc_per_node 2 $(which polymodal) train ...`. The batch is then
shared out, `training.batch` is that of all processes together, and the losses are those of one
process, within rounding, where a method draws its noise through `polymodal.distributions.noise`. (A
loss that couples the samples of a batch must gather them from all processes, as deep CCA's does.)
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from polymodal.checks import find, suggest
from polymodal.data import Splits
from polymodal.methods import METHODS
from polymodal.model import Method, MultimodalVAE, Stage
from polymodal.networks.layers import keep_heap
from polymodal.rng import own_random_state, seed_all
from polymodal.runs.checkpointer import Checkpointer
from polymodal.runs.run import Run, build, commit, load, versions
from polymodal.runs.state import state_of
from polymodal.settings.data import complete, load_splits
from polymodal.settings.resolve import resolve, to_dict
from polymodal.settings.schema import Settings, TrainingSettings
from polymodal.training.device import _deterministic, _loggers, _machine
from polymodal.training.prepare import Batches, copy_into, prepared, training_only
from polymodal.training.progress import Reporter
from polymodal.training.reuse import said_of, taken_from
from polymodal.training.stage_trainer import StageTrainer


def fit(
    method: str | Method | Settings | Mapping[str, Any],
    data: Splits | str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    reuse: Mapping[str, str | os.PathLike[str] | Run] | None = None,
    **settings: Any,
) -> Run:
    """Trains a method and returns the run; goes on where the run in `out` stopped, and returns a
    finished one as it is.

    Args:
        method: a name in `polymodal.METHODS`; a whole recipe (`Settings` or a mapping); or a
            `Method`, whose model is then trained in place.
        data: `Splits`, or what `load_data` takes; None: what the settings say.
        out: the run directory; None: nothing is written.
        seed: of weights, order and noise. The same seed and settings give the same run, bit for bit
            on one machine.
        reuse: {stage: run}: takes what that stage trained in another run, with the same settings
            for data, modalities, networks, latent, seed and that stage, instead of training it.
        settings: sections of a recipe (training={"stages": ...}, networks=...), or settings of
            `TrainingSettings` (epochs=20, lr=3e-4, progress=False), or options of the method
            (latent=8, alpha=1.0).

    Returns: the `Run`; its model is on the CPU and in evaluation mode.
    Raises:
        ValueError: in one sentence, for settings that are not there or do not fit, for a run of
            other settings in `out`, for files that are damaged or cannot be written, and for a loss
            that is not finite (which, where, what to try).
    """
    given = _settings(method, data, settings)
    splits = load_splits(given.data, given.modalities, data if isinstance(data, Splits) else None)
    fabric = _machine(given.training, "32-true")
    with own_random_state(fabric.device), _deterministic(given.training.deterministic):
        keeper = Checkpointer(out, _info(given, splits, seed))
        if keeper.finished:
            return load(keeper.path or "", method if isinstance(method, Method) else None)
        if not isinstance(method, Method):
            seed_all(fabric.device, seed, "weights")
            method = build(to_dict(given), splits.modalities)
        model = method.model.to(fabric.device)
        left = method.stages[keeper.stage :]
        reuse = reuse or {}
        _check_stages(method, given.training, reuse)
        taken = {
            s.name: taken_from(s, reuse[s.name], keeper.info, method)
            for s in left
            if s.name in reuse
        }
        fabric.barrier()  # all processes have read before one writes
        keeper.begin(model, fabric.is_global_zero)
        with Reporter(given.training.progress and fabric.is_global_zero) as reporter:
            loggers = _loggers(given.training, keeper)
            for stage in left:
                if stage.name in taken:
                    outcome, state = taken[stage.name]
                    copy_into(model.state_dict(), state)
                    reporter.say(f"{stage.name}: {said_of(outcome)}")
                else:
                    outcome = _stage(
                        stage, model, given.training, splits, seed, keeper, reporter, loggers
                    )
                keeper.stage_done(stage.name, outcome)
        model.to("cpu").eval()
        run = keeper.close(method, splits.modalities)
        fabric.barrier()  # a process that goes on reads what another one wrote
        return run


def _stage(
    stage: Stage,
    model: MultimodalVAE,
    training: TrainingSettings,
    splits: Splits,
    seed: int,
    keeper: Checkpointer,
    reporter: Reporter,
    loggers: Sequence[Any],
) -> dict[str, Any]:
    """Trains and finishes one stage; its outcome for run.json."""
    settings = training.stage(stage.name)
    fabric = _machine(training, settings.precision)
    keep_heap()
    model.eval()
    train, val = (
        prepared(stage, model, part.to(fabric.device), settings.batch, seed, stage.name, name)
        for name, part in (("train", splits.train), ("val", splits.val))
    )
    outcome: dict[str, Any] = {"status": "trained", "figures": {}, "finish": []}
    if stage.trains and settings.epochs:
        with training_only(model, stage.modules(model)) as parameters:
            trainer = StageTrainer(model, parameters, stage, settings, train, val, seed, fabric)
            _epochs(trainer, keeper, reporter, training.checkpoint_minutes, loggers)
        outcome |= {
            "epochs": trainer.epoch,
            "steps": trainer.step,
            "seconds": round(trainer.seconds, 3),
        }
        if trainer.best_epoch:
            outcome |= {"best_epoch": trainer.best_epoch, "best_val_loss": trainer.best_value}
    if stage.finish is not None:
        seed_all(fabric.device, seed, stage.name, "finish")
        ours = state_of(stage.modules(model), model)
        before = {k: v.clone() for k, v in model.state_dict().items() if k not in ours}
        with torch.no_grad():
            figures = _plain(
                stage.finish(
                    model, Batches(train, settings.batch), Batches(val, settings.batch))
            )
        now = model.state_dict()
        outcome |= {
            "figures": figures,
            "finish": [k for k, v in before.items() if not torch.equal(v, now[k])],
        }
        keeper.log.append(
            {"stage": stage.name} | {k: v for k, v in figures.items() if isinstance(v, int | float)}
        )
    return outcome


def _epochs(
    trainer: StageTrainer,
    keeper: Checkpointer,
    reporter: Reporter,
    minutes: float,
    loggers: Sequence[Any],
) -> None:
    """The epochs that are left, each with its row of the log and its checkpoint."""
    if keeper.trainer is not None:
        trainer.restore(keeper.trainer)
        keeper.trainer = None
    reporter.stage(trainer.stage.name, trainer.steps, trainer.step)

    def stepped() -> None:
        reporter.step(trainer.step)
        keeper.offer(trainer.snapshot, 60 * minutes)

    while not trainer.done:
        row = trainer.run_epoch(stepped)
        keeper.log.append(row)
        for logger in loggers:
            values = {
                f"{trainer.stage.name}/{k}": v for k, v in row.items() if k not in ("stage", "step")
            }
            logger.log_metrics(values, step=row["step"])
        reporter.epoch(row, trainer.settings.epochs, trainer.done)
        keeper.offer(trainer.snapshot)
    trainer.close()


def _plain(value: Any) -> Any:
    """Tensors and arrays as numbers and lists, for JSON."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else value.tolist()


def _settings(method: Any, data: Any, given: Mapping[str, Any]) -> Settings:
    """The recipe with `fit`'s keywords in their places."""
    recipe = to_dict(resolve(method)) if isinstance(method, Settings | Mapping) else {}
    if isinstance(method, str):
        recipe = {"method": {"name": find(method, METHODS, "method")}}
    sections = [name for name in Settings.model_fields if name != "method"]
    training = list(TrainingSettings.model_fields)
    name = recipe.get("method", {}).get("name")
    options = (
        [
            n
            for n in inspect.signature(METHODS[name]).parameters
            if n not in ("modalities", *sections)
        ]
        if name
        else []
    )
    more: dict[str, Any] = {"training": {}, "method": {}}
    for key, value in given.items():
        if key in sections:
            more[key] = {**more.get(key, {}), **value} if isinstance(value, Mapping) else value
        elif key in training or key in options:
            more["training" if key in training else "method"][key] = value
        else:
            raise ValueError(
                f"fit has no setting {key!r}.{suggest(key, [*options, *training, *sections])}"
            )
    if isinstance(data, str | os.PathLike):
        more["data"] = {**more.get("data", {}), "name": os.fspath(data)}
    settings = resolve(recipe, more=more)
    if settings.compare:
        raise ValueError(
            f"This recipe compares {', '.join(settings.compare)}; fit trains one method, give one"
            " of those."
        )
    return settings


def _info(settings: Settings, splits: Splits, seed: int) -> dict[str, Any]:
    """What run.json says when a run starts."""
    sizes = {part: len(getattr(splits, part)) for part in ("train", "val", "test")}
    return {
        "status": "training",
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": int(seed),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "settings": to_dict(complete(settings, splits.modalities)),
        "data": {"name": splits.name, **sizes},
        "modalities": [asdict(m) for m in splits.modalities],
        "versions": versions(),
        "commit": commit(),
        "stages": {},
    }


def _check_stages(method: Method, training: TrainingSettings, reuse: Mapping[str, Any]) -> None:
    """Raises ValueError for what would stop the run later."""
    names = [stage.name for stage in method.stages]
    if len(set(names)) != len(names):
        raise ValueError(f"A method's stages need distinct names, got {names}.")
    for what, given in (("setting training.stages.", training.stages), ("stage to reuse: ", reuse)):
        for name in given:
            if name not in names:
                raise ValueError(
                    f"There is no {what}{name}; the stages are"
                    f" {', '.join(names)}.{suggest(name, names)}"
                )
    for stage in method.stages:
        state_of(stage.modules(method.model), method.model)
