"""`polymodal app`: a run in the browser."""

from __future__ import annotations

from typing import Annotated

import typer

from polymodal.cli.console import say, standard_output
from polymodal.cli.options import Data, OneRun


def app(
    run: OneRun,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Default: the first free one from 7860."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0: other machines reach it too.")
    ] = "127.0.0.1",
    data: Data = None,
) -> None:
    """Ask a run in the browser: give pictures, texts or cells, and see draws of all the rest."""
    from polymodal.app.server import check_installed, serve
    from polymodal.app.service import Service

    check_installed()
    service, console = Service.open(run, data), standard_output()
    if service.missing:
        say(console, service.missing)
    try:
        serve(service, host, port, lambda at: say(console, f"{run} is at {at} ; Ctrl-C ends it."))
    except KeyboardInterrupt:
        say(console, "The app has ended.")
