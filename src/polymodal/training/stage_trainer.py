"""The training of one stage: steps, validation, averages, early stopping, and the state for a
checkpoint.

The random stream of every step is a function of (seed, stage, step), and the order of the samples
one of (seed, stage, epoch); so a resumed run repeats an uninterrupted one bit for bit, with the
same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from polymodal.batch import Batch, on
from polymodal.data.dataset import Dataset
from polymodal.model import Loss, MultimodalVAE, Stage
from polymodal.rng import seed_all, shard, stream
from polymodal.runs.state import state_of
from polymodal.settings.schema import StageSettings
from polymodal.training.optimizer import Rate, make_optimizer
from polymodal.training.prepare import copy_into
from polymodal.training.processes import add_up, share_buffers
from polymodal.training.totals import FiniteCheck, Recent, Terms, Totals, table_of
from polymodal.training.weights import Average, EarlyStopping

GROUP = 20  # steps between looks at the losses on a device that runs ahead of the program


class Machine(Protocol):
    """The part of `lightning_fabric.Fabric` that training uses."""

    device: torch.device
    global_rank: int
    world_size: int
    strategy: Any

    def autocast(self) -> Any: ...
    def backward(self, tensor: Tensor) -> None: ...
    def setup_optimizers(self, *optimizers: torch.optim.Optimizer) -> Any: ...


@dataclass(frozen=True)
class Setup:
    """How a stage is trained: its settings, the seed of the run, and where.

    Args:
        fabric: device, precision, processes.
    """

    settings: StageSettings
    seed: int
    fabric: Machine


class StageTrainer:
    """Trains the parts that a stage trains, and holds the state that a checkpoint needs.

    Args:
        model: the whole model; the parts that the stage does not train are in evaluation mode.
        parameters: the parameters that are optimised, from `training_only`.
        stage: its loss is called as loss(model, batch, progress), in validation with progress 1.
        setup: settings, seed and device.
        train, val: on the device, already prepared.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        parameters: Sequence[nn.Parameter],
        stage: Stage,
        setup: Setup,
        train: Dataset,
        val: Dataset,
    ) -> None:
        self.model, self.parameters, self.stage = model, parameters, stage
        self.settings, self.seed, self.fabric = setup.settings, setup.seed, setup.fabric
        self.train, self.val = train, val
        self._check_parameters()
        self._check_processes()
        self.modules = stage.modules(model)
        self.state = state_of(self.modules, model)
        self.loss = torch.compile(stage.loss) if self.settings.compile else stage.loss
        self.optimizer = self.fabric.setup_optimizers(make_optimizer(parameters, self.settings))
        self.rate = Rate(self.settings, self.steps)
        self.average = Average(self.state, self.settings.ema)
        self.best = EarlyStopping(self.state, self.settings.patience)
        self.finite = FiniteCheck(stage.name, self.settings.lr)
        self.look_every = 1 if self.device.type == "cpu" else GROUP
        self.totals = Totals()
        self.epoch = self.step = 0
        self.seconds = 0.0

    def _check_parameters(self) -> None:
        if not self.parameters:
            raise ValueError(
                f"Stage {self.stage.name!r} trains parts without parameters; leave `trains` empty."
            )

    def _check_processes(self) -> None:
        batch, samples = self.settings.batch, len(self.train)
        if batch % self.world:
            raise ValueError(
                f"training.batch must be a multiple of the {self.world} processes, got {batch}."
            )
        if samples < self.world:
            raise ValueError(
                f"Training needs at least one sample per process ({self.world}), got {samples}."
            )

    @property
    def device(self) -> torch.device:
        """The device of the data and the model."""
        return self.fabric.device

    @property
    def world(self) -> int:
        """The number of processes."""
        return self.fabric.world_size

    @property
    def size(self) -> int:
        """The samples of a step, over all processes."""
        return self.settings.batch * self.settings.accumulate

    @property
    def per_epoch(self) -> int:
        """The steps of an epoch."""
        return self.settings.per_epoch(len(self.train))

    @property
    def steps(self) -> int:
        """The steps of the whole stage."""
        return self.settings.steps(len(self.train))

    @property
    def progress(self) -> float:
        """The part of the stage that is done: epochs by the epochs that are trained; in a stage of
        one epoch, steps by its steps.
        """
        epochs = math.ceil(self.steps / self.per_epoch)
        return self.epoch / epochs if epochs > 1 else self.step / self.steps

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.best.stopped or self.epoch * self.per_epoch >= self.steps

    # An epoch.

    def run_epoch(self, on_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Trains one epoch, or the rest of it; returns its row for the log.

        Args:
            on_step: called after every step.
        """
        start = time.perf_counter() - self.seconds
        self._set_modes()
        order, first = self._order(), self.step
        parts = (p for rows in self._rows(order, first) for p in rows.split(self.settings.batch))
        with closing(self.train.read_ahead(map(self._mine, parts))) as batches:
            for rows in self._rows(order, first):
                self._train_step(rows, batches)
                self.seconds = time.perf_counter() - start
                on_step()
        figures = self._end_epoch()
        self.seconds = time.perf_counter() - start
        place = {"stage": self.stage.name, "epoch": self.epoch, "step": self.step}
        return place | {"seconds": round(self.seconds, 3)} | figures

    def _end_epoch(self) -> dict[str, float]:
        """The figures of the epoch, with validation where it is due."""
        self.finite.look()
        if self.world > 1:
            share_buffers(self.modules)
        self.epoch += 1
        figures = self._training_figures()
        if self.done or self.epoch % self.settings.eval_every == 0:
            figures |= _prefixed("val_", self._evaluated())
        return figures

    def _set_modes(self) -> None:
        """Puts the trained parts into training mode, the others into evaluation mode."""
        self.model.eval()
        for module in self.modules:
            module.train()

    def _rows(self, order: Tensor, step: int) -> Iterator[Tensor]:
        """The rows of the data for each step from `step` to the end of the epoch."""
        begin = self.epoch * self.per_epoch
        for k in range(step, min(begin + self.per_epoch, self.steps)):
            rows = order[(k - begin) * self.size :][: self.size]
            yield rows[: len(rows) - len(rows) % self.world]

    def _mine(self, rows: Tensor) -> Tensor:
        """The rows of a batch that this process reads."""
        return rows.tensor_split(self.world)[self.fabric.global_rank]

    def _order(self) -> Tensor:
        """The order of the samples in the epoch."""
        seed = stream(self.seed, self.stage.name, "order", self.epoch)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.train), generator=generator)
        return order if self.train.streamed else order.to(self.device)

    def _training_figures(self) -> dict[str, float]:
        """Learning rate, norm of the gradient and mean losses of the epoch."""
        means, self.totals = self.totals.means(), Totals()
        figures = {"lr": self.rate(self.step - 1), "grad_norm": means.pop("grad_norm")}
        return figures | _prefixed("train_", means)

    # A step.

    def _train_step(self, rows: Tensor, batches: Iterator[Batch]) -> None:
        seed_all(self.device, self.seed, self.stage.name, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        totals = self._gradients(rows, batches)
        totals.add({"grad_norm": self._clipped()}, 1)
        if self.step % self.look_every == 0:
            self.finite.look()
        self.optimizer.step()
        self.step += 1
        self.average.update(self.step)
        self.totals.merge(totals)

    def _gradients(self, rows: Tensor, batches: Iterator[Batch]) -> Totals:
        """Puts the gradients of all processes into the parameters; the losses of the step."""
        totals = Totals()
        for part in rows.split(self.settings.batch):
            loss, table = self._loss(self._mine(part), next(batches))
            totals.add(table.sums(), len(part))
            self.fabric.backward(loss.value.sum() / len(rows))
        if self.world > 1:
            sums = add_up(self.parameters, torch.stack(list(totals.sums.values())))
            totals.sums = dict(zip(totals.sums, sums, strict=True))
        return totals

    def _loss(self, mine: Tensor, batch: Batch) -> tuple[Loss, Terms]:
        """The loss of this process's samples of a batch."""
        with self.fabric.autocast(), shard(self.fabric.global_rank, self.world):
            loss = self.loss(self.model, batch, self.progress)
        self._check_loss(loss, len(mine))
        table = table_of(loss)
        self._watch(mine, table)
        return loss, table

    def _check_loss(self, loss: Loss, size: int) -> None:
        if loss.value.shape != (size,):
            raise ValueError(
                f"The loss of stage {self.stage.name!r} must be per sample, of shape ({size},), got"
                f" {tuple(loss.value.shape)}; the trainer averages it."
            )
        if not loss.value.requires_grad:
            raise ValueError(
                f"The loss of stage {self.stage.name!r} does not depend on the parts that it"
                " trains."
            )

    def _clipped(self) -> Tensor:
        """The norm of the gradient, which is then clipped: before the step, without the mixed
        precision's scale.
        """
        self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if self.settings.clip:
            clip_grads_with_norm_(self.parameters, self.settings.clip, norm)
        # In half precision a gradient may overflow now and then, and its step is left out.
        if self.settings.precision != "16-mixed":
            self._watch(torch.empty(0), Terms(["the gradient"], norm.reshape(1, 1)))
        return norm.detach()

    def _watch(self, rows: Tensor, table: Terms) -> None:
        """Keeps the values of the present step for the next look."""
        self.finite.add(Recent(self.step, self.epoch, rows, table))

    # Validation.

    def _evaluated(self) -> dict[str, float]:
        """The validation losses, which the schedule and early stopping follow."""
        self.model.eval()
        with self.average.applied():
            figures = self._validate()
            self.best.evaluated(figures["loss"], self.epoch)
        self.rate.evaluated(figures["loss"])
        return figures

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Means over the validation samples, always with the same noise."""
        seed_all(self.device, self.seed, self.stage.name, "validation")
        totals = Totals()
        parts = self._val_batches()
        for rows, batch in zip(parts, self.val.read_ahead(parts), strict=True):
            with self.fabric.autocast():
                loss = self.stage.loss(self.model, batch, 1.0)
            table = table_of(loss)
            self.finite.check(f"in the validation of epoch {self.epoch}", rows, table)
            totals.add(table.sums(), len(rows))
        return totals.means()

    def _val_batches(self) -> Sequence[Tensor]:
        """The rows of the validation data in parts of equal size: a short last one would spoil
        losses that couple the samples of a batch.
        """
        rows = torch.arange(len(self.val))
        return rows.tensor_split(math.ceil(len(rows) / self.settings.batch))

    # The end, and checkpoints.

    def close(self) -> None:
        """Gives the model its final weights: the best, else the averaged, else the last."""
        copy_into(self.state, self.best.weights or self.average.values)
        self.model.eval()

    def outcome(self) -> dict[str, Any]:
        """How long the stage was trained, and its best epoch, for run.json."""
        seconds = round(self.seconds, 3)
        outcome = {"epochs": self.epoch, "steps": self.step, "seconds": seconds}
        if self.best.epoch:
            outcome |= {"best_epoch": self.best.epoch, "best_val_loss": self.best.value}
        return outcome

    def snapshot(self) -> dict[str, Any]:
        """The whole state except the model's weights; nothing is copied."""
        self.finite.look()
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "totals": self.totals.snapshot(),
            "average": self.average.values,
            "best": self.best.snapshot(),
            "rate": self.rate.state(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resumes from a `snapshot`; the model's weights must have been loaded already."""
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.totals.restore(state["totals"], self.device)
        self.average.values = on(self.device, state["average"])
        self.best.restore(state["best"], self.device)
        self.rate.restore(state["rate"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])


def _prefixed(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in figures.items()}
