"""What the files given to `polymodal init` are: a description of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polymodal.data.description import Description
from polymodal.data.finding import Sections, arrays_in, cells_in, picture_columns
from polymodal.data.finding import pictures_by_column as by_column
from polymodal.data.readers.archives import is_arrays
from polymodal.data.readers.cells import is_cells
from polymodal.data.suggestion import IMAGE, modality_name, suggested
from polymodal.data.tables import is_table, read_table

READ = "tables (.csv, .tsv, .parquet, .feather), .h5ad, .h5mu, .npz and folders of pictures"


@dataclass(frozen=True)
class Given:
    """The files of a user.

    Args:
        root: the folder of the description, in which all others lie.
        main: the main table or file of cells; None: there is none.
        others: further files and folders.
        name: of the description.
    """

    root: Path
    main: Path | None
    others: Sequence[Path]
    name: str


def given(files: Sequence[str]) -> Given:
    """The files by their uses. A folder that comes first may hold the main table.

    Raises ValueError for files that are not read, or lie outside of the folder of the first.
    """
    first, *others = (Path(file).expanduser() for file in files)
    if first.is_dir():
        found = _of_folder(first.resolve(), others)
    elif is_table(first) or is_cells(first) or is_arrays(first):
        found = Given(first.parent, first, others, first.name.partition(".")[0])
    else:
        raise ValueError(f"polymodal init describes {READ}, a table first, got {first}.")
    for path in found.others:
        if not path.resolve().is_relative_to(found.root.resolve()):
            raise ValueError(
                f"{path} must lie in {found.root}, the folder of {first}, or below it."
            )
    return found


def _of_folder(folder: Path, others: Sequence[Path]) -> Given:
    """A folder with one table, or a folder of pictures."""
    tables = [p for p in sorted(folder.iterdir()) if is_table(p) or is_cells(p)]
    if len(tables) > 1:
        raise ValueError(
            f"{folder} holds {len(tables)} tables ({', '.join(p.name for p in tables[:3])}, ...);"
            " give the main one first, then the others and folders of pictures."
        )
    if tables:
        return Given(folder, tables[0], others, tables[0].name.partition(".")[0])
    return Given(folder.parent, None, [folder, *others], folder.name)


def description_of_files(
    files: Given, fields: Mapping[str, Any], groups: Mapping[str, str]
) -> Description:
    """The description of files, all columns of the main table included.

    Args:
        fields: of the description: key, label, empty, encoding; those that are None are left out.
        groups: {modality: columns with commas between}, of the main table.
    """
    section = {"path": str(files.root), **fields}
    if files.main is not None:
        section["file"] = files.main.name
    whole = Description.model_validate({k: v for k, v in section.items() if v is not None})
    folders = [_relative(path, files.root) for path in files.others if path.is_dir()]
    if files.main is not None:
        columns = {name: [c.strip() for c in text.split(",")] for name, text in groups.items()}
        whole = suggested(whole, columns or None, folders=folders or None)
    modalities = dict(whole.modalities)
    for path in files.others:
        for name, found in _sections(path, files, whole).items():
            if modalities.get(name) == found:
                continue
            if name in modalities:
                raise ValueError(f"There are two modalities {name!r}; rename {path}.")
            modalities[name] = found
    return whole.model_copy(update={"modalities": modalities})


def _sections(path: Path, files: Given, whole: Description) -> Sections:
    """The modalities of one further file or folder."""
    file = _relative(path, files.root)
    if path.is_dir():
        return _pictures(file, files, whole)
    if is_cells(path):
        return cells_in(path, file)
    if is_arrays(path):
        return _named(arrays_in(path, file, whole.key))
    if not is_table(path):
        raise ValueError(f"polymodal init describes {READ}, got {path}.")
    read_table(path, encoding=whole.encoding)  # so that what is wrong is said of this file
    return {modality_name(path.name.partition(".")[0]): {"file": file}}


def _pictures(folder: str, files: Given, whole: Description) -> Sections:
    """The pictures of a folder, by a column of the main table, or by key."""
    if files.main is not None and is_table(files.main):
        if columns := picture_columns(whole.place().table(), files.root, [folder]):
            return _named(by_column(columns, IMAGE))
    if files.main is not None and whole.sample_key is None:
        raise ValueError(
            f"No column of {files.main} names the pictures in {folder}; correct the names, or give"
            " the column with the names of the samples (--key COLUMN), after which pictures are"
            " named."
        )
    return {modality_name(Path(folder).name): {"source": "images", "folder": folder}}


def _named(sections: Mapping[str, dict[str, Any]]) -> Sections:
    """Modalities under names that they can have."""
    return {modality_name(name): section for name, section in sections.items()}


def _relative(path: Path, root: Path) -> str:
    return os.path.relpath(path.resolve(), root.resolve())
