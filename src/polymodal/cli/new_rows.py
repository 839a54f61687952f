"""The words of `polymodal impute` and `polymodal encode`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from polymodal.cli.console import standard_output
from polymodal.cli.options import SEEDS, Data, OneRun, path

NewRows = Annotated[
    Path,
    typer.Argument(
        help="Rows, in a table (.csv, .parquet, ...), .h5ad, .h5mu or .npz file.",
        show_default=False,
        parser=path,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of the noise.", **SEEDS)]


def impute(
    run: OneRun,
    input: NewRows,
    out: Annotated[
        Path,
        typer.Option(
            help="The completed file, of the input's format.", show_default=False, parser=path
        ),
    ],
    draws: Annotated[
        int,
        typer.Option(min=0, max=1000, help="Completed copies, OUT.1 ...; 0: none."),
    ] = 0,
    intervals: Annotated[
        float,
        typer.Option(
            min=0, max=0.999, help="Probability of the intervals in OUT.intervals; 0: none."
        ),
    ] = 0.9,
    proposals: Annotated[
        int, typer.Option(min=1, max=10**6, help="Latents drawn for each row.")
    ] = 1000,
    seed: Seed = 0,
    data: Data = None,
) -> None:
    """Fill in what rows lack: the same file without holes, intervals, and completed copies."""
    from polymodal.cli.impute import Options, impute_file

    options = Options(draws, intervals, proposals, seed, data)
    impute_file(run, input, out, options, standard_output())


def encode(
    run: OneRun,
    input: NewRows,
    out: Annotated[
        Path,
        typer.Option(
            help="A table (.csv, .parquet, ...), .npz, or as INPUT .h5ad, .h5mu.",
            show_default=False,
            parser=path,
        ),
    ],
    seed: Seed = 0,
) -> None:
    """Write the latent means of rows, whatever they lack."""
    from polymodal.cli.impute import encode_file

    encode_file(run, input, out, seed, standard_output())
