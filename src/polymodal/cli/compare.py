"""The words of `polymodal compare` and `polymodal sweep`, and what they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polymodal.cli.console import say, standard_output
from polymodal.cli.options import Data, path
from polymodal.cli.processes import Jobs, Processes, Slurm, Workers, wait_for

if TYPE_CHECKING:
    from polymodal.experiments.trials import Search

RANGE = ".."
Words = Annotated[list[str], typer.Argument(metavar="RECIPE... [key=value]...", show_default=False)]
Space = Annotated[
    list[str], typer.Argument(metavar="key=a,b,c | key=low..high | key=value", show_default=False)
]
Out = Annotated[Path, typer.Option(help="Directory of the runs.", show_default=False, parser=path)]
Seeds = Annotated[int, typer.Option(min=1, max=100, help="How many seeds, from 0 on.")]
Objective = Annotated[
    str | None,
    typer.Option(help="The metric that decides; default: the joint log-likelihood, or coherence."),
]


def compare(
    words: Words,
    out: Out,
    seeds: Seeds = 1,
    objective: Objective = None,
    processes: Processes = 1,
    jobs: Jobs = 0,
    slurm: Slurm = None,
    data: Data = None,
) -> None:
    """Compare recipes on the same data: one table, one report, and the answer in words.

    The same command, given again or by a second process, goes on where others stopped.
    """
    recipes = [word for word in words if "=" not in word]
    if len(recipes) < 2:
        raise ValueError(f"A comparison needs two recipes or more, got {' '.join(recipes)!r}.")
    recipe = {"compare": [_from_anywhere(name) for name in recipes], "seeds": list(range(seeds))}
    changes = [word for word in words if "=" in word]
    _run(recipe, out, changes, data, objective, Workers(processes, jobs, slurm or []))


def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe or a YAML file.", show_default=False)],
    settings: Space,
    out: Out,
    seeds: Seeds = 1,
    trials: Annotated[
        int, typer.Option(min=0, max=10**5, help="Trials of a search by optuna; 0: every value.")
    ] = 0,
    objective: Objective = None,
    processes: Processes = 1,
    jobs: Jobs = 0,
    slurm: Slurm = None,
    data: Data = None,
) -> None:
    """Vary settings of a recipe: every value, or by --trials a search.

    The same command, given again or by a second process, goes on where others stopped.
    """
    space, changes = _space(settings)
    workers = Workers(processes, jobs, slurm or [])
    if not space:
        raise ValueError(
            "A sweep needs a setting with several values, such as method.latent=8,16,32."
        )
    if trials:
        from polymodal.experiments.trials import Search

        if seeds > 1:
            raise ValueError("A search trains each trial with one seed; leave --seeds out.")
        by = objective or "joint_log_likelihood"
        _search(Search(recipe, out, space, trials, by, changes, data), workers)
        return
    if ranges := [name for name, values in space.items() if isinstance(values, tuple)]:
        raise ValueError(f"{ranges[0]} is a range; give --trials, or list values: a,b,c.")
    varied = {"base": _from_anywhere(recipe), "vary": space, "seeds": list(range(seeds))}
    _run(varied, out, changes, data, objective, workers)


def _from_anywhere(recipe: str) -> str:
    """The recipe's name; of a file, its whole path."""
    from polymodal.settings.recipes import is_file

    return str(Path(recipe).resolve()) if is_file(recipe) else recipe


def _run(
    recipe: Mapping[str, Any],
    out: Path,
    changes: Sequence[str],
    data: str | None,
    objective: str | None,
    workers: Workers,
) -> None:
    """Writes the recipe into the directory, and trains it, here or in SLURM jobs."""
    from polymodal.checks.yaml_text import write as write_yaml
    from polymodal.cli.train import train_plan
    from polymodal.experiments.plan import make_plan
    from polymodal.runs.files import write_output

    file, text = out / "recipe.yaml", write_yaml(recipe)
    if file.exists() and file.read_text(errors="replace") != text:
        raise ValueError(
            f"{out} has another comparison; give another --out, or the words with which it began."
        )
    is_new = not file.exists()
    write_output(file, text.encode())
    try:
        plan = make_plan(str(file), out, changes, data)
        if workers.submitted(out):
            return
    except ValueError:
        if is_new:  # nothing begins: the words may be corrected
            file.unlink()
        raise
    others = workers.start_others()
    train_plan(plan, out, standard_output(), objective)
    wait_for(others)


def _search(given: Search, workers: Workers) -> None:
    """Searches, and prints the trials, the best one first."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ValueError(
            'A search needs optuna: pip install "polymodal[sweep]"; lists need no --trials.'
        ) from None
    from polymodal.experiments.trials import search, summary
    from polymodal.runs.files import write_output

    if workers.submitted(given.out):
        return
    others, console = workers.start_others(), standard_output()
    study = search(given, lambda line: say(console, line))
    wait_for(others)
    text = summary(study)
    write_output(given.out / "trials.md", text.encode())
    say(console, text)


def _space(settings: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings with several values or a range, by name, and the other words.

    >>> _space(["method.latent=4,8", "training.lr=1e-4..1e-2", "training.epochs=3"])
    ({'method.latent': [4, 8], 'training.lr': (0.0001, 0.01)}, ['training.epochs=3'])
    """
    from polymodal.checks.yaml_text import read

    space: dict[str, Any] = {}
    changes = []
    for word in settings:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"A setting is written key=a,b,c or key=value, got {word!r}.")
        values = read(f"[{text}]", name) if _is_list(text) else None
        if RANGE in text and not text.startswith(("[", "{")):
            space[name] = _range(name, text)
        elif isinstance(values, list) and len(values) > 1:
            space[name] = values
        else:
            changes.append(word)
    return space, changes


def _is_list(text: str) -> bool:
    """Whether there is a comma outside of brackets."""
    depth = 0
    for letter in text:
        depth += letter in "[{"
        depth -= letter in "]}"
        if letter == "," and depth == 0:
            return True
    return False


def _range(name: str, text: str) -> tuple[float, float]:
    """The ends of a range, whole numbers if both are. Raises ValueError for another form."""
    from polymodal.checks.yaml_text import read

    ends = [read(end, name) for end in text.split(RANGE)]
    plain = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends)
    if len(ends) != 2 or not plain or not ends[0] < ends[1]:
        raise ValueError(f"A range is written {name}=low{RANGE}high with low < high, got {text!r}.")
    return ends[0], ends[1]
