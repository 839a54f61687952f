"""Weights that a stage keeps in addition to the current ones: an average, and the best on the
validation data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from polymodal.batch import on
from polymodal.training.prepare import copy_into

State = Mapping[str, Tensor]


def cloned(state: State) -> dict[str, Tensor]:
    """A copy of the tensors."""
    return {name: value.clone() for name, value in state.items()}


class Average:
    """An exponential moving average of the weights; of other entries of the state, the last value.

    Args:
        state: the entries that the stage trains, sharing memory with the model.
        decay: 0: no average.
    """

    def __init__(self, state: State, decay: float) -> None:
        self.state, self.decay = state, decay
        self.values: dict[str, Tensor] = cloned(state) if decay else {}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after `step` steps."""
        if not self.decay:
            return
        # The first averages are over few steps: with less decay they forget the initial weights.
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = [(self.values[name], value) for name, value in self.state.items()]
        floats = [pair for pair in pairs if pair[1].is_floating_point()]
        get_ema_multi_avg_fn(decay)(*map(list, zip(*floats, strict=True)), None)
        copy_into(self.values, {k: v for k, v in self.state.items() if not v.is_floating_point()})

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights, if there are any."""
        live = cloned(self.state) if self.decay else {}
        try:
            copy_into(self.state, self.values)
            yield
        finally:
            copy_into(self.state, live)


class EarlyStopping:
    """The best validation loss, and whether the stage stops because it no longer improves.

    Args:
        state: the entries that the stage trains, sharing memory with the model.
        patience: evaluations without improvement before the stage stops; 0: it never stops, and the
            best weights are not kept.
    """

    def __init__(self, state: State, patience: int) -> None:
        self.state, self.patience = state, patience
        self.value, self.epoch, self.wait, self.stopped = math.inf, 0, 0, False
        self.weights: dict[str, Tensor] = {}

    def evaluated(self, value: float, epoch: int) -> None:
        """Records the validation loss after `epoch` epochs, with the present weights."""
        if value < self.value:
            self.value, self.epoch, self.wait = value, epoch, 0
            self.weights = cloned(self.state) if self.patience else {}
        else:
            self.wait += 1
        self.stopped = self.stopped or 0 < self.patience <= self.wait

    def snapshot(self) -> dict[str, Any]:
        """The state, for `restore`; nothing is copied."""
        names = ("value", "epoch", "wait", "stopped", "weights")
        return {name: getattr(self, name) for name in names}

    def restore(self, snapshot: Mapping[str, Any], device: torch.device) -> None:
        """Resumes from a `snapshot`."""
        for name, value in snapshot.items():
            setattr(self, name, value)
        self.weights = on(device, self.weights)
