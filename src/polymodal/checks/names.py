"""Names of settings: the nearest one where a name is misspelt."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from reprlib import Repr
from typing import Any

UNKNOWN = "There is no setting "
LISTED = 40  # names that a sentence lists

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80


def shown(value: Any) -> str:
    """A value in a sentence: its representation, shortened where it is long.

    >>> shown([3] * 100), shown("a")
    ('[3, 3, 3, 3, 3, 3, ...]', "'a'")
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    try:
        text = " ".join(_SHORT.repr(value).split())
        return f"a {type(value).__name__}" if text.startswith("<") else text
    except ValueError:  # Python does not write numbers of many thousands of digits
        return "a number of thousands of digits"


def suggest(word: Any, names: Iterable[Any], path: str = "") -> str:
    """The question "Did you mean ...?" with the nearest of `names`, after a space; nothing if none
    is near.
    """
    near = get_close_matches(str(word), [str(n) for n in names], 1, 0.5)
    return f" Did you mean {path}{near[0]}?" if near else ""


def unknown(what: str, word: Any, names: Iterable[Any], path: str = "") -> ValueError:
    """The error about a word that is none of `names`, with the nearest of them, or else all.

    Args:
        what: the noun and the word, such as "method 'jnff'".
        path: stands before the nearest name.

    >>> unknown("method 'jnff'", "jnff", ["jnf", "sbm"])
    ValueError("There is no method 'jnff'. Did you mean jnf?")
    """
    listed = [str(name) for name in names]
    dots = ", ..." if len(listed) > LISTED else ""
    others = f" There are: {', '.join(listed[:LISTED])}{dots}." if listed else ""
    return ValueError(f"There is no {what}.{suggest(word, listed, path) or others}")


def find(name: Any, table: Iterable[str], what: str) -> str:
    """The key of `table` that `name` means ("jnf-dcca" is "jnf_dcca"). Raises ValueError with the
    nearest.
    """
    names = list(table)
    for key in names:
        if key == name or _bare(key) == _bare(name):
            return key
    raise unknown(f"{what} {shown(name)}", name, names)


def check_name(name: Any, names: Iterable[str], what: str, of: str = "") -> None:
    """Raises ValueError for a word that is none of `names`, with the nearest.

    Args:
        what: the noun of the word.
        of: follows the word in the sentence, after a space.
    """
    if name not in list(names):  # a list: what cannot be hashed is no name either
        raise unknown(f"{what} {shown(name)}{of}", name, names)


def check_names(given: Iterable[Any], names: Iterable[str], path: str) -> None:
    """Raises ValueError for a setting under `path` that is none of `names`, with the nearest."""
    names = list(names)
    for key in given:
        if key not in names:
            raise unknown(f"setting {below(path, key)}", key, names, below(path, ""))


def below(path: str, name: Any) -> str:
    """The path of the setting `name` of a group at `path`."""
    word = str(name) if str(name).isprintable() and len(str(name)) <= 80 else shown(str(name))
    return f"{path}.{word}" if path else word


def _bare(word: Any) -> str:
    return str(word).replace("-", "_").lower()
