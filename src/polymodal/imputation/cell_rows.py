"""Cells in a file of a user, .h5ad or .h5mu."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polymodal.checks.files import atomic, disk_errors
from polymodal.data import read_rows
from polymodal.data.new_rows import description_of_rows
from polymodal.data.readers.cells import ANNDATA, MUDATA, NAMES, read_cells
from polymodal.imputation.cell_data import bounds_only, completed, has_place
from polymodal.imputation.completion import Completion, missing
from polymodal.imputation.conformal import Calibration
from polymodal.imputation.rows import Named, Rows, Values
from polymodal.imputation.table_rows import section_of_run
from polymodal.imputation.weighted import latent_means
from polymodal.runs.files import check_output
from polymodal.runs.run import Run


class CellRows(Rows):
    """The cells of a file. A modality of the run that an .h5mu file lacks is added; one of an obsm
    or of obs has no place.

    Raises ValueError as `read_rows`, and for a run that was not trained on files.
    """

    def __init__(self, run: Run, path: Path) -> None:
        self.path, self.modalities, self.model = path, run.modalities, run.model
        section = section_of_run(run, path)
        self.data = read_rows(run.modalities, section, path)
        read = read_cells(path)
        self.whole = read.whole
        self.keys = read.obs[NAMES].tolist()
        description = description_of_rows(section, path)
        self.entries = {m: entry for m, (_, entry) in description.sources.items()}
        self.endings = (ANNDATA,) if path.suffix.lower() == ANNDATA else (MUDATA,)
        self.holes = {m: missing(self.data, m) for m in self.targets}

    @property
    def targets(self) -> list[str]:
        several = hasattr(self.whole, "mod")
        return [
            m.name
            for m in self.modalities
            if len(m.shape) == 1
            and (several or m.name in self.entries)
            and not m.columns
            and has_place(self.entries.get(m.name))
        ]

    def names(self) -> Named:
        return Named("cell", self.keys)

    def counts(self) -> dict[str, int]:
        counts = {m: int(holes.sum()) for m, holes in self.holes.items()}
        return {m: count for m, count in counts.items() if count}

    def lacking(self) -> int:
        rows = [holes.any(1) for holes in self.holes.values()]
        return int(torch.stack(rows).any(0).sum()) if rows else 0

    def write(self, path: Path, completion: Completion, values: Values) -> None:
        whole = {m: self._in_holes(m, completion, x) for m, x in values.items()}
        latent = latent_means(self.model, self.data)
        done = completed(self.whole, self.keys, self.entries, self.modalities, whole, latent)
        write_cells(path, done)

    def _in_holes(self, m: str, completion: Completion, values: Tensor) -> Tensor:
        """Values (R, d) of the rows that lack something as (N, d), NaN where nothing is lacking."""
        return torch.where(self.holes[m], completion.all_rows(values), torch.nan)

    def write_bounds(
        self, path: Path, completion: Completion, calibration: Calibration | None
    ) -> None:
        """A file with the layers `lower` and `upper`, NaN where nothing was filled."""
        bounds: dict[str, Any] = {}
        for m in self.modalities:
            if m.name in completion.filled:
                low, high = completion.bounds(m, calibration)
                bounds[m.name] = tuple(self._in_holes(m.name, completion, b) for b in (low, high))
        if bounds:
            write_cells(path, bounds_only(self.whole, self.keys, self.modalities, bounds))

    def write_latents(self, path: Path, z: Tensor) -> None:
        """Writes the file with `.obsm["X_polymodal"]`."""
        write_cells(path, completed(self.whole, self.keys, {}, (), {}, z))


def write_cells(path: Path, data: Any) -> None:
    """Writes an object of anndata or mudata, completely or not at all."""
    target = check_output(path)
    with warnings.catch_warnings(), disk_errors(path, "written"), atomic(target) as beside:
        warnings.simplefilter("ignore")  # of versions and of names
        named = beside.with_name(f"{beside.name}{MUDATA if hasattr(data, 'mod') else ANNDATA}")
        try:
            data.write(named)
            named.replace(beside)
        finally:
            named.unlink(missing_ok=True)
