"""`Description`: which column or folder of a user's files is which modality, label and part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from polymodal.checks import FileName, FilePath, Group, Seed, Share, shown, typed
from polymodal.checks.yaml_text import read_file
from polymodal.data.readers.cells import NAMES, is_cells
from polymodal.data.sources import Place, Source, source_of
from polymodal.data.tables import UserTable, is_table

YAML = (".yaml", ".yml")
SHARED = ("name", "limit", "seed", "missing", "memory")  # settings of any data
OWN = ("file", "modalities")  # a section `data` with one of these is a description


class Split(Group):
    """How samples are split at random.

    Args:
        val, test: shares of the samples.
        seed: of the split; null: that of the data.
        by: a column of the main table, whose equal values stay in one part.
    """

    val: Share = 0.1
    test: Share = 0.1
    seed: Seed | None = None
    by: str | None = None


class Description(Group):
    """The data of a user.

    Args:
        file: the main table, in which label, split and modalities without a file are looked up; of
            a file of cells (.h5ad, .h5mu), the table of its cells, obs.
        key: the column that names the samples, by which several files are joined; null: by row, of
            a file of cells by their names.
        label: the column of labels.
        split: the column that says train, val or test; or shares for a random split.
        empty: words that stand for an empty cell, beside the usual ones.
        separator, encoding: of tables of text; null: found, and UTF-8.
        modalities: {name: {source: ..., fields of that source}}; none: all columns of the main
            table are one modality, `table`.
        path: the folder of all files.
    """

    file: FileName | None = None
    key: str | None = None
    label: str | None = None
    split: str | Split = Split()
    empty: list[str] = []
    separator: str | None = None
    encoding: str | None = None
    modalities: dict[str, dict[str, Any]] = {}
    path: FileName | None = None

    @property
    def sources(self) -> dict[str, tuple[Source, Any]]:
        """The source of each modality, and what the description says of it."""
        sections = self.modalities or {"table": {}}
        return {name: source_of(name, section) for name, section in sections.items()}

    @property
    def batch_keys(self) -> dict[str, str]:
        """{modality: the column of its covariate}."""
        keys = {m: getattr(entry, "batch_key", None) for m, (_, entry) in self.sources.items()}
        return {m: key for m, key in keys.items() if key is not None}

    @property
    def sample_key(self) -> str | None:
        """The column of keys; of a file of cells, their names."""
        return NAMES if self.key is None and is_cells(self.file or "") else self.key

    def place(self, tables: dict[Path, UserTable] | None = None) -> Place:
        """Where the files lie.

        Args:
            tables: those that have been read, by path.
        """
        taken: dict[str, list[str]] = {}
        by = self.split if isinstance(self.split, str) else self.split.by
        taken[self.file or ""] = [c for c in (self.sample_key, self.label, by) if c is not None]
        for source, entry in self.sources.values():
            file = getattr(entry, "file", None) or self.file or ""
            taken.setdefault(file, []).extend(source.taken(entry))
        taken[self.file or ""] += self.batch_keys.values()
        return Place(
            folder=Path(self.path or ".").expanduser(),
            file=self.file,
            key=self.sample_key,
            empty=self.empty,
            separator=self.separator,
            encoding=self.encoding,
            taken=taken,
            tables={} if tables is None else tables,
        )


def describes(section: Mapping[str, Any]) -> bool:
    """Whether a section `data` describes files of the user.

    >>> describes({"file": "people.csv"}), describes({"name": "shapes"})
    (True, False)
    """
    return any(section.get(key) for key in OWN)


def is_description(path: FilePath) -> bool:
    """Whether a file is a description, by its name."""
    return str(path).lower().endswith(YAML)


def is_own(path: FilePath) -> bool:
    """Whether a file is a description, a table or one of cells, by its name."""
    return is_description(path) or is_table(path) or is_cells(path)


def described_in(recipe: Mapping[str, Any], file: FilePath) -> dict[str, Any] | None:
    """The section `data` of a recipe, with the folder of the file that it stands in; None if it
    describes no files.

    Raises ValueError if it names a folder, since its paths are relative to that file.
    """
    section = recipe.get("data")
    if not isinstance(section, Mapping) or not describes(section):
        return None
    if section.get("path") is not None:
        raise ValueError(
            f"data.path of {file} must be left out, got {shown(section['path'])}: its files lie"
            " beside it, or in the folder of the command line (--data FOLDER)."
        )
    return {**section, "path": str(Path(file).expanduser().parent)}


def read_section(file: FilePath) -> dict[str, Any]:
    """The section `data` of a description, with its folder.

    Raises ValueError for a file that cannot be read or describes no files.
    """
    path = Path(file).expanduser()
    section = described_in(read_file(path, f"The description {str(file)!r}"), path)
    if section is None:
        raise ValueError(
            f"{file} describes no files; write data: {{file: TABLE}}, or let polymodal init TABLE"
            " write it."
        )
    return section


def section_of(path: FilePath) -> dict[str, Any]:
    """The section `data` that stands for a file: that of a description, or of a table alone."""
    if is_description(path):
        return read_section(path)
    file = Path(path).expanduser()
    return {"file": file.name, "path": str(file.parent)}


def description_of(section: Mapping[str, Any]) -> Description:
    """A section `data`, checked, without the arguments of `load_data` that it may have. Raises
    ValueError for an unknown field, source or value.
    """
    fields = {k: v for k, v in section.items() if v is not None and k not in SHARED}
    description = typed(Description, fields, "data")
    _ = description.sources
    return description
