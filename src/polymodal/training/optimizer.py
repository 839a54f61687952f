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
    """The optimiser that the settings name; fused where that exists, which is a few times faster on
    small networks.
    """
    options: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, **options)
    options["fused"] = _can_fuse(parameters[0], settings)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **options)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, amsgrad=settings.optimizer == "amsgrad", **options)


def _can_fuse(parameter: nn.Parameter, settings: StageSettings) -> bool:
    # A fused step unscales gradients by itself, which is too late for clipping.
    return settings.precision != "16-mixed" and parameter.device.type in ("cpu", "cuda")


class Rate:
    """The learning rate of a step: a linear warm-up, times a cosine or the plateau's scale.

    Args:
        settings: of the stage.
        steps: of the whole stage.
    """

    def __init__(self, settings: StageSettings, steps: int) -> None:
        self.settings, self.steps = settings, steps
        self.scale, self.best, self.bad = 1.0, math.inf, 0

    def __call__(self, step: int) -> float:
        s = self.settings
        rate = s.lr * self.scale
        if s.warmup:
            rate *= min(1.0, (step + 1) / s.warmup)
        if s.schedule == "cosine" and step >= s.warmup:
            share = (step - s.warmup) / max(1, self.steps - s.warmup)
            rate *= 0.5 * (1 + math.cos(math.pi * share))
        return rate

    def evaluated(self, value: float) -> None:
        """Updates the plateau with a validation loss."""
        if self.settings.schedule != "plateau":
            return
        self.best, self.bad = (value, 0) if value < self.best else (self.best, self.bad + 1)
        if self.bad > self.settings.plateau:
            self.scale, self.bad = self.scale * self.settings.factor, 0

    def state(self) -> list[float]:
        """The state of the plateau, for `restore`."""
        return [self.scale, self.best, self.bad]

    def restore(self, state: Sequence[Any]) -> None:
        """Resumes from a `state`."""
        self.scale, self.best, self.bad = state
