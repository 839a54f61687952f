"""Names of settings: the nearest one where a name is misspelt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

UNKNOWN = "There is no setting "


def suggest(word: Any, names: Iterable[str], path: str = "") -> str:
    """The question "Did you mean ...?" with the nearest of `names`, after a space; nothing if none
    is near.
    """
    near = get_close_matches(str(word), [str(n) for n in names], 1, 0.5)
    return f" Did you mean {path}{near[0]}?" if near else ""


def meant(word: Any, names: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest of `names`, or all of them."""
    names = list(names)
    near = get_close_matches(str(word), names, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."


def find(name: str, table: Iterable[str], what: str) -> str:
    """The key of `table` that `name` means ("jnf-dcca" is "jnf_dcca"). Raises ValueError with the
    nearest.
    """
    names = list(table)
    for key in names:
        if _bare(key) == _bare(name):
            return key
    near = suggest(name, names) or f" There are: {', '.join(sorted(names))}."
    raise ValueError(f"There is no {what} {name!r}.{near}")


def check_names(given: Iterable[str], names: Sequence[str], path: str) -> None:
    """Raises ValueError for a setting under `path` that is none of `names`, with the nearest."""
    for key in given:
        if key not in names:
            near = suggest(key, names, below(path, ""))
            raise ValueError(f"{UNKNOWN}{below(path, key)}.{near}")


def below(path: str, name: str) -> str:
    """The path of the setting `name` of a group at `path`."""
    return f"{path}.{name}" if path else str(name)


def _bare(word: str) -> str:
    return str(word).replace("-", "_").lower()
