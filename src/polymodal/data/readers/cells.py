"""Files of single cells, .h5ad and .h5mu, as anndata and mudata write them."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polymodal.checks import FilePath
from polymodal.checks.files import LIMIT, regular
from polymodal.data.readers.files import DamageError, reading

if TYPE_CHECKING:
    import pandas as pd

ANNDATA, MUDATA = ".h5ad", ".h5mu"
NAMES = "obs_names"  # the column of the names of cells
MAX_MB = 4000.0  # that a file holds, unpacked; $POLYMODAL_MAX_MB raises it
REMEDY = "write it again, with write_h5ad of anndata or write of mudata"
INSTALL = "install them, for example with: pip install 'polymodal[cells]'"


@dataclass(frozen=True)
class CellFile:
    """What a file of cells holds.

    Args:
        obs: a row for each cell; the first column, `NAMES`, has their names. Columns of one
            modality have its name and a colon in front.
        modalities: objects of anndata by name; of .h5ad one, under the name "".
        whole: the object of anndata or mudata.
    """

    obs: pd.DataFrame
    modalities: Mapping[str, Any]
    whole: Any


def is_cell_data(x: Any) -> bool:
    """Whether an object is one of anndata or mudata."""
    return type(x).__module__.partition(".")[0] in ("anndata", "mudata") and hasattr(x, "obs_names")


def cells_of(whole: Any) -> CellFile:
    """What an object of anndata or mudata holds."""
    if hasattr(whole, "mod"):
        return CellFile(_with_names(_joined(whole)), dict(whole.mod), whole)
    return CellFile(_with_names(whole.obs), {"": whole}, whole)


def is_cells(path: FilePath) -> bool:
    """Whether a file is one of cells, by its name.

    >>> is_cells("a.h5mu"), is_cells("a.h5")
    (True, False)
    """
    return str(path).lower().endswith((ANNDATA, MUDATA))


def read_cells(path: Path) -> CellFile:
    """The file, read once.

    Raises ValueError if it is absent, damaged, or holds more than 4,000 MB, and if the packages
    that read it are not installed.
    """
    stat = regular(path).stat()
    return _read(path.resolve(), path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2)
def _read(where: Path, path: Path, changed: int, size: int) -> CellFile:
    try:
        import anndata
        import h5py
        import mudata
    except ImportError as error:
        what = f"{path} is read by the packages anndata and mudata"
        raise ValueError(f"{what}, and {error.name} is not installed; {INSTALL}.") from None
    with reading(path, REMEDY), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions and of names
        with h5py.File(path, "r") as file:
            _check_size(file)
            _check_groups(file, "mod" if path.suffix.lower() == MUDATA else "obs")
        if path.suffix.lower() == ANNDATA:
            return cells_of(anndata.read_h5ad(path))
        return cells_of(mudata.read_h5mu(path))


def _check_size(file: Any) -> None:
    """Raises DamageError if a file of HDF5 holds more than `MAX_MB`."""
    sizes: list[int] = []

    def add(name: str, item: Any) -> None:
        if hasattr(item, "dtype") and hasattr(item, "shape"):
            sizes.append(math.prod(item.shape or ()) * item.dtype.itemsize)

    file.visititems(add)
    limit = max(MAX_MB, float(os.environ.get(LIMIT) or 0))
    if sum(sizes) > limit * 1e6:
        raise DamageError(
            f"it holds {sum(sizes) / 1e6:,.0f} MB, more than {limit:,.0f} MB",
            f"keep fewer features, or set {LIMIT} in the environment to read it",
        )


def _check_groups(file: Any, group: str) -> None:
    """Raises DamageError for a file of HDF5 that anndata or mudata did not write."""
    if group not in file:
        held = ", ".join(sorted(file)[:5]) or "nothing"
        raise DamageError(f"it has no {group!r}, as files of cells have, but {held}")


def _joined(data: Any) -> pd.DataFrame:
    """Columns about cells: those of all modalities, and of each."""
    import pandas as pd

    columns: dict[str, pd.Series] = dict(data.obs.items())
    for modality, each in data.mod.items():
        if each.obs_names.is_unique:
            for name, column in each.obs.items():
                columns.setdefault(f"{modality}:{name}", column.reindex(data.obs_names))
    return pd.DataFrame(columns, index=data.obs_names)


def _with_names(obs: pd.DataFrame) -> pd.DataFrame:
    """The names of cells as the first column; objects of several types as words."""
    obs = obs.drop(columns=NAMES, errors="ignore").copy()
    for name, column in obs.items():
        if column.dtype == object:
            obs[name] = column.where(column.isna(), column.astype(str))
    obs.insert(0, NAMES, obs.index.astype(str))
    return obs.reset_index(drop=True)
