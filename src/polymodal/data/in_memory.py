"""Data that Python already holds: DataFrames, arrays, mappings of them, and data sets of
`datasets`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from polymodal.checks import shown
from polymodal.data.described import Described, read_described
from polymodal.data.description import description_of
from polymodal.data.hub import is_hub, read_hub
from polymodal.data.npz import LABELS, of_arrays
from polymodal.data.splits import Splits
from polymodal.data.suggestion import modality_name, suggested
from polymodal.data.tables.user_table import UserTable

if TYPE_CHECKING:
    import pandas as pd

    InMemory = Mapping[str, Any] | pd.DataFrame
else:
    InMemory = Any  # since pandas is not imported before it is needed

TABLE = "table"


def is_frame(given: Any) -> bool:
    """Whether something is a DataFrame. This does not import pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(given, pandas.DataFrame)


def is_in_memory(given: Any) -> bool:
    """Whether data are a DataFrame, a mapping of DataFrames, arrays and tensors, or a data set of
    `datasets`.

    >>> is_in_memory({"a": np.zeros((3, 2))}), is_in_memory({"file": "people.csv"})
    (True, False)
    """
    if is_frame(given) or is_hub(given):
        return True
    return isinstance(given, Mapping) and any(hasattr(x, "__array__") for x in given.values())


def from_memory(given: Any, *, seed: int = 0, **fields: Any) -> Splits:
    """The parts of data that `is_in_memory`.

    A DataFrame is read as a table in a file. Arrays (N, ...) are read as those of an .npz file,
    with `label`, masks and parts by their names (see `npz_file`), or, beside a DataFrame, as
    modalities of their own; row i of all of them is sample i. Of a data set of `datasets`, numbers
    and words are a table, texts, pictures and vectors modalities of their own; see `read_hub`.

    Args:
        seed: of the random split.
        fields: of a description: label, split, empty; not of a mapping.

    Raises ValueError in one sentence for what cannot be read.
    """
    if is_frame(given):
        return _of_frame(given, seed, fields).splits
    if is_hub(given):
        return _of_hub(given, seed, fields).splits
    if fields:
        raise ValueError(f"Only a DataFrame alone takes {shown(sorted(fields))}; leave it out.")
    if unnamed := [name for name in given if not isinstance(name, str)]:
        raise ValueError(f"Modalities are named by words, got {shown(unnamed[0])}.")
    if any(is_frame(x) for x in given.values()):
        return _of_several(given, seed).splits
    return of_arrays({name: _array(x) for name, x in given.items()}, "The data", seed)


def _array(x: Any) -> np.ndarray:
    """An array or tensor as an array."""
    if isinstance(x, np.memmap):  # which stays one
        return x
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def _table(columns: Any, name: str) -> UserTable:
    """A DataFrame, or what becomes one, as a table with this name."""
    import pandas as pd  # 0.4 s, and most training does without it

    from polymodal.data.tables.frame import Frame

    return Frame(pd.DataFrame(columns), name)


def _of_frame(frame: pd.DataFrame, seed: int, fields: Mapping[str, Any]) -> Described:
    tables: Any = {Path(TABLE): _table(frame, TABLE)}
    return read_described({"file": TABLE, **fields}, TABLE, seed, tables=tables)


def _of_hub(given: Any, seed: int, fields: Mapping[str, Any]) -> Described:
    """A table with texts, and an array for each column of pictures or vectors."""
    read = read_hub(given)
    section = {"split": read.split, **fields} if read.split else dict(fields)
    arrays = {Path(f"array {k}"): {"": x} for k, x in enumerate(read.arrays.values())}
    modalities: dict[str, Any] = {}
    tables: Any = {}
    if len(read.frame.columns):
        tables, section = {Path(TABLE): _table(read.frame, TABLE)}, {"file": TABLE, **section}
        if set(read.frame.columns) - {read.split, section.get("label")}:
            whole = suggested(description_of(section), tables=tables, folders=[])
            modalities = dict(whole.modalities)
    for k, name in enumerate(read.arrays):
        modalities[modality_name(name)] = {"source": "array", "file": f"array {k}"}
    described = {**section, "modalities": modalities}
    return read_described(described, "data", seed, tables=tables, arrays=arrays)


def _of_several(given: Mapping[str, Any], seed: int) -> Described:
    """A DataFrame or an array for each modality, and labels. The files of the description are
    numbers, behind which these stand.
    """
    tables: Any = {}
    arrays: dict[Path, dict[str, np.ndarray]] = {}
    section: dict[str, Any] = {}
    modalities: dict[str, dict[str, Any]] = {}
    for k, (name, x) in enumerate(given.items()):
        file = str(k)
        if name in LABELS:
            tables[Path(file)] = _table({"label": _array(x)}, name)
            section = {"file": file, "label": "label"}
        elif is_frame(x):
            tables[Path(file)] = _table(x, name)
            modalities[name] = {"file": file}
        else:
            arrays[Path(file)] = {"": _array(x)}
            modalities[name] = {"source": "array", "file": file}
    whole = {**section, "modalities": modalities}
    return read_described(whole, "data", seed, tables=tables, arrays=arrays)
