"""Files that are never half there: written beside, forced to disk and renamed; a reader finds the
old or the new.

Nothing here reads a file in a way that could run code: JSON, CSV, safetensors, and torch's files
    with `weights_only`.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

if TYPE_CHECKING:
    pass

CODE = (
    ".pkl",
    ".pickle",
    ".pt",
    ".pth",
    ".bin",
    ".joblib",
)  # files of these kinds can run code when they are read


def _told(error: OSError, path: Path, doing: str) -> ValueError:
    """What the operating system said, as one sentence with what to do."""
    advice = {
        errno.ENOSPC: (
            "there is no space left on the disk; free some, or give another --out (what was there"
            " stays)"
        ),
        errno.EDQUOT: (
            "the disk quota is used up; free some, or give another --out (what was there stays)"
        ),
        errno.EACCES: "permission is denied; give a directory that you may write to",
        errno.EPERM: "permission is denied; give a directory that you may write to",
        errno.EROFS: "the file system is read-only; give another --out",
    }
    why = advice.get(error.errno or 0, str(error.strerror or error).lower())
    return ValueError(f"{path} cannot be {doing}: {why}.")


def write(path: Path, data: bytes) -> None:
    """`data` as the file `path`, whole or not at all, whenever the process or the machine stops.

    Raises ValueError in one sentence if there is no space or no permission; what was there before
    then stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        if os.name == "posix":  # the renaming itself must be on disk too
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise _told(error, path, "written") from error


def make_directory(path: Path) -> None:
    """The directory `path`, if it is not there. Raises ValueError in one sentence if it cannot be
    made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise ValueError(f"{path} is a file; give a directory.") from None
    except OSError as error:
        raise _told(error, path, "made") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; give the directory of a finished run.") from None
    except OSError as error:
        raise _told(error, path, "read") from error


def write_json(path: Path, value: Any) -> None:
    """`value` as JSON; see `write`."""
    write(path, (json.dumps(value, indent=1, allow_nan=True) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping. Raises ValueError if it is missing or damaged."""
    try:
        value = json.loads(_read(path))
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            raise ValueError(
                f"{path} is damaged (not JSON); restore it, or train the run again."
            ) from None
        raise
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged (not a mapping); restore it, or train the run again.")
    return value


def save_weights(path: Path, model: nn.Module) -> None:
    """The state of `model` as safetensors."""
    state = {k: v.detach().to("cpu").contiguous().clone() for k, v in model.state_dict().items()}
    write(path, safetensors.torch.save(state))


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts saved weights into `model`. Raises ValueError if the file is damaged or belongs to
    another model.
    """
    try:
        state = safetensors.torch.load(_read(path))
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged ({error}); restore it, or train the run again."
        ) from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise ValueError(
            f"{path} does not fit the model that run.json describes: {first}"
        ) from None


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """`state` (tensors, numbers, words and nests of them) for `load_checkpoint`."""
    buffer = (
        io.BytesIO()
    )  # in memory first: a full disk is then an OSError, and nothing of it is on the disk
    torch.save(dict(state), buffer)
    write(path, buffer.getvalue())


def load_checkpoint(path: Path, values: bool = True) -> dict[str, Any]:
    """What `save_checkpoint` wrote; without `values` its form alone, which is quick.

    Raises ValueError if it is damaged or holds anything but tensors and plain values.
    """
    try:
        return torch.load(
            path, map_location="cpu" if values else "meta", weights_only=True, mmap=not values
        )
    except PermissionError as error:
        raise _told(error, path, "read") from error
    except (
        OSError,
        UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
    ) as error:
        refused = isinstance(error, UnpicklingError) and "weights_only" in str(error).lower()
        what = (
            "holds more than tensors and is not opened, since that could run code"
            if refused
            else "is damaged"
        )
        raise ValueError(f"{path} {what}; remove it to start again from the beginning.") from None


def refuse_code(directory: Path) -> None:
    """Raises ValueError if `directory` holds files that can run code when they are read; none of a
    run's own can.
    """
    planted = sorted(p.name for p in directory.rglob("*") if p.suffix.lower() in CODE)
    if planted:
        raise ValueError(
            f"{directory} holds {planted[0]}, a kind of file that can run code when it is read and"
            " that no run writes; the directory is not opened. Remove the file if you trust the"
            " rest."
        )
