"""The stages of a run, one after the other, each with its rows of the log and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from polymodal.checks import keep_heap, plain
from polymodal.data import Dataset, Splits
from polymodal.data.readers.mapped import Room
from polymodal.model import Method, MultimodalVAE, Stage
from polymodal.rng import seed_all
from polymodal.runs.checkpointer import Checkpointer
from polymodal.runs.files import LAST
from polymodal.runs.state import state_of
from polymodal.settings.schema import TrainingSettings
from polymodal.training.advice import warn_of_collapse, warn_of_product
from polymodal.training.device import make_fabric
from polymodal.training.epoch_line import scales_of
from polymodal.training.loggers import Logger, log_draws
from polymodal.training.prepare import Batches, copy_into, prepared, training_only
from polymodal.training.progress import Reporter
from polymodal.training.reuse import reuse_message
from polymodal.training.stage_trainer import Setup, StageTrainer

Taken = tuple[dict[str, Any], dict[str, Tensor]]  # the outcome of a stage, and its state


@dataclass(frozen=True)
class Session:
    """Trains the stages of a method.

    Args:
        training: the settings of all stages.
        splits: the data.
        seed: of the run.
        checkpointer: writes log, checkpoints and outcomes.
        reporter: shows the progress.
        loggers: in addition to log.csv.
        room: where values that stages prepare are kept.
    """

    training: TrainingSettings
    splits: Splits
    seed: int
    checkpointer: Checkpointer
    reporter: Reporter
    loggers: Sequence[Logger]
    room: Room

    def train(self, method: Method, taken: Mapping[str, Taken]) -> None:
        """Trains the stages that are left.

        Args:
            taken: outcome and state of the stages that are taken from other runs.
        """
        for stage in method.stages[self.checkpointer.stage :]:
            if stage.name in taken:
                outcome, state = taken[stage.name]
                copy_into(method.model.state_dict(), state)
                self.reporter.say(f"{stage.name}: {reuse_message(outcome)}")
            else:
                outcome = self._stage(stage, method.model)
            self.checkpointer.end_stage(stage.name, outcome)

    def _stage(self, stage: Stage, model: MultimodalVAE) -> dict[str, Any]:
        """Trains and finishes one stage; returns its outcome for run.json."""
        settings = self.training.stage(stage.name)
        setup = Setup(settings, self.seed, make_fabric(self.training, settings.precision))
        keep_heap()
        model.eval()
        train = self._prepared(stage, model, "train", setup)
        val = self._prepared(stage, model, "val", setup)
        outcome: dict[str, Any] = {"status": "trained", "figures": {}, "finish": []}
        if stage.trains and settings.epochs:
            outcome |= self._trained(stage, model, setup, train, val)
        if stage.finish is not None:
            seed_all(setup.fabric.device, self.seed, stage.name, "finish")
            batches = Batches(train, settings.batch), Batches(val, settings.batch)
            outcome |= self._finished(stage, model, *batches)
        log_draws(self.loggers, stage.name, model, self.splits.val, outcome.get("steps", 0))
        return outcome

    def _prepared(self, stage: Stage, model: MultimodalVAE, part: str, setup: Setup) -> Dataset:
        """One part of the data ("train" or "val"), prepared, on the device."""
        data: Dataset = getattr(self.splits, part).to(setup.fabric.device)
        keys = self.seed, stage.name, part
        return prepared(stage, model, data, setup.settings.batch, *keys, room=self.room)

    def _trained(
        self, stage: Stage, model: MultimodalVAE, setup: Setup, train: Dataset, val: Dataset
    ) -> dict[str, Any]:
        """Trains the stage; its entries of the outcome."""
        with training_only(model, stage.modules(model)) as parameters:
            trainer = StageTrainer(model, parameters, stage, setup, train, val)
            self._resume(trainer)
            self._run_epochs(trainer)
        return trainer.outcome()

    def _resume(self, trainer: StageTrainer) -> None:
        """Restores the trainer from the checkpoint, if that was taken in this stage."""
        if self.checkpointer.trainer is not None:
            try:
                trainer.restore(self.checkpointer.trainer)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
                raise ValueError(
                    f"{LAST} in {self.checkpointer.path} is damaged; remove it to start again from"
                    " the beginning."
                ) from None
            self.checkpointer.trainer = None
        scales = scales_of(self.splits.val)
        stops_early = trainer.settings.patience > 0
        name = trainer.stage.name
        self.reporter.stage(name, trainer.steps, trainer.step, scales, stops_early)

    def _run_epochs(self, trainer: StageTrainer) -> None:
        """The epochs that are left, each with its row of the log and its checkpoint."""

        def on_step() -> None:
            self.reporter.step(trainer.step)
            minutes = self.training.checkpoint_minutes
            self.checkpointer.save_if_due(trainer.snapshot, 60 * minutes)

        while not trainer.done:
            row = trainer.run_epoch(on_step)
            self._log(row)
            self.reporter.epoch(row, trainer.settings.epochs, trainer.done)
            self.checkpointer.save_if_due(trainer.snapshot)
            if trainer.done:
                warn_of_collapse(trainer.stage.name, row)
        trainer.close()

    def _log(self, row: Mapping[str, Any]) -> None:
        """Writes a row into log.csv, and passes it on to the loggers."""
        self.checkpointer.log.append(row)
        stage, step = row["stage"], row["step"]
        values = {f"{stage}/{k}": v for k, v in row.items() if k not in ("stage", "step")}
        for logger in self.loggers:
            logger.metrics(values, step)

    @torch.no_grad()
    def _finished(
        self, stage: Stage, model: MultimodalVAE, train: Batches, val: Batches
    ) -> dict[str, Any]:
        """Finishes the stage in closed form; its entries of the outcome: figures, and the names of
        the entries of the state that changed and that the stage does not train.
        """
        assert stage.finish is not None
        before = _untrained(stage, model)
        figures = plain(stage.finish(model, train, val))
        warn_of_product(stage.name, figures)
        numbers = {k: v for k, v in figures.items() if isinstance(v, int | float)}
        self.checkpointer.log.append({"stage": stage.name, **numbers})
        after = model.state_dict()
        changed = [k for k, v in before.items() if not torch.equal(v, after[k])]
        return {"figures": figures, "finish": changed}


def _untrained(stage: Stage, model: MultimodalVAE) -> dict[str, Tensor]:
    """A copy of the entries of the state that the stage does not train."""
    trained = state_of(stage.modules(model), model)
    return {k: v.clone() for k, v in model.state_dict().items() if k not in trained}
