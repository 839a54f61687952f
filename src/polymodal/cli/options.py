"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymodal.cli.catalog import names


def place(text: str) -> str:
    """The name of a file or a folder, as a user writes it."""
    if not text:
        raise typer.BadParameter("it must name a file or a folder, got ''.")
    return text


def path(text: str) -> Path:
    """The path of that name."""
    return Path(place(text))


Runs = Annotated[
    list[Path], typer.Argument(help="Run directories.", show_default=False, parser=path)
]
OneRun = Annotated[Path, typer.Argument(help="A run directory.", show_default=False, parser=path)]
Data = Annotated[
    str | None,
    typer.Option(
        help="Your own table, description (.yaml) or .npz file; or the folder of the data's files.",
        parser=place,
    ),
]
Sampler = Annotated[
    str | None,
    typer.Option(help=f"The sampler that draws subsets: {', '.join(names('samplers'))}."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, max=10**9, help="Use only the first N test samples.")
]
SEEDS = {"min": 0, "max": 2**32 - 1}
