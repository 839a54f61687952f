"""The terminal: a user's words are printed as they are, never as markup."""

from __future__ import annotations

import sys

from rich.console import Console


def standard_output() -> Console:
    """Standard output; wide enough for tables where it is no terminal."""
    width = None if sys.stdout.isatty() else 140
    return Console(width=width, markup=False, highlight=False, emoji=False)


def say(console: Console, text: str, end: str = "\n") -> None:
    """Prints text without breaking its lines; halves of characters, which paths may have, as
    escapes.
    """
    console.print(text.encode(errors="backslashreplace").decode(), soft_wrap=True, end=end)
