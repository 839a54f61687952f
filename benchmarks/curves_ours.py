"""One training of `curves.py` with polymodal, in the process that this starts.

Imports do not count, in neither library: Lightning, which `fit` imports when it is called, is
imported before.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from curves_common import (
    METHODS,
    PRIOR,
    TASKS,
    FinishedError,
    Marks,
    Spec,
    key_of,
    test_values,
    write_draws,
)
from lightning_fabric import Fabric  # noqa: F401
from torch import Tensor

import polymodal
from polymodal.batch import Batch
from polymodal.data import Splits
from polymodal.methods import METHODS as OURS
from polymodal.model import Method, MultimodalVAE
from polymodal.training.stage_trainer import StageTrainer

VALIDATION = 40  # samples: the peer trains without
ENDLESS = 10**6  # epochs


def splits_of(name: str, data: str | None) -> Splits:
    """The data set of a task, with the scale that the task gives its likelihoods."""
    task = TASKS[name]
    whole = polymodal.load_data(name, path=data, **task.options)
    parts = [whole.train, whole.val.first(VALIDATION), whole.test.first(task.items)]
    if task.scale is not None:
        scaled = [replace(m, scale=task.scale) for m in whole.modalities]
        parts = [replace(part, modalities=scaled) for part in parts]
    return Splits(*parts, name)


def method_of(spec: Spec, splits: Splits) -> Method:
    task, pair = TASKS[spec.task], METHODS[spec.method]
    sizes = {"latent": task.latent}
    if pair.private:
        sizes = {"latent": task.latent - task.private, "private": task.private}
    torch.manual_seed(spec.seed)
    return OURS[pair.ours](splits.modalities, networks=task.networks, **sizes, **pair.options)


def train(spec: Spec, method: Method, splits: Splits, marks: Marks) -> None:
    """`polymodal.fit` until the last mark; the time runs from the call."""
    task, run_epoch = TASKS[spec.task], StageTrainer.run_epoch

    def clocked(trainer: StageTrainer, on_step: Any) -> Any:
        def step() -> None:
            on_step()
            marks.step(trainer.model)

        return run_epoch(trainer, step)

    StageTrainer.run_epoch = clocked  # type: ignore[method-assign]
    training = {"epochs": ENDLESS, "batch": task.batch, "lr": task.lr, "progress": False}
    try:
        polymodal.fit(method, splits, seed=spec.seed, training=training)
    except FinishedError:
        pass
    finally:
        StageTrainer.run_epoch = run_epoch  # type: ignore[method-assign]


@torch.no_grad()
def draws_of(model: MultimodalVAE, spec: Spec) -> dict[str, Tensor]:
    """One draw for each test item and place, and as many joint samples."""
    task, batch = TASKS[spec.task], Batch(test_values(spec))
    torch.manual_seed(spec.seed)
    found = {}
    for given in task.subsets():
        targets = [m for m in task.networks if m not in given]
        drawn = model.generate(batch.only(given), targets=targets)
        found |= {key_of(given, m): drawn[m][0] for m in targets}
    joint = model.generate(None, n=task.items)
    return found | {f"{PRIOR}->{m}": x[:, 0] for m, x in joint.items()}


def one_stage(spec: Spec, splits: Splits) -> None:
    def reached(mark: float, model: MultimodalVAE, steps: int) -> None:
        write_draws(spec, mark, draws_of(deepcopy(model).eval(), spec), [steps])

    train(spec, method_of(spec, splits), splits, Marks(list(spec.minutes), reached))


def two_stages(spec: Spec, splits: Splits) -> None:
    """Half of the minutes for each stage: the first is trained once, and the second from where the
    first was at half of each mark.
    """
    firsts: list[tuple[float, dict[str, Tensor], int]] = []

    def kept(mark: float, model: MultimodalVAE, steps: int) -> None:
        firsts.append((2 * mark, deepcopy(model.state_dict()), steps))

    method = method_of(spec, splits)
    train(spec, method, splits, Marks([m / 2 for m in spec.minutes], kept))
    for minutes, state, before in firsts:
        method.model.load_state_dict(state)
        second = replace(method, stages=method.stages[1:])

        def reached(mark: float, model: MultimodalVAE, steps: int, before: int = before) -> None:
            draws = draws_of(deepcopy(model).eval(), spec)
            write_draws(spec, 2 * mark, draws, [before, steps])

        train(spec, second, splits, Marks([minutes / 2], reached))


if __name__ == "__main__":
    SPEC = Spec.read()
    (one_stage if METHODS[SPEC.method].stages == 1 else two_stages)(
        SPEC, splits_of(SPEC.task, SPEC.data)
    )
