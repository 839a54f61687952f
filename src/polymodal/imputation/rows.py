"""New rows in a file of a user, and how they are written without holes: `rows_in`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from polymodal.batch import Modality
from polymodal.data import Dataset
from polymodal.imputation.completion import Completion
from polymodal.imputation.conformal import Calibration
from polymodal.runs.run import Run

Values = Mapping[str, Tensor]  # {modality: (R, *shape)}, for the R rows that lack something


@dataclass(frozen=True)
class Named:
    """Names of the rows.

    Args:
        column: the name of their column.
        values: one for each row.
    """

    column: str
    values: Sequence[Any]


class Rows(ABC):
    """The rows of a file that a user gives to a trained model.

    Args:
        path: the file.
        modalities: of the run.
        data: the rows as samples of those modalities.
        notes: sentences on what was not read as it stands.
    """

    endings: Sequence[str]  # of names of files, the longest first
    path: Path
    modalities: Sequence[Modality]
    data: Dataset
    notes: Sequence[str] = ()

    @property
    def targets(self) -> Sequence[str]:
        """The modalities that have a place in the file."""
        return [m.name for m in self.modalities]

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many cells of each column are filled, of those that lack any."""

    @abstractmethod
    def lacking(self) -> int:
        """How many rows have such cells."""

    @abstractmethod
    def write(self, path: Path, completion: Completion, values: Values) -> None:
        """Writes the file with `values` in its holes; all else stays as it is."""

    def folders(self, path: Path, completion: Completion) -> Sequence[Path]:
        """The folders of pictures that `write` makes beside the file."""
        return ()

    @abstractmethod
    def write_bounds(
        self, path: Path, completion: Completion, calibration: Calibration | None
    ) -> None:
        """Writes the intervals of what was filled.

        Args:
            calibration: of intervals and probabilities; None: the model's own are written.
        """

    def names(self) -> Named:
        """The names of the rows; their numbers from 0 if they have none."""
        return Named("row", range(len(self.data)))

    def output(self, path: Path) -> None:
        """Raises ValueError for the name of another kind of file, and for the file itself."""
        if ending(path, self.endings) is None:
            raise ValueError(
                f"The output has the format of the input {self.path}, so that its name ends in"
                f" {' or '.join(sorted(self.endings))}, got {path}."
            )
        if path.exists() and path.resolve() == self.path.resolve():
            raise ValueError(f"{path} is the input, and is not written over; give another --out.")

    def marked(self, path: Path, mark: str) -> Path:
        """The name of a further file: a/b.csv.gz with the mark "1" is a/b.1.csv.gz."""
        end = ending(path, self.endings) or ""
        return path.with_name(f"{path.name[: len(path.name) - len(end)]}.{mark}{end}")


def ending(path: Path, endings: Sequence[str]) -> str | None:
    """The end of a file's name, as it is written, if it is one of `endings`.

    >>> ending(Path("a.b.csv.GZ"), (".csv.gz", ".csv"))
    '.csv.GZ'
    """
    name = path.name
    found = (e for e in endings if name.lower().endswith(e) and len(name) > len(e))
    longest = max(found, key=len, default=None)
    return None if longest is None else name[-len(longest) :]


def rows_in(run: Run, path: Path) -> Rows:
    """The rows of a table, a file of cells or an .npz file, read as the data of the run were.

    Raises ValueError in one sentence for other files, and files that cannot be read.
    """
    from polymodal.data.readers.cells import is_cells
    from polymodal.data.tables import is_table
    from polymodal.imputation.archive_rows import ArchiveRows
    from polymodal.imputation.cell_rows import CellRows
    from polymodal.imputation.table_rows import TableRows

    if path.suffix.lower() == ".npz":
        return ArchiveRows(run, path)
    if is_cells(path):
        return CellRows(run, path)
    if is_table(path):
        return TableRows(run, path)
    raise ValueError(
        "Rows are read from a table (.csv, .tsv, .parquet, .feather), a file of cells (.h5ad,"
        f" .h5mu) or an .npz file, got {path}."
    )
