"""JSON files of runs, and the places into which commands write.

Nothing in a run directory is read in a way that could run code: JSON, CSV and safetensors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic_core import from_json, to_jsonable_python

from polymodal.checks import plain
from polymodal.checks.files import damaged, make_directory, read_bytes, write

RUN, MODEL, LAST = "run.json", "model.safetensors", "last.ckpt"
LOG, METRICS, LOCK = "log.csv", "metrics.json", ".lock"
PARTS = (RUN, MODEL, LAST, LOG, METRICS, LOCK)
# Kinds of files that can run code when they are read.
CODE = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
JSON_MB = 16


def finite(value: Any) -> Any:
    """A value for JSON: plain, and null where a number is not finite."""
    return to_jsonable_python(value, inf_nan_mode="null")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, null where a number is not finite; see `write`."""
    write(path, (json.dumps(finite(plain(value)), indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping of finite numbers. Raises ValueError if it is missing or damaged."""
    value = parse_json(read_bytes(path, JSON_MB), path)
    if finite(value) != value:
        raise damaged(path, "a number is not finite")
    return value


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """The JSON mapping in `data`. Raises ValueError, which names the file, for another text."""
    try:
        value = from_json(data)
    except ValueError as error:
        raise damaged(path, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise damaged(path, "not a mapping")
    return value


# Outputs.


def write_output(path: Path, data: bytes) -> None:
    """Writes a file that a user asked for, and the directory in which it lies.

    Raises ValueError as `check_output` and `write`.
    """
    target = check_output(path)
    make_directory(target.parent)
    write(target, data)


def check_output(path: Path) -> Path:
    """The file that is written for `path`, symbolic links followed.

    Raises ValueError unless it is new, or a regular file that is no part of a run.
    """
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not target.is_file():
        raise ValueError(
            f"{path} is no regular file, and is not written over; give the name of a new file."
        )
    if target.name.lower() in PARTS:
        raise ValueError(
            f"{path} has the name of a part of a run, and is not written over; give another file."
        )
    return target


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
