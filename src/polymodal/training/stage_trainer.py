"""The training of one stage: steps, validation, averages, early stop, and all of its state for a
checkpoint.

The random stream of every step is a function of (seed, stage, step), and the order of the samples
one of (seed, stage, epoch); so a resumed run repeats what an uninterrupted one does, bit for bit.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from polymodal.data.dataset import Dataset
from polymodal.model import Loss, MultimodalVAE, Stage
from polymodal.rng import seed_all, shard, stream
from polymodal.runs.state import state_of
from polymodal.settings.schema import StageSettings
from polymodal.training.optimizer import Rate, make_optimizer
from polymodal.training.prepare import copy_into


class Machine(Protocol):
    """What of `lightning.fabric.Fabric` is needed here."""

    device: torch.device
    global_rank: int
    world_size: int
    strategy: Any

    def autocast(self) -> Any: ...
    def backward(self, tensor: Tensor) -> None: ...
    def setup_optimizers(self, *optimizers: torch.optim.Optimizer) -> Any: ...


class StageTrainer:
    """Trains what a stage trains, and holds all that a checkpoint must hold.

    Args:
        model: the whole model; what the stage does not train is in evaluation mode.
        parameters: what is optimised, from `training_only`.
        stage: its loss is called as loss(model, batch, epochs done / epochs), in validation with 1.
        settings: of this stage.
        train, val: on the device, already prepared.
        seed: of the run.
        fabric: device, precision, processes.
    """

    def __init__(
        self,
        model: MultimodalVAE,
        parameters: Sequence[nn.Parameter],
        stage: Stage,
        settings: StageSettings,
        train: Dataset,
        val: Dataset,
        seed: int,
        fabric: Machine,
    ) -> None:
        self.model, self.parameters, self.stage, self.settings = model, parameters, stage, settings
        self.train, self.val, self.seed, self.fabric = train, val, seed, fabric
        self.rank, self.world, self.device = fabric.global_rank, fabric.world_size, fabric.device
        self._check()
        self.state = state_of(stage.modules(model), model)
        self.size = settings.batch * settings.accumulate
        self.per_epoch = max(1, len(train) // self.size)
        self.steps = min(settings.epochs * self.per_epoch, settings.max_steps or sys.maxsize)
        self.rate = Rate(settings, self.steps)
        self.loss = torch.compile(stage.loss) if settings.compile else stage.loss
        self.modules = stage.modules(model)
        self.optimizer = fabric.setup_optimizers(make_optimizer(parameters, settings))
        self.epoch = self.step = self.wait = self.best_epoch = 0
        self.best_value, self.seconds, self.stopped = math.inf, 0.0, False
        self.ema = {k: v.clone() for k, v in self.state.items()} if settings.ema else None
        self.best: dict[str, Tensor] | None = None
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.recent: list[tuple[int, Tensor, list[str], Tensor]] = []
        # Looking at a loss on a GPU waits for it, so there losses are looked at in groups.
        self.look_every = 1 if self.device.type == "cpu" else 20

    def _check(self) -> None:
        s, name = self.settings, self.stage.name
        if not self.parameters:
            raise ValueError(
                f"Stage {name!r} trains modules without parameters; leave `trains` empty."
            )
        if s.batch % self.world:
            raise ValueError(
                f"training.batch must be a multiple of the {self.world} processes, got {s.batch}."
            )
        if len(self.train) < self.world:
            raise ValueError(
                f"Training needs at least one sample per process ({self.world}), got"
                f" {len(self.train)}."
            )

    @property
    def done(self) -> bool:
        """Nothing is left to train."""
        return self.stopped or self.epoch * self.per_epoch >= self.steps

    def run_epoch(self, on_step: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """One epoch, or what is left of it, and its row for the log. `on_step` is called after
        every step.
        """
        clock = time.perf_counter() - self.seconds
        generator = torch.Generator().manual_seed(
            stream(self.seed, self.stage.name, "order", self.epoch)
        )
        order = torch.randperm(len(self.train), generator=generator).to(self.device)
        self.model.eval()
        for module in self.modules:
            module.train()
        end = min((self.epoch + 1) * self.per_epoch, self.steps)
        while self.step < end:
            first = (self.step - self.epoch * self.per_epoch) * self.size
            rows = order[first : first + self.size]
            self._train_step(rows[: len(rows) - len(rows) % self.world])
            self.seconds = time.perf_counter() - clock
            on_step()
        self._look()
        self._share_buffers()
        self.epoch += 1
        means = {k: float(v) / self.counts[k] for k, v in self.sums.items()}
        self.sums, self.counts = {}, {}
        figures = {"lr": self.rate(self.step - 1), "grad_norm": means.pop("grad_norm")}
        figures |= {f"train_{k}": v for k, v in means.items()}
        if self.done or self.epoch % self.settings.eval_every == 0:
            figures |= {f"val_{k}": v for k, v in self._evaluated().items()}
        self.seconds = time.perf_counter() - clock
        row = {
            "stage": self.stage.name,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": round(self.seconds, 3),
        }
        return row | figures

    def _train_step(self, rows: Tensor) -> None:
        seed_all(self.device, self.seed, self.stage.name, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for part in rows.split(self.settings.batch):
            mine = part.tensor_split(self.world)[self.rank]
            with self.fabric.autocast(), shard(self.rank, self.world):
                loss = self._checked(
                    self.loss(self.model, self.train.batch(mine), self.epoch / self.settings.epochs),
                    len(mine),
                )
            names, values = _table(loss)
            self.recent.append((self.step, mine, names, values))
            for name, total in zip(names, values.sum(1), strict=True):
                totals[name] = totals[name] + total if name in totals else total
                counts[name] = counts.get(name, 0) + len(part)
            self.fabric.backward(loss.value.sum() / len(rows))
        if self.world > 1:
            totals = dict(
                zip(totals, self._reduced(torch.stack(list(totals.values()))), strict=True)
            )
        totals["grad_norm"], counts["grad_norm"] = self._clipped(), 1
        if self.step % self.look_every == 0:
            self._look()
        self.optimizer.step()
        self.step += 1
        self._average()
        for name, total in totals.items():
            self.sums[name] = self.sums[name] + total if name in self.sums else total
            self.counts[name] = self.counts.get(name, 0) + counts[name]

    def _checked(self, loss: Loss, size: int) -> Loss:
        if loss.value.shape != (size,):
            raise ValueError(
                f"The loss of stage {self.stage.name!r} must be per sample, of shape ({size},), got"
                f" {tuple(loss.value.shape)}; the trainer averages it."
            )
        if not loss.value.requires_grad:
            raise ValueError(
                f"The loss of stage {self.stage.name!r} does not depend on the modules that it"
                " trains."
            )
        return loss

    def _reduced(self, sums: Tensor) -> Tensor:
        """Adds up, over the processes, the gradients (in place) and `sums`, in one message.

        Not DistributedDataParallel: losses are functions of a batch that call the model's parts,
        never its `forward`, and a parameter may be out of a step's graph; it then adds nothing, and
        stays untouched if it is out everywhere.
        """
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        here = sums.new_tensor([p.grad is not None for p in self.parameters], dtype=grads[0].dtype)
        flat = torch.cat([*(g.flatten() for g in grads), here, sums.to(grads[0].dtype)])
        torch.distributed.all_reduce(flat)
        *parts, anywhere, sums = flat.split([*(g.numel() for g in grads), len(grads), len(sums)])
        for p, part, count in zip(self.parameters, parts, anywhere.tolist(), strict=True):
            p.grad = part.view_as(p) if count else None
        return sums

    def _share_buffers(self) -> None:
        """Every process takes the first one's running statistics."""
        if self.world > 1:
            for module in self.modules:
                for buffer in module.buffers():
                    torch.distributed.broadcast(buffer, 0)

    def _clipped(self) -> Tensor:
        """The norm of the gradient, which is then clipped: before the step, without the mixed
        precision's scale.
        """
        self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if self.settings.clip:
            clip_grads_with_norm_(self.parameters, self.settings.clip, norm)
        if (
            self.settings.precision != "16-mixed"
        ):  # there an overflow now and then is expected, and its step left out
            self.recent.append((self.step, torch.empty(0), ["the gradient"], norm.reshape(1, 1)))
        return norm.detach()

    def _look(self) -> None:
        """Raises ValueError if a loss since the last look was not finite."""
        recent, self.recent = self.recent, []
        if (
            not recent
            or torch.stack([values.sum().double().cpu() for *_, values in recent]).isfinite().all()
        ):
            return
        for step, rows, names, values in recent:
            if not values.isfinite().all():
                raise ValueError(
                    self._sentence(
                        f"at step {step + 1} (epoch {self.epoch + 1})", rows, names, values
                    )
                )

    def _sentence(self, when: str, rows: Tensor, names: list[str], values: Tensor) -> str:
        bad = ~values.isfinite()
        terms = [n for n, b in zip(names, bad.any(1).tolist(), strict=True) if b]
        terms = [n for n in terms if n != "loss"] or terms
        hurt = rows[bad.any(0)].tolist() if len(rows) else []
        mend = ", or mend those rows" if hurt else ""
        where = f" in the rows {', '.join(map(str, hurt[:5]))} of the data" if hurt else ""
        where += f" and {len(hurt) - 5} more of the batch's {len(rows)}" if len(hurt) > 5 else ""
        return (
            f"Stage {self.stage.name!r} stopped {when}: {', '.join(terms)} became infinite or"
            f" NaN{where}; try a smaller training.lr (now {self.settings.lr:g}) or"
            f" training.clip=1{mend}."
        )

    @torch.no_grad()
    def _average(self) -> None:
        if self.ema is None:
            return
        # The first averages are over few weights: a start with less decay forgets the initial ones.
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        pairs = [(self.ema[k], v) for k, v in self.state.items()]
        floats = [pair for pair in pairs if pair[1].is_floating_point()]
        get_ema_multi_avg_fn(decay)(*map(list, zip(*floats, strict=True)), None)
        for average, value in pairs:
            if not value.is_floating_point():
                average.copy_(value)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Inside, the model has the averaged weights, if there are any."""
        live = {k: v.clone() for k, v in self.state.items()} if self.ema else {}
        try:
            copy_into(self.state, self.ema or {})
            yield
        finally:
            copy_into(self.state, live)

    def _evaluated(self) -> dict[str, float]:
        """The validation losses; schedule, early stop and best weights follow them."""
        self.model.eval()
        with self._averaged():
            figures = self._validate()
            value = figures["loss"]
            if value < self.best_value:
                self.best_value, self.best_epoch, self.wait = value, self.epoch, 0
                if self.settings.patience:
                    self.best = {k: v.clone() for k, v in self.state.items()}
            else:
                self.wait += 1
        self.rate.evaluated(value)
        self.stopped = self.stopped or 0 < self.settings.patience <= self.wait
        return figures

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Means over the validation samples, always with the same noise."""
        seed_all(self.device, self.seed, self.stage.name, "validation")
        totals: dict[str, Tensor] = {}
        # Parts of equal size, since a short last one would spoil losses that couple the samples of
        # a batch.
        parts = math.ceil(len(self.val) / self.settings.batch)
        for rows in torch.arange(len(self.val), device=self.device).tensor_split(parts):
            with self.fabric.autocast():
                names, values = _table(self.stage.loss(self.model, self.val.batch(rows), 1.0))
            if not values.sum().isfinite():
                raise ValueError(
                    self._sentence(f"in the validation of epoch {self.epoch}", rows, names, values)
                )
            for name, total in zip(names, values.sum(1), strict=True):
                totals[name] = totals[name] + total if name in totals else total
        return {name: float(total) / len(self.val) for name, total in totals.items()}

    def close(self) -> None:
        """Gives the model its final weights: the best, else the averaged, else the last."""
        copy_into(self.state, (self.best if self.settings.patience else None) or self.ema or {})
        self.model.eval()

    def snapshot(self) -> dict[str, Any]:
        """All state but the model's weights; nothing is copied."""
        self._look()
        names = "epoch step wait best_value best_epoch stopped seconds ema best sums counts".split()
        return {name: getattr(self, name) for name in names} | {
            "rate": [self.rate.scale, self.rate.best, self.rate.bad],
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a `snapshot`; the model's weights must have been put back already."""
        move = lambda v: {k: t.to(self.device) for k, t in v.items()} if isinstance(v, dict) else v
        given = dict(state)
        self.optimizer.load_state_dict(given.pop("optimizer"))
        self.fabric.strategy.precision.load_state_dict(given.pop("precision"))
        self.rate.scale, self.rate.best, self.rate.bad = given.pop("rate")
        for name, value in given.items():
            setattr(self, name, move(value) if name != "counts" else value)


def _table(loss: Loss) -> tuple[list[str], Tensor]:
    """The names of the loss and its terms, and their values (T, B)."""
    value = loss.value.detach()
    values = torch.stack(
        [value, *(t.detach().to(value.dtype).expand_as(value) for t in loss.terms.values())]
    )
    return ["loss", *loss.terms], values if values.device.type == "mps" else values.double()
