"""Files that are never half there: written beside, forced to disk and renamed; a reader finds the old or the new.

Nothing here reads a file in a way that could run code: JSON, CSV, safetensors, and torch's files with `weights_only`.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

if TYPE_CHECKING:
    import pandas as pd

CODE = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")  # files of these kinds can run code when they are read


def _told(error: OSError, path: Path, doing: str) -> ValueError:
    """What the operating system said, as one sentence with what to do."""
    advice = {
        errno.ENOSPC: "there is no space left on the disk; free some, or give another --out (what was there stays)",
        errno.EDQUOT: "the disk quota is used up; free some, or give another --out (what was there stays)",
        errno.EACCES: "permission is denied; give a directory that you may write to",
        errno.EPERM: "permission is denied; give a directory that you may write to",
        errno.EROFS: "the file system is read-only; give another --out",
    }
    why = advice.get(error.errno or 0, str(error.strerror or error).lower())
    return ValueError(f"{path} cannot be {doing}: {why}.")


def write(path: Path, data: bytes) -> None:
    """`data` as the file `path`, whole or not at all, whenever the process or the machine stops.

    Raises ValueError in one sentence if there is no space or no permission; what was there before then stays.
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
    """The directory `path`, if it is not there. Raises ValueError in one sentence if it cannot be made."""
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
            raise ValueError(f"{path} is damaged (not JSON); restore it, or train the run again.") from None
        raise
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged (not a mapping); restore it, or train the run again.")
    return value


def save_weights(path: Path, model: nn.Module) -> None:
    """The state of `model` as safetensors."""
    state = {k: v.detach().to("cpu").contiguous().clone() for k, v in model.state_dict().items()}
    write(path, safetensors.torch.save(state))


def load_weights(path: Path, model: nn.Module) -> None:
    """Puts saved weights into `model`. Raises ValueError if the file is damaged or belongs to another model."""
    try:
        state = safetensors.torch.load(_read(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or train the run again.") from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split("\n\t")[1:2]) or str(error)
        raise ValueError(f"{path} does not fit the model that run.json describes: {first}") from None


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """`state` (tensors, numbers, words and nests of them) for `load_checkpoint`."""
    buffer = io.BytesIO()  # in memory first: a full disk is then an OSError, and nothing of it is on the disk
    torch.save(dict(state), buffer)
    write(path, buffer.getvalue())


def load_checkpoint(path: Path, values: bool = True) -> dict[str, Any]:
    """What `save_checkpoint` wrote; without `values` its form alone, which is quick.

    Raises ValueError if it is damaged or holds anything but tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu" if values else "meta", weights_only=True, mmap=not values)
    except PermissionError as error:
        raise _told(error, path, "read") from error
    except (OSError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        refused = isinstance(error, UnpicklingError) and "weights_only" in str(error).lower()
        what = "holds more than tensors and is not opened, since that could run code" if refused else "is damaged"
        raise ValueError(f"{path} {what}; remove it to start again from the beginning.") from None


def refuse_code(directory: Path) -> None:
    """Raises ValueError if `directory` holds files that can run code when they are read; none of a run's own can."""
    planted = sorted(p.name for p in directory.rglob("*") if p.suffix.lower() in CODE)
    if planted:
        raise ValueError(
            f"{directory} holds {planted[0]}, a kind of file that can run code when it is read and that no run writes; "
            "the directory is not opened. Remove the file if you trust the rest."
        )


class Log:
    """log.csv: one row an epoch, columns as they turn up. `path` None: in memory alone."""

    def __init__(self, path: Path | None, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.path, self.rows = path, [dict(row) for row in rows]
        self._columns: list[str] = []
        self._write()

    @staticmethod
    def read(path: Path, rows: int) -> list[dict[str, Any]]:
        """The first `rows` rows. Raises ValueError if there are fewer."""
        text = _read(path).decode(errors="replace") if rows else ""
        found = [{k: v for k, v in row.items() if v and k} for row in csv.DictReader(io.StringIO(text))][:rows]
        if len(found) < rows:
            raise ValueError(
                f"{path} is damaged: {rows} rows were expected, there are {len(found)}. Remove last.ckpt beside it "
                "to start again from the beginning."
            )
        return found

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds one row."""
        self.rows.append(dict(row))
        if self.path is None:
            return
        if any(key not in self._columns for key in row):
            self._write()
            return
        try:
            with open(self.path, "a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        except OSError as error:
            raise _told(error, self.path, "written") from error

    def sync(self) -> None:
        """Forces what was appended to the disk."""
        if self.path is None:
            return
        try:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise _told(error, self.path, "written") from error

    def _write(self) -> None:
        self._columns = list(dict.fromkeys(key for row in self.rows for key in row))
        if self.path is not None:
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self._columns)
            writer.writeheader()
            writer.writerows(self.rows)
            write(self.path, text.getvalue().encode())

    def frame(self) -> pd.DataFrame:
        """The log as a table."""
        import pandas as pd  # 0.3 s, and training does not need it

        return pd.DataFrame([{k: _number(v) for k, v in row.items()} for row in self.rows])


def _number(value: Any) -> Any:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return int(number) if str(value).lstrip("-").isdigit() else number
