"""Weights and checkpoints: safetensors files, which hold no code. Names, shapes and the run that a
file belongs to are compared before a value is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from polymodal.checks import CountOrZero, Group, typed
from polymodal.checks.files import check_file, damaged, write
from polymodal.data.hashing import packed
from polymodal.runs.files import JSON_MB, RUN, parse_json
from polymodal.runs.info import Outcome

WEIGHTS_MB = 1000
# A checkpoint holds the weights, their averages, the best ones, and up to three numbers of the
# optimiser for each: at most so many times the model's size.
COPIES, CHECKPOINT_MB = 16, 64
MODEL_PREFIX = "model."
# The functions of torch that make a tensor of a given size.
FACTORIES: tuple[Any, ...] = (torch.empty, torch.zeros, torch.ones, torch.full, torch.eye)
FACTORIES += (torch.rand, torch.randn, torch.arange, torch.linspace)
SLACK = 10**7  # numbers that a model may make beside its weights


def save_tensors(path: Path, tensors: Mapping[str, Tensor], **words: str) -> None:
    """Writes tensors and words as safetensors; see `write`."""
    write(path, packed(tensors, words))


@contextmanager
def opened(path: Path, identity: str, most: float = WEIGHTS_MB) -> Iterator[Any]:
    """A file of `save_tensors`, of which only the header has been read.

    Args:
        identity: of the run to which it must belong.
        most: MB.

    Raises ValueError in one sentence for another file.
    """
    check_file(path, most)
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("identity") != identity:
                raise ValueError(
                    f"{path} does not belong to the run that {RUN} beside it describes; restore it,"
                    " or train the run again."
                )
            yield file
    except (SafetensorError, OSError, OverflowError):
        raise damaged(path, "it is no whole safetensors file") from None


def load_into(model: nn.Module, file: Any, path: Path, prefix: str = "") -> None:
    """Loads the entries of an opened file whose names begin with `prefix` into `model`.

    Entries that a module names in `may_be_missing` keep their values if the file lacks them.

    Raises ValueError for names, shapes or types that are not the model's, and for values that are
    not finite.
    """
    state = model.state_dict()
    stored = {k.removeprefix(prefix) for k in file.keys() if k.startswith(prefix)}
    state = {k: v for k, v in state.items() if k in stored or k not in _optional(model)}
    for name in sorted(stored ^ state.keys()):
        raise _misfit(path, f"{name} is {'unknown' if name in stored else 'missing'}")
    for name, tensor in state.items():
        shape = tuple(file.get_slice(prefix + name).get_shape())
        if shape != tuple(tensor.shape):
            raise _misfit(path, f"{name} has shape {shape}, not {tuple(tensor.shape)}")
    values = {k: _value(file, prefix + k, v, path) for k, v in state.items()}
    model.load_state_dict(values, strict=False)


def _optional(model: nn.Module) -> set[str]:
    """The entries of the state that older runs lack: those that modules name in `may_be_missing`.
    They keep their initial values.
    """
    modules = model.named_modules(remove_duplicate=False)
    named = ((prefix, getattr(module, "may_be_missing", ())) for prefix, module in modules)
    return {f"{prefix}.{k}" if prefix else k for prefix, names in named for k in names}


def _misfit(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} does not fit the model that {RUN} describes: {reason}.")


def _value(file: Any, name: str, like: Tensor, path: Path) -> Tensor:
    value = file.get_tensor(name)
    if value.dtype != like.dtype:
        raise _misfit(path, f"{name} holds numbers of another type")
    if not value.isfinite().all():
        raise damaged(path, f"{name} contains NaN or infinite values")
    return value


class Budget(TorchFunctionMode):
    """Inside, torch makes tensors of at most `most` numbers; `refusal` is raised, before they take
    memory, where more are asked for.
    """

    def __init__(self, most: int, refusal: Exception) -> None:
        super().__init__()
        self.left, self.refusal = most, refusal

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in FACTORIES:
            with suppress(RuntimeError, TypeError, OverflowError):  # too large even to be named
                self.left -= function(*args, **kwargs | {"device": "meta"}).numel()
                if self.left >= 0:
                    return function(*args, **kwargs)
            raise self.refusal
        return function(*args, **kwargs)


def budget_of(file: Any, path: Path) -> Budget:
    """For a model of about the numbers that a file of weights holds; ValueError where it needs
    more.
    """
    sizes = [math.prod(file.get_slice(name).get_shape()) for name in file.keys()]
    return Budget(SLACK + 4 * sum(sizes), _misfit(path, "the model is larger than the file"))


# Checkpoints.


class Progress(Group):
    """How far a run is: the outcomes of the stages that have ended, the rows of the log that count,
    and the state of the present stage's trainer, its tensors by name.
    """

    stages: dict[str, Outcome]
    rows: CountOrZero
    trainer: Any = None


def save_checkpoint(
    path: Path, identity: str, model: nn.Module, progress: Mapping[str, Any]
) -> None:
    """Writes the state of a run for `load_checkpoint`.

    Args:
        progress: the fields of `Progress`; its trainer may hold tensors, numbers, words and nests
            of them.
    """
    tensors = {MODEL_PREFIX + name: value for name, value in model.state_dict().items()}
    words = json.dumps({**progress, "trainer": _plain(progress["trainer"], tensors)})
    save_tensors(path, tensors, identity=identity, progress=words)


def load_checkpoint(path: Path, identity: str, model: nn.Module) -> Progress:
    """Loads the weights of a checkpoint into `model`; returns the rest.

    Raises ValueError if the file is damaged, or belongs to another run or model.
    """
    size = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    with opened(path, identity, CHECKPOINT_MB + COPIES * size / 1e6) as file:
        progress = _progress(file, path)
        load_into(model, file, path, MODEL_PREFIX)
        try:
            return progress.model_copy(update={"trainer": _restored(progress.trainer, file)})
        except (LookupError, TypeError, ValueError):
            remedy = "remove it to start again from the beginning"
            raise damaged(path, "the state of the training is none", remedy) from None


def check_checkpoint(path: Path, identity: str) -> None:
    """Raises ValueError if a checkpoint is damaged or belongs to another run; reads no tensor."""
    with opened(path, identity, 1e9) as file:
        _progress(file, path)


def _progress(file: Any, path: Path) -> Progress:
    words = file.metadata().get("progress", "").encode()
    if len(words) > JSON_MB * 1e6:
        raise damaged(path, "its header is too long")
    try:
        return typed(Progress, parse_json(words, path))
    except ValueError as error:
        raise damaged(path, error, "remove it to start again from the beginning") from None


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON can hold it; its tensors are added to `tensors`."""
    if isinstance(value, Tensor):
        name = f"trainer.{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):  # whose keys may be numbers
        return {"items": [[k, _plain(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(v, tensors) for v in value]
    return value


def _restored(value: Any, file: Any) -> Any:
    """The inverse of `_plain`."""
    if isinstance(value, list):
        return [_restored(v, file) for v in value]
    if not isinstance(value, Mapping):
        return value
    if "tensor" in value:
        return file.get_tensor(value["tensor"]).clone()
    return {k: _restored(v, file) for k, v in value["items"]}
