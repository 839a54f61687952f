"""JSON files of runs, and the places into which commands write.

Nothing in a run directory is read in a way that could run code: JSON, CSV and safetensors.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.checks import plain
from polymodal.checks.files import damaged, disk_errors, make_directory, read_bytes, write

RUN, MODEL, LAST = "run.json", "model.safetensors", "last.ckpt"
LOG, METRICS, LOCK = "log.csv", "metrics.json", ".lock"
PARTS = (RUN, MODEL, LAST, LOG, METRICS, LOCK)
# Kinds of files that can run code when they are read.
CODE = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")
JSON_MB = 16
DEPTH = 60  # of nested lists and mappings


def finite(value: Any) -> Any:
    """A value for JSON: plain, and null where a number is not finite."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON, null where a number is not finite; see `write`."""
    write(path, (json.dumps(finite(plain(value)), indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping. Raises ValueError if it is missing or damaged."""
    return parse_json(read_bytes(path, JSON_MB), path)


def parse_json(data: bytes, path: Path, number: Any = None) -> dict[str, Any]:
    """The JSON mapping in `data`.

    Args:
        path: of the file, for the sentence.
        number: reads a number with a point, an exponent or the words NaN and Infinity; None: only
            finite ones.

    Raises ValueError for text that is no JSON, numbers that are not finite, keys that come twice,
    and lists that are nested too deeply.
    """
    number = number or _finite_number
    try:
        text = data.decode()
        value = json.loads(
            text, parse_float=number, parse_constant=number, object_pairs_hook=_mapping
        )
        _check_depth(value)
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        known = error.args[0] if type(error) is ValueError else "not JSON"
        raise damaged(path, known) from None
    if not isinstance(value, dict):
        raise damaged(path, "not a mapping")
    return value


def _finite_number(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError(f"a number that is not finite, {text[:20]}")
    return float(text)


def _mapping(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} comes twice")
    return value


def _check_depth(value: Any, left: int = DEPTH) -> None:
    if isinstance(value, dict | list):
        if not left:
            raise ValueError(f"nested more than {DEPTH} deep")
        for inside in value.values() if isinstance(value, dict) else value:
            _check_depth(inside, left - 1)


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
    with disk_errors(path, "written"):
        kind = target.lstat().st_mode if target.is_symlink() or target.exists() else stat.S_IFREG
    if not stat.S_ISREG(kind):
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
