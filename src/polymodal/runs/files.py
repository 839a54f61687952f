"""Atomic files: each is written beside its target, forced to disk and renamed, so that a reader
sees the old file or the new one.

Nothing in this module reads a file in a way that could run code: JSON, CSV, safetensors, and
torch's files with `weights_only`.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

# Kinds of files that can run code when they are read.
CODE = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
PERMISSION = "permission is denied; give a directory that you may write to"
ADVICE = {
    errno.ENOSPC: (
        "there is no space left on the disk; free some, or give another --out (the old file stays)"
    ),
    errno.EDQUOT: (
        "the disk quota is used up; free some, or give another --out (the old file stays)"
    ),
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: "the file system is read-only; give another --out",
}
DAMAGE = (
    OSError,
    UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    AttributeError,
)


def file_error(error: OSError, path: Path, action: str) -> ValueError:
    """The error of the operating system in one sentence, with advice.

    Args:
        action: the verb, as in "cannot be written".
    """
    reason = ADVICE.get(error.errno or 0, str(error.strerror or error).lower())
    return ValueError(f"{path} cannot be {action}: {reason}.")


@contextmanager
def disk_errors(path: Path, action: str) -> Iterator[None]:
    """Inside, an error of the operating system is raised as a `file_error`."""
    try:
        yield
    except OSError as error:
        raise file_error(error, path, action) from error


def damaged(
    path: Path, reason: object, remedy: str = "restore it, or train the run again"
) -> ValueError:
    """The error of a file whose contents cannot be used."""
    return ValueError(f"{path} is damaged ({reason}); {remedy}.")


def write(path: Path, data: bytes) -> None:
    """Writes `data` to `path` completely or not at all, whenever the process or the machine stops.

    Raises ValueError in one sentence if there is no space or no permission; the old file then
    stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        if os.name == "posix":
            _sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise file_error(error, path, "written") from error


def _sync_directory(path: Path) -> None:
    """Forces a renaming inside the directory to disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_directory(path: Path) -> None:
    """Makes the directory `path` and its parents if they are missing.

    Raises ValueError in one sentence if it cannot be made.
    """
    with disk_errors(path, "made"):
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path} is a file; give a directory.")
        path.mkdir(parents=True, exist_ok=True)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file. Raises ValueError in one sentence if it is missing or cannot be read."""
    with disk_errors(path, "read"):
        if not path.exists():
            raise ValueError(f"{path} is missing; give the directory of a finished run.")
        return path.read_bytes()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON; see `write`."""
    write(path, (json.dumps(value, indent=1, allow_nan=True) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping. Raises ValueError if it is missing or damaged."""
    try:
        value = json.loads(read_bytes(path))
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise damaged(path, "not JSON") from None
    if not isinstance(value, dict):
        raise damaged(path, "not a mapping")
    return value


def save_weights(path: Path, model: nn.Module) -> None:
    """Writes the state of `model` as safetensors; see `write`."""
    state = {name: _portable(value) for name, value in model.state_dict().items()}
    write(path, safetensors.torch.save(state))


def _portable(value: Tensor) -> Tensor:
    """A copy on the CPU that shares memory with no other tensor."""
    return value.detach().to("cpu").contiguous().clone()


def load_weights(path: Path, model: nn.Module) -> None:
    """Loads saved weights into `model`.

    Raises ValueError if the file is damaged or belongs to another model.
    """
    try:
        state = safetensors.torch.load(read_bytes(path))
    except SafetensorError as error:
        raise damaged(path, error) from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise ValueError(
            f"{path} does not fit the model that run.json describes: {first}"
        ) from None


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes `state` (tensors, numbers, words and nests of them) for `load_checkpoint`."""
    # In memory first: a full disk is then an OSError, and no partial file is left.
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write(path, buffer.getvalue())


def load_checkpoint(path: Path, values: bool = True) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote.

    Args:
        values: False: tensors without values, which is quick.

    Raises ValueError if it is damaged or holds anything but tensors and plain values.
    """
    device = "cpu" if values else "meta"
    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=not values)
    except PermissionError as error:
        raise file_error(error, path, "read") from error
    except DAMAGE as error:
        raise ValueError(
            f"{path} {_damage(error)}; remove it to start again from the beginning."
        ) from None


def _damage(error: Exception) -> str:
    if isinstance(error, UnpicklingError) and "weights_only" in str(error).lower():
        return "holds more than tensors and is not opened, since that could run code"
    return "is damaged"


def refuse_code(directory: Path) -> None:
    """Raises ValueError if `directory` holds files that can run code when they are read; a run
    writes none.
    """
    suspects = sorted(p.name for p in directory.rglob("*") if p.suffix.lower() in CODE)
    if suspects:
        raise ValueError(
            f"{directory} holds {suspects[0]}, a kind of file that can run code when it is read and"
            " that no run writes; the directory is not opened. Remove the file if you trust the"
            " rest."
        )
