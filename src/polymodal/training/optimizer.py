"""Optimisers and learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from polymodal.settings.schema import StageSettings


def make_optimizer(
    parameters: Sequence[nn.Parameter], settings: StageSettings
) -> torch.optim.Optimizer:
    """The optimiser that the settings name; fused (a few times faster on small networks) where that
    exists.
    """
    given: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, **given)
    # A fused step unscales by itself, which is too late for clipping.
    given["fused"] = settings.precision != "16-mixed" and parameters[0].device.type in (
        "cpu",
        "cuda",
    )
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **given)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, amsgrad=settings.optimizer == "amsgrad", **given)


class Rate:
    """The learning rate of a step: linear warm-up, times cosine or the plateau's scale."""

    def __init__(self, settings: StageSettings, steps: int) -> None:
        self.settings, self.steps = settings, steps
        self.scale, self.best, self.bad = 1.0, math.inf, 0

    def __call__(self, step: int) -> float:
        s = self.settings
        rate = s.lr * self.scale * min(1.0, (step + 1) / s.warmup if s.warmup else 1.0)
        if s.schedule == "cosine" and step >= s.warmup:
            rate *= 0.5 * (
                1 + math.cos(math.pi * (step - s.warmup) / max(1, self.steps - s.warmup))
            )
        return rate

    def evaluated(self, value: float) -> None:
        """Tells the plateau of a validation loss."""
        if self.settings.schedule != "plateau":
            return
        self.best, self.bad = (value, 0) if value < self.best else (self.best, self.bad + 1)
        if self.bad > self.settings.plateau:
            self.scale, self.bad = self.scale * self.settings.factor, 0
