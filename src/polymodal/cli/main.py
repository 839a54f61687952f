"""The command `polymodal`: the words of every command. The modules that do the work are imported
when a command runs.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from polymodal.cli.app import app as app_
from polymodal.cli.catalog import KINDS
from polymodal.cli.compare import compare, sweep
from polymodal.cli.console import say, standard_output
from polymodal.cli.new_rows import encode, impute
from polymodal.cli.options import SEEDS, Data, Limit, OneRun, Runs, Sampler, path, place

# typer carries its own click, or uses the installed one, by version; the base of its errors is the
# same in both.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130
USER_ERROR = 2  # exit status
LISTS = ", ".join(KINDS)

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
        typer.Argument(help=f"{LISTS}; default: all of them."),
    ] = None,
) -> None:
    """List names that recipes and commands know, one line for each."""
    from polymodal.cli.about import print_list

    print_list(kind, standard_output())


@app.command(epilog="Example: polymodal show mnist-svhn-jnf-dcca")
def show(
    recipe: Annotated[
        str, typer.Argument(help="A built-in recipe or a YAML file.", show_default=False)
    ],
    data: Data = None,
) -> None:
    """Show a recipe with every setting filled in, and what its method does."""
    from polymodal.cli.about import print_recipe

    print_recipe(recipe, data, standard_output())


@app.command(epilog="Example: polymodal init people.csv --key id --modalities blood=iron,zinc")
def init(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Tables (.csv, ...), cells (.h5mu), folders of pictures; the main one first.",
            show_default=False,
            parser=place,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The description; default: DATA's name with .yaml.", parser=path),
    ] = None,
    key: Annotated[str | None, typer.Option(help="The column that names the samples.")] = None,
    label: Annotated[str | None, typer.Option(help="The column of labels, for metrics.")] = None,
    modalities: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=COL,COL", help="Columns of one modality. Repeatable."),
    ] = None,
    empty: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Stands for an empty cell, such as -999. Repeatable."),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of tables of text, such as latin-1; default: UTF-8.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an older one.")] = False,
) -> None:
    """Describe your own files: guess modalities and types, recommend a method, write a recipe."""
    from polymodal.cli.init import init_description

    groups = pairs(modalities, "--modalities", "NAME=COL,COL")
    fields = {"key": key, "label": label, "empty": empty, "encoding": encoding}
    init_description(data, out, fields, groups, force, standard_output())


@app.command(epilog="Example: polymodal inspect people.yaml --out look")
def inspect(
    data: Annotated[
        str,
        typer.Argument(
            help="A table, a description (.yaml), an .npz file or the name of a data set.",
            show_default=False,
            parser=place,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for missing.png and inspect.json.", parser=path),
    ] = None,
) -> None:
    """Show what is understood of data: types, ranges, missing values, what looks suspicious."""
    from polymodal.cli.inspect import inspect_data

    inspect_data(data, out, standard_output())


@app.command(epilog="Example: polymodal doctor --data ~/data")
def doctor(data: Data = None) -> None:
    """Check this machine: versions, devices, extras, data sets, disk, permissions."""
    from polymodal.cli.about import print_findings

    print_findings(data, standard_output())


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
    out: Annotated[
        Path | None, typer.Option(help="Run directory; default runs/RECIPE.", parser=path)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, order and noise.", **SEEDS)
    ] = None,
    reuse: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=RUN", help="Take a stage from another run.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be trained, and stop.")
    ] = False,
) -> None:
    """Train a recipe; a comparison is trained, evaluated and reported.

    In the directory of an unfinished run, training resumes where it stopped.
    """
    from polymodal.cli.train import print_plan, train_plan
    from polymodal.experiments.plan import make_plan

    overrides = [*(settings or ()), *(() if device is None else [f"training.device={device}"])]
    directory = out or _default_directory(recipe, seed)
    sources = {s: Path(r) for s, r in pairs(reuse, "--reuse", "STAGE=RUN").items()}
    plan = make_plan(recipe, directory, overrides, data, seed, sources)
    if dry_run:
        print_plan(plan, standard_output())
    else:
        train_plan(plan, directory, standard_output())


def _default_directory(recipe: str, seed: int | None) -> Path:
    suffix = f"-seed{seed}" if seed else ""
    return Path("runs") / f"{Path(recipe).stem}{suffix}"


@app.command(epilog="Example: polymodal evaluate runs/first --metrics coherence --limit 500")
def evaluate(
    runs: Runs,
    metrics: Annotated[
        str | None,
        typer.Option(help="Names with commas between, imputation among them; default: all."),
    ] = None,
    subsets: Annotated[
        str | None, typer.Option(help="What is given: all, or such as mnist,mnist+svhn.")
    ] = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NETWORK",
            help="Network that classifies a modality: compact or senellart-cnn. Repeatable.",
        ),
    ] = None,
    sampler: Sampler = None,
    limit: Limit = None,
    data: Data = None,
) -> None:
    """Measure runs on their test data, write metrics.json into each, and print one table."""
    from polymodal.cli.train import evaluate_runs

    options = {
        "metrics": None if metrics is None else _words(metrics),
        "subsets": subsets if subsets in (None, "all") else _words(subsets),
        "limit": limit,
        "classifiers": pairs(classifier, "--classifier", "NAME=NETWORK") or None,
    }
    given = {name: value for name, value in options.items() if value is not None}
    evaluate_runs(runs, given, sampler, data, standard_output())


def _words(text: str) -> list[str]:
    """The words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


@app.command(
    epilog=(
        "Example: polymodal generate runs/first --given square=mine.png --want circle --out"
        " pictures"
    )
)
def generate(
    run: OneRun,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for generated.npz and the pictures.", show_default=False, parser=path
        ),
    ],
    given: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help=".npy, .npz, .png, .txt; a text; or entries: attributes=Smiling,-Male.",
        ),
    ] = None,
    want: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Repeatable; default: all not given.")
    ] = None,
    n: Annotated[
        int, typer.Option("--n", min=1, max=10**9, help="Draws for each given sample.")
    ] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the noise.", **SEEDS)] = 0,
    sampler: Sampler = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=CATEGORY",
            help="The batch (batch_key) as one of which cells are decoded; default: average.",
        ),
    ] = None,
) -> None:
    """Generate any modalities from any subset of them; from none: joint samples."""
    from polymodal.cli.generate import Request, generate_files

    values = pairs(given, "--given", "NAME=FILE")
    covariates = pairs(batch, "--batch", "NAME=CATEGORY")
    request = Request(values, want or [], n, seed, sampler, covariates)
    generate_files(run, request, out, standard_output())


@app.command(epilog="Example: polymodal report runs/jnf runs/jnf-dcca --out report.html")
def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="The page to write.", parser=path)] = Path(
        "report.html"
    ),
    data: Data = None,
) -> None:
    """Write one self-contained HTML page on runs; several runs are compared."""
    from polymodal.report.page import write_report

    say(standard_output(), f"Wrote {write_report(runs, out, data=data)}.")


app.command("app", epilog="Example: polymodal app runs/first --port 7860")(app_)
app.command(epilog="Example: polymodal compare shapes-jnf shapes-jmvae --seeds 3 --out runs/two")(
    compare
)
app.command(epilog="Example: polymodal sweep shapes-jnf method.latent=2,4,8 --out runs/latents")(
    sweep
)
app.command(epilog="Example: polymodal impute runs/first people.csv --out filled.csv --draws 20")(
    impute
)
app.command(epilog="Example: polymodal encode runs/first people.csv --out latents.csv")(encode)


def pairs(given: Sequence[str] | None, option: str, form: str) -> dict[str, str]:
    """The names and values of a repeated option NAME=VALUE.

    Raises ValueError for another form, and for a name that comes twice.
    """
    values: dict[str, str] = {}
    for text in given or ():
        name, _, value = text.partition("=")
        if not name or not value:
            raise ValueError(f"{option} is written {form}, got {text!r}.")
        if name in values:
            raise ValueError(f"{option} names {name!r} twice; give it once.")
        values[name] = value
    return values


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, 2 for a user's error, 130 when
    interrupted.

    A user's error is one sentence on standard error.
    """
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        status = app(given, prog_name="polymodal", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except (UsageError, OSError, ValueError, MemoryError, RuntimeError) as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        return _fail(sentence, USER_ERROR)
    if status == INTERRUPTED:  # also typer's own answer to Ctrl-C
        return _fail(
            "Interrupted; no file is half-written. Run the same command again; train resumes.",
            INTERRUPTED,
        )
    return status if isinstance(status, int) else 0


def _sentence(error: Any) -> str | None:
    """The sentence that tells the user of an error; None for a defect."""
    if isinstance(error, UsageError):
        return _usage(error)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{(error.strerror or str(error)).lower()}."
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, MemoryError) or "memory" in str(error):
        return "There is not enough memory; lower --limit, --n or evaluation.batch."
    return None


def _usage(error: Any) -> str:
    """typer's sentence, and where help is."""
    path = error.ctx.command_path if error.ctx is not None else "polymodal"
    message = error.format_message().rstrip(".")
    return f"{message}{'' if message.endswith('?') else '.'} See {path} --help."


def _fail(sentence: str, status: int) -> int:
    print(" ".join(sentence.split()), file=sys.stderr)
    return status


def main() -> None:
    """Entry point of the command `polymodal`. To be asked to end is to be interrupted, also by a
    terminal that closes, except under nohup.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    closing = getattr(signal, "SIGHUP", None)  # not on Windows
    if closing and signal.getsignal(closing) != signal.SIG_IGN:
        signal.signal(closing, signal.default_int_handler)
    sys.exit(run())
