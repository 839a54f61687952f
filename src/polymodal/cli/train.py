"""`polymodal train` and `evaluate`: training and measuring, and what the terminal shows of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polymodal.checks.yaml_text import write as write_yaml
from polymodal.cli.console import say as console_say
from polymodal.data import Splits
from polymodal.experiments.plan import Plan, Planned
from polymodal.experiments.work import Outcome, is_first_process, train
from polymodal.runs.files import check_output, write_output
from polymodal.runs.run import Run, load
from polymodal.settings.resolve import to_dict

WRITTEN = ("table.md", "table.tex", "table.csv", "report.html")  # by a comparison
FILLING = "imputation"  # among the names of metrics

# The imports inside functions need matplotlib or pandas, a dry run does not.


# Training.


def train_plan(plan: Plan, out: Path, console: Console, objective: str | None = None) -> None:
    """Trains the runs of a plan; a comparison is then evaluated and reported.

    Args:
        objective: the metric by which the runs of a comparison are ranked in words; None: the
            first of `polymodal.report.answer.USUAL` that was measured.

    Raises ValueError, after all that can be done is done, if runs of a comparison failed.
    """
    say = partial(console_say, console)
    for note in plan.notes if is_first_process() else ():
        say(note)
    if not plan.compares:
        train(plan)
        if is_first_process():
            say(f"Wrote the run into {out}. Next: polymodal evaluate {out}; polymodal report {out}")
        return
    for name in WRITTEN:
        check_output(out / name)
    alone = is_first_process() and int(os.environ.get("WORLD_SIZE", "1")) == 1
    after = partial(_evaluate_once, plan=plan, console=console) if alone else None
    outcome = train(plan, say if is_first_process() else None, after)
    if is_first_process():
        _conclude(plan, outcome, out, console, objective)


def _conclude(
    plan: Plan, outcome: Outcome, out: Path, console: Console, objective: str | None
) -> None:
    """Evaluates the runs of a comparison, prints one table and writes one report.

    Raises ValueError that names the runs that failed.
    """
    from polymodal.report.answer import answer
    from polymodal.report.page import write_report
    from polymodal.report.tables import results, terminal_table
    from polymodal.report.written import latex, markdown

    say = partial(console_say, console)
    planned = [each for each in plan.runs if each.directory in outcome.runs]
    runs, labels = list(outcome.runs.values()), [each.label for each in planned]
    for each, run in zip(planned, runs, strict=True):
        _evaluate_once(each, run, plan, console)
    if (table := results(runs, labels)) is not None:
        console.print(terminal_table(table))
        words = answer(table, objective)
        for name, text in zip(WRITTEN, (markdown(table, words), latex(table)), strict=False):
            write_output(out / name, text.encode())
        write_output(out / "table.csv", table.frame.to_csv(index=False).encode())
        say(words)
    if runs:
        write_report(runs, out / "report.html", data=plan.data, labels=labels)
        say(f"Wrote {len(runs)} runs, {', '.join(WRITTEN[:-1])} and {WRITTEN[-1]} into {out}.")
    if outcome.failures:
        reasons = "; ".join(f"{path.name}: {why}" for path, why in outcome.failures.items())
        raise ValueError(
            f"{len(outcome.failures)} of {len(plan.runs)} runs failed, {reasons.rstrip('.')}. The"
            " same command tries them again and keeps the others."
        )


def _evaluate_once(planned: Planned, run: Run, plan: Plan, console: Console) -> None:
    """Evaluates a run of a comparison, unless it was evaluated with the same settings."""
    asked = plan.settings.evaluation.model_dump()
    if run.metrics.get("asked") == asked:
        return
    _measure(run, plan.data, asked, planned.directory.name, console)
    run.save_metrics({**run.metrics, "asked": asked})


# Evaluating.


def evaluate_runs(
    runs: Sequence[Path],
    options: Mapping[str, Any],
    sampler: str | None,
    data: str | None,
    console: Console,
) -> None:
    """Measures runs, writes metrics.json into each, and prints one table.

    Args:
        options: arguments of `polymodal.evaluate`; what they leave open is taken from the run's
            settings.
        sampler: the name of a sampler of subsets; None: the run's.
        data: a file, or the folder of the named data sets; None: what the run's settings name.

    Raises ValueError for a directory without a finished run, and unknown metrics or subsets.
    """
    from polymodal.cli.generate import use_sampler
    from polymodal.report.comparison import check_distinct, data_of, label_of
    from polymodal.report.tables import results, terminal_table

    loaded = [load(path) for path in runs]
    check_distinct(loaded, label_of(loaded))
    for run in loaded:
        use_sampler(run.model, sampler)
        settings = run.settings.get("evaluation", {})
        asked = {k: v for k, v in settings.items() if k != "cache"}  # a run names no place to write
        splits = data_of(run.settings, data)
        _measure(run, splits, {**asked, **options}, str(run.directory), console)
    if is_first_process() and (table := results(loaded, label_of(loaded))) is not None:
        console.print(terminal_table(table))


def _measure(
    run: Run, data: Splits, options: Mapping[str, Any], name: str, console: Console
) -> None:
    """Evaluates a run, and shows what is being measured; on a terminal in one moving line.

    Of runs with tables, first what filling in is worth, unless other metrics are named; the name
    "imputation" asks for it.
    """
    from polymodal.imputation.columns import measured
    from polymodal.metrics.evaluate import evaluate

    names = options.get("metrics")
    named = [names] if isinstance(names, str) else names
    with _moving_line(name) as say:
        filling = FILLING in named if named else named is None and measured(run.modalities)
        if filling and is_first_process():
            _measure_filling(run, data, options, say, console)
        left = named and [each for each in named if each != FILLING]
        if left or not named:
            evaluate(run, data, progress=say, **{**options, "metrics": left})


def _measure_filling(
    run: Run,
    data: Splits,
    options: Mapping[str, Any],
    say: Callable[[str], None],
    console: Console,
) -> None:
    """Prints what filling in is worth, pattern by pattern, and what the intervals were given."""
    from polymodal.imputation.evaluate import ROWS, evaluate_imputation
    from polymodal.imputation.results import calibration_of, calibration_text

    evaluate_imputation(
        run,
        data,
        rows=options.get("limit") or ROWS,
        seed=options.get("seed") or 0,
        progress=say,
        show=lambda table: table.print(console),
    )
    if calibration := calibration_of(run):
        console_say(console, calibration_text(calibration))


@contextmanager
def _moving_line(name: str) -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done; on a terminal in one moving line."""
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    with console.status(Text(f"Measuring {name}")) as status:

        def say(line: str) -> None:
            if console.is_terminal:
                status.update(Text(f"{name}: {line}"))
            else:
                console_say(console, f"{name}: {line}")

        yield say


# A dry run.


def print_plan(plan: Plan, console: Console) -> None:
    """The resolved settings, parameters, samples and steps of every run, without training any."""
    say = partial(console_say, console)
    for run in plan.runs:
        console.rule(f"{run.directory} (seed {run.seed})", align="left")
        say(write_yaml(to_dict(run.settings)))
    for note in plan.notes:
        say(note)
    say(_sizes(plan.data))
    console.print(_plan_table(plan))
    for run in plan.runs:
        for stage, source in run.reuse.items():
            say(f"{run.directory.name}: {stage} is taken from {source}.")
    say("Nothing was trained.")


def _sizes(data: Splits) -> str:
    sizes = ", ".join(f"{len(part)} {name}" for name, part in data.parts.items())
    modalities = ", ".join(f"{m.name} {m.shape}" for m in data.modalities)
    return f"Samples: {sizes}. Modalities: {modalities}."


def _plan_table(plan: Plan) -> Table:
    """The stages of every run, beside the parts of its model."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    words = ("run", "stage", "part")
    for name in ("run", "stage", "epochs", "batch", "steps", "part", "parameters"):
        table.add_column(name, justify="left" if name in words else "right")
    for run in plan.runs:
        stages = [_stage_row(run, stage, len(plan.data.train)) for stage in run.stages]
        parts = [(part, f"{count:,}") for part, count in run.parameters.items()]
        names = [run.directory.name]
        for name, stage, part in zip_longest(names, stages, parts):
            table.add_row(name or "", *(stage or [""] * 4), *(part or []))
    return table


def _stage_row(run: Planned, stage: str, samples: int) -> tuple[str, str, str, str]:
    """The name, epochs, batch and steps of a stage."""
    settings = run.settings.training.stage(stage)
    taken = "taken" if stage in run.reuse else f"{settings.steps(samples):,}"
    return stage, str(settings.epochs), str(settings.batch), taken
