"""Files in a folder, named by the cells of a column."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from polymodal.checks import shown

Accepts = Callable[[Path], bool]


def named_files(
    words: Sequence[str | None], column: str, folder: Path, accepts: Accepts, what: str
) -> list[Path | None]:
    """The files that words name, with or without their endings; None where there is none.

    Args:
        column: the words' name, for sentences.
        accepts: whether a file is of the kind that is looked for, by its name.
        what: that kind, such as "pictures".

    Raises ValueError for a name that leads out of the folder, and one that two files have.
    """
    by_stem: dict[str, list[Path]] | None = None
    files: list[Path | None] = []
    for word in words:
        if word is None:
            files.append(None)
            continue
        if Path(word).is_absolute() or ".." in Path(word).parts:
            raise ValueError(
                f"The column {column!r} must name {what} in {folder}, got {shown(word)}, which"
                " leads out of it; write names relative to the folder."
            )
        file: Path | None = folder / word
        if not os.path.isfile(folder / word):  # also of names that no file can have
            by_stem = files_by_stem(folder, accepts) if by_stem is None else by_stem
            file = _only(by_stem.get(word, []), column)
        files.append(file)
    return files


def files_by_stem(folder: Path, accepts: Accepts) -> dict[str, list[Path]]:
    """The files that lie in a folder, by their names without endings."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if accepts(path) and path.is_file():
            found.setdefault(path.stem, []).append(path)
    return found


def _only(files: Sequence[Path], column: str) -> Path | None:
    """The file of a name without its ending. Raises ValueError if there are two."""
    if len(files) > 1:
        raise ValueError(
            f"The column {column!r} says {shown(files[0].stem)}, and there are {files[0]} and"
            f" {files[1]}; write the endings into the column, or remove one of them."
        )
    return files[0] if files else None
