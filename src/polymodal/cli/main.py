"""The command `polymodal`: every command's words; what they do stands in the modules that they
import when they run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

# typer carries its own click, or uses the installed one, by version; the base of its errors is the
# same in both.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Multimodal generative autoencoders: generate any modality from any subset of the others,"
        " and know how far to trust it."
    ),
    epilog="Begin with: polymodal train shapes --out demo",
)

Runs = Annotated[list[Path], typer.Argument(help="Run directories.", show_default=False)]
OneRun = Annotated[Path, typer.Argument(help="A run directory.", show_default=False)]
Data = Annotated[
    str | None, typer.Option(help="Folder of the named data sets, or your own .npz file.")
]
Sampler = Annotated[
    str | None,
    typer.Option(help="How subsets of two and more are drawn: hmc, mala, smc, importance."),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use the first N test samples alone.")]


def _out() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


def _version(wanted: bool) -> None:
    if wanted:
        from polymodal import __version__

        typer.echo(f"polymodal {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")
    ] = False,
) -> None: ...


@app.command("list", epilog="Example: polymodal list recipes")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(help="methods, datasets, recipes, metrics, networks, samplers, poolings."),
    ] = None,
) -> None:
    """Show what there is: methods, datasets, recipes, metrics, networks, samplers, poolings."""
    from polymodal.cli.about import print_list

    print_list(kind, _out())


@app.command(epilog="Example: polymodal show mnist-svhn-jnf-dcca")
def show(
    recipe: Annotated[
        str, typer.Argument(help="A built-in recipe or a YAML file.", show_default=False)
    ],
) -> None:
    """Show a recipe with every setting filled in, and what its method does."""
    from polymodal.cli.about import print_recipe

    print_recipe(recipe, _out())


@app.command(epilog="Example: polymodal doctor --data ~/data")
def doctor(data: Data = None) -> None:
    """Check this machine: versions, devices, extras, data sets, disk, permissions."""
    from polymodal.cli.about import print_findings

    print_findings(data, _out())


@app.command(
    epilog="Example: polymodal train shapes-jnf training.epochs=3 --out runs/first --seed 1"
)
def train(
    recipe: Annotated[
        str, typer.Argument(help="A built-in recipe or a YAML file.", show_default=False)
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="Changes to the recipe.")
    ] = None,
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; default runs/RECIPE.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and noise.")] = None,
    reuse: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=RUN", help="Take a stage from another run.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be trained, and stop.")
    ] = False,
) -> None:
    """Train a recipe; a comparison is trained, evaluated and reported.

    On a run directory that is not finished, training goes on where it stopped.
    """
    from polymodal.cli.train import train_recipe

    overrides = [*(settings or ()), *([f"training.device={device}"] if device else ())]
    target = out or Path("runs") / (Path(recipe).stem + (f"-seed{seed}" if seed else ""))
    train_recipe(
        recipe, overrides, data, target, seed, pairs(reuse, "--reuse", "STAGE=RUN"), dry_run, _out()
    )


@app.command(epilog="Example: polymodal evaluate runs/first --metrics coherence --limit 500")
def evaluate(
    runs: Runs,
    metrics: Annotated[
        str | None, typer.Option(help="Names with commas between; default: all that apply.")
    ] = None,
    subsets: Annotated[
        str, typer.Option(help="What is given: all subsets, or such as mnist,mnist+svhn.")
    ] = "all",
    sampler: Sampler = None,
    limit: Limit = None,
    data: Data = None,
) -> None:
    """Measure runs on their test data, write metrics.json into each, and print one table."""
    from polymodal.cli.train import evaluate_runs

    names = None if metrics is None else [m.strip() for m in metrics.split(",") if m.strip()]
    wanted: Any = "all" if subsets == "all" else subsets.split(",")
    evaluate_runs(runs, names, wanted, sampler, limit, data, _out())


@app.command(
    epilog=(
        "Example: polymodal generate runs/first --given square=mine.png --want circle --out"
        " pictures"
    )
)
def generate(
    run: OneRun,
    out: Annotated[
        Path, typer.Option(help="Folder for generated.npz and the pictures.", show_default=False)
    ],
    given: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE", help=".npy, .npz, .png; repeatable.")
    ] = None,
    want: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Repeatable; default: all not given.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Draws for each given sample.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    sampler: Sampler = None,
) -> None:
    """Generate any modalities from any subset of them; from none: joint samples."""
    from polymodal.cli.generate import generate_files

    files = {name: Path(file) for name, file in pairs(given, "--given", "NAME=FILE").items()}
    generate_files(run, files, want or [], n, seed, sampler, out, _out())


@app.command(epilog="Example: polymodal report runs/jnf runs/jnf-dcca --out report.html")
def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    data: Data = None,
) -> None:
    """Write one self-contained HTML page on runs; several runs are compared."""
    from polymodal.report.page import write_report

    _out().print(f"Wrote {write_report(runs, out, data=data)}.", highlight=False, soft_wrap=True)


def pairs(given: Sequence[str] | None, option: str, form: str) -> dict[str, str]:
    """What a repeated option NAME=VALUE says. Raises ValueError if it is written otherwise, or
    twice for one name.
    """
    found: dict[str, str] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not (equals and name and value):
            raise ValueError(f"{option} is written {form}, got {one!r}.")
        if name in found:
            raise ValueError(f"{option} names {name!r} twice; give it once.")
        found[name] = value
    return found


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, 2 for a user's error, 130 when
    interrupted.

    A user's error is one sentence on standard error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        status = app(given, prog_name="polymodal", standalone_mode=False)
        if status == INTERRUPTED:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
        return status if isinstance(status, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _say(
            "Interrupted; nothing is half-written, and the same command goes on from there.",
            INTERRUPTED,
        )
    except UsageError as error:
        return _say(_sentence(error), 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _say(f"{where}{(error.strerror or str(error)).lower()}.", 2)
    except ValueError as error:
        return _say(str(error), 2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        return _say("There is not enough memory; lower training.batch, data.limit or --limit.", 2)


def _say(sentence: str, status: int) -> int:
    print(" ".join(sentence.split()), file=sys.stderr)
    return status


def _sentence(error: Any) -> str:
    """What typer says, and where help is."""
    path = error.ctx.command_path if error.ctx is not None else "polymodal"
    message = error.format_message().rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} See {path} --help."


def main() -> None:
    """Entry point of the command `polymodal`."""
    sys.exit(run())
