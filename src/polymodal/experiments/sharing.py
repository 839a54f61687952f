"""Whether two stages compute the same, so that one can be trained for both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from hashlib import sha256
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
from torch import Tensor, nn

from polymodal.model import Method, Stage, parts_of
from polymodal.runs.state import plain_state

OWN = frozenset(vars(nn.Module()))  # what every module has
PLAIN = bool | int | float | complex | str | bytes | type | CodeType | None


def same_stage(a: Stage, one: Method, b: Stage, other: Method) -> bool:
    """Whether stage a of `one` and b of `other` have the same loss and steps, with every option
    that these hold, and train parts of the same names, shapes and making.

    What parameters start from is not looked at. What cannot be compared is taken for different.
    """
    try:
        return bool(_Account(one.model).stage(a) == _Account(other.model).stage(b))
    except (RuntimeError, TypeError, ValueError):
        return False


class _Account:
    """A stage in values that can be compared. The model's parts are each method's own: how they
    were made counts where they are trained, not where a loss reads them.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model, self.parts = model, {id(part) for part in model.modules()}
        self.met: dict[int, tuple[int, Any]] = {}

    def stage(self, stage: Stage) -> list[Any]:
        state = {
            name: value.shape for name, (_, value) in plain_state(stage.trains, self.model).items()
        }
        parts = [self.made(part) for part in parts_of(stage, self.model)]
        steps = [self.of(step) for step in (stage.loss, stage.prepare, stage.finish)]
        return [stage.name, state, steps, self.own(self.model), parts]

    def made(self, part: nn.Module) -> list[Any]:
        """How a module was made, down to its smallest parts: all but the values of its parameters."""
        learned = {name: p.requires_grad for name, p in part.named_parameters(recurse=False)}
        held = {name: self.of(value) for name, value in part.named_buffers(recurse=False)}
        return [
            self.own(part),
            learned,
            held,
            {name: self.made(child) for name, child in part.named_children()},
        ]

    def own(self, part: nn.Module) -> list[Any]:
        return [
            type(part),
            {name: self.of(value) for name, value in vars(part).items() if name not in OWN},
        ]

    def of(self, value: Any) -> Any:
        if isinstance(value, PLAIN):
            return value
        if isinstance(value, nn.Module):
            return None if id(value) in self.parts else self.made(value)
        if isinstance(value, Tensor | np.ndarray):
            array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
            return [type(value), array.shape, str(array.dtype), sha256(array.tobytes()).hexdigest()]
        if id(value) in self.met:  # told already: functions may hold themselves
            return "told", self.met[id(value)][0]
        self.met[id(value)] = len(self.met), value
        return self.inside(value)

    def inside(self, value: Any) -> Any:
        """What a value holds."""
        if isinstance(value, Mapping):
            return {key: self.of(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(v) for v in value]
        if isinstance(value, partial):
            return [self.of(v) for v in (value.func, *value.args)], {
                k: self.of(v) for k, v in value.keywords.items()
            }
        if isinstance(value, MethodType):
            return [self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, FunctionType):
            defaults = [self.of(v) for v in value.__defaults__ or ()]
            named = {k: self.of(v) for k, v in (value.__kwdefaults__ or {}).items()}
            return [
                value.__code__,
                defaults,
                named,
                [self.cell(cell) for cell in value.__closure__ or ()],
            ]
        if is_dataclass(value):
            return [type(value), {f.name: self.of(getattr(value, f.name)) for f in fields(value)}]
        if type(value).__eq__ is object.__eq__ and hasattr(value, "__dict__"):
            return [type(value), {name: self.of(v) for name, v in vars(value).items()}]
        return value

    def cell(self, cell: Any) -> Any:
        try:
            return self.of(cell.cell_contents)
        except ValueError:  # a name that was never given a value
            return "empty"
