"""Rows of a table of a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import escaped
from polymodal.data import read_rows, rows_table
from polymodal.data.description import Description, describes, description_of
from polymodal.data.new_rows import pictures_of, text_column
from polymodal.data.tables.delimited import digits
from polymodal.data.tables.reading import TEXT, TYPED
from polymodal.data.tables.values import as_written, filled, holes_of
from polymodal.data.tables.writing import table_bytes
from polymodal.data.words import texts_of
from polymodal.imputation.bounds import Bound, bounds_of
from polymodal.imputation.completion import Completion
from polymodal.imputation.conformal import Calibration
from polymodal.imputation.pictures import LackingPictures
from polymodal.imputation.rows import Named, Rows, Values, ending
from polymodal.runs.files import check_output, write_output
from polymodal.runs.run import Run

AS_TEXT = ("value", "lower", "upper")
Cells = dict[str, tuple[list[int], list[Any]]]


class TableRows(Rows):
    """The rows of a table. Modalities that are no columns of it are absent.

    Raises ValueError as `read_rows`, and for a run that was not trained on tables.
    """

    def __init__(self, run: Run, path: Path) -> None:
        self.path, self.modalities = path, run.modalities
        self.section = section_of_run(run, path)
        self.empty = description_of(self.section).empty
        self.table = rows_table(self.section, path)
        family = TEXT if str(path).lower().endswith(TEXT) else TYPED
        self.endings = _same_text(path) if family is TEXT else TYPED
        self.data = read_rows(run.modalities, self.section, path)
        self.holes = {
            m.name: holes_of(self.table, m, self.empty) for m in self.modalities if m.columns
        }
        self.texts = {
            m.name: column
            for m in self.modalities
            if m.vocabulary and (column := text_column(m, self.section, self.table))
        }
        self.pictures = self._pictures()
        self._check_columns()

    def _pictures(self) -> dict[str, LackingPictures]:
        """The pictures that rows may lack, by modality."""
        found = {}
        for m in self.modalities:
            pictures = pictures_of(m, self.section, self.table)
            if pictures is not None:
                names = self.names()
                found[m.name] = LackingPictures(m, pictures, self.table, names, self.empty)
        return found

    def _check_columns(self) -> None:
        """Raises ValueError for a table that has no column of the run."""
        known = [c.name for m in self.modalities for c in m.columns]
        known += [*self.texts.values(), *(p.column for p in self.pictures.values())]
        if not set(known) & set(self.table.columns):
            raise ValueError(
                f"{self.path} has no column of the run; it has"
                f" {', '.join(map(repr, self.table.columns[:5]))}, and the run knows"
                f" {', '.join(map(repr, known[:5])) or 'no columns'}."
            )

    @property
    def targets(self) -> Sequence[str]:
        places = {**self.texts, **self.pictures}
        return [m.name for m in self.modalities if m.columns or m.name in places]

    def names(self) -> Named:
        """The cells of the key column of the description, if the table has it."""
        key = description_of(self.section).key
        if key is None or key not in self.table.columns:
            return super().names()
        words = self.table.cells(key, self.empty, as_words=True).as_words()
        return Named(key, ["" if word is None else word for word in words])

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for m in self.modalities:
            for k, column in enumerate(m.columns):
                counts[column.name] = int(self.holes[m.name][:, k].sum())
            if named := self._cell_of(m.name):
                counts[named] = int((~self.data.is_present(m.name)).sum())
        return {name: count for name, count in counts.items() if count}

    def lacking(self) -> int:
        lacking = torch.zeros(len(self.data), dtype=torch.bool)
        for holes in self.holes.values():
            lacking |= holes.any(1)
        for m in (*self.texts, *self.pictures):
            lacking |= ~self.data.is_present(m)
        return int(lacking.sum())

    def _cell_of(self, m: str) -> str | None:
        """The column with the texts or the names of the pictures of a modality."""
        return self.pictures[m].column if m in self.pictures else self.texts.get(m)

    def _lacking(self, m: str, completion: Completion) -> tuple[Tensor, list[int]]:
        """Which of the completed rows lack modality m, and their numbers."""
        lacks = ~self.data.is_present(m)[completion.rows]
        return lacks, completion.rows[lacks].tolist()

    def folders(self, path: Path, completion: Completion) -> Sequence[Path]:
        return [self._folder(path, m) for m in self.pictures if m in completion.filled]

    def _folder(self, path: Path, m: str) -> Path:
        """The folder of new pictures beside a completed table."""
        name = path.name.removesuffix(ending(path, self.endings) or "")
        return path.with_name(f"{name}.{escaped(m)}")

    def write(self, path: Path, completion: Completion, values: Values) -> None:
        target = check_output(path)
        for m, pictures in self.pictures.items():
            if m in values:
                lacks, rows = self._lacking(m, completion)
                pictures.write(self._folder(path, m), rows, values[m][lacks])
        target.parent.mkdir(parents=True, exist_ok=True)
        self.table.write(target, self._cells(completion, values))

    def _cells(self, completion: Completion, values: Values) -> Cells:
        """What is written: {column: (rows, values)}."""
        cells: Cells = {}
        for m in self.modalities:
            if m.name not in values:
                continue
            if m.columns:
                whole = completion.all_rows(values[m.name])
                cells |= filled(self.table, m, whole, self.empty, self.holes[m.name])
            elif m.name in self.texts:
                lacks, rows = self._lacking(m.name, completion)
                cells[self.texts[m.name]] = (rows, texts_of(values[m.name][lacks], m))
            elif m.name in self.pictures:
                _, rows = self._lacking(m.name, completion)
                cells[self.pictures[m.name].column] = self.pictures[m.name].cells(rows)
        return cells

    def write_bounds(
        self, path: Path, completion: Completion, calibration: Calibration | None
    ) -> None:
        bounds = list(self._bounds(completion, calibration))
        columns: dict[str, Sequence[Any]] = {
            name: [getattr(bound, name) for bound in bounds] for name in Bound._fields
        }
        for name in AS_TEXT:  # cells of several types
            columns[name] = [None if v is None else digits(v) for v in columns[name]]
        write_output(path, table_bytes(columns, path))

    def _bounds(self, completion: Completion, calibration: Calibration | None) -> Iterator[Bound]:
        for m in self.modalities:
            if m.columns and m.name in completion.filled:
                columns = tuple(as_written(self.table, c, self.empty) for c in m.columns)
                here = replace(m, columns=columns)
                yield from bounds_of(here, completion, calibration, self.holes[m.name])


def _same_text(path: Path) -> Sequence[str]:
    """The endings of texts with the same separator, packed or not."""
    end = (ending(path, TEXT) or "").lower().removesuffix(".gz")
    return tuple(e for e in TEXT if e.removesuffix(".gz") == end)


def section_of_run(run: Run, path: Path) -> Mapping[str, Any]:
    """The description by which the data of a run were read.

    Raises ValueError if they were not tables.
    """
    section = {k: v for k, v in run.settings["data"].items() if k in Description.model_fields}
    if not describes(section):
        raise ValueError(
            f"This run was trained on arrays or a named data set, so that {path} cannot be read;"
            " give an .npz file with an array for each modality."
        )
    return section
