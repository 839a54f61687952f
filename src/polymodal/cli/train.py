"""`polymodal train` and `evaluate`: what is trained and measured, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from polymodal.data import Splits
from polymodal.experiments.plan import Plan, is_first_process, make_plan, train
from polymodal.runs.files import write
from polymodal.runs.run import Run, load
from polymodal.settings.resolve import to_dict


def train_recipe(
    recipe: str,
    overrides: Sequence[str],
    data: str | None,
    out: Path,
    seed: int | None,
    reuse: Mapping[str, str],
    dry_run: bool,
    console: Console,
) -> None:
    """Trains what a recipe asks for; a comparison is then evaluated and reported.

    Raises ValueError for what the recipe, its changes or the data say wrong, before anything is
    trained.
    """
    plan = make_plan(
        recipe, out, overrides, data, seed, {stage: Path(run) for stage, run in reuse.items()}
    )
    if dry_run:
        print_plan(plan, console)
        return
    say = lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True)
    runs = train(plan, say if plan.compares and is_first_process() else None)
    if not is_first_process():
        return
    if not plan.compares:
        say(f"Wrote the run into {out}. Next: polymodal evaluate {out}; polymodal report {out}")
        return
    _conclude(plan, runs, out, console)
    say(f"Wrote {len(runs)} runs, table.md and report.html into {out}.")


def _conclude(plan: Plan, runs: Sequence[Run], out: Path, console: Console) -> None:
    """Evaluates the runs of a comparison, prints one table and writes one report."""
    from polymodal.report.page import (
        write_report,  # here, since neither training nor a dry run need matplotlib
    )
    from polymodal.report.tables import results, terminal_table

    evaluation = plan.settings.evaluation
    asked = evaluation.model_dump()
    for run, planned in zip(runs, plan.runs, strict=True):
        if run.metrics.get("asked") != asked:
            _measure(
                run,
                plan.data,
                evaluation.metrics,
                evaluation.subsets,
                None,
                evaluation.options,
                planned.directory.name,
            )
            run.save_metrics({**run.metrics, "asked": asked})
    labels = [planned.label for planned in plan.runs]
    if (table := results(runs, labels)) is not None:
        console.print(terminal_table(table))
        write(out / "table.md", table.to_markdown().encode())
    write_report(runs, out / "report.html", data=plan.data, labels=labels)


def _measure(
    run: Run,
    data: Splits,
    metrics: Sequence[str] | None,
    subsets: Any,
    limit: int | None,
    options: Mapping[str, Any],
    name: str,
) -> None:
    """Evaluates a run and says what is being measured, on a terminal in one moving line."""
    from polymodal.metrics.evaluate import evaluate

    console = Console(stderr=True)
    with console.status(f"Measuring {name}") as status:
        tell = (
            status.update
            if console.is_terminal
            else partial(console.print, highlight=False, soft_wrap=True)
        )
        say = lambda line: tell(f"{name}: {line}")
        more = {"limit": limit} if limit else {}
        evaluate(run, data, metrics, subsets, progress=say, **{**options, **more})


def evaluate_runs(
    runs: Sequence[Path],
    metrics: Sequence[str] | None,
    subsets: Any,
    sampler: str | None,
    limit: int | None,
    data: str | None,
    console: Console,
) -> None:
    """Measures runs, writes metrics.json into each, and prints one table.

    Raises ValueError for what is no finished run, and unknown metrics or subsets.
    """
    from polymodal.cli.generate import use_sampler
    from polymodal.report.page import data_of, label_of
    from polymodal.report.tables import results, terminal_table

    found = [load(path) for path in runs]
    for run in found:
        use_sampler(run.model, sampler)
        options = run.settings.get("evaluation", {})
        extra = {k: v for k, v in options.items() if k not in ("metrics", "subsets")}
        chosen = options.get("metrics") if metrics is None else metrics
        _measure(
            run, data_of(run.settings, data), chosen, subsets, limit, extra, str(run.directory)
        )
        if sampler:
            run.save_metrics({**run.metrics, "sampler": sampler})
    if (table := results(found, label_of(found))) is not None:
        console.print(terminal_table(table))


def print_plan(plan: Plan, console: Console) -> None:
    """The resolved settings, parameters, samples and steps of every run, without training any."""
    from omegaconf import OmegaConf

    for run in plan.runs:
        console.rule(f"{run.directory} (seed {run.seed})", align="left")
        text = OmegaConf.to_yaml(OmegaConf.create(to_dict(run.settings)))
        console.print(text, markup=False, highlight=False)
    sizes = ", ".join(
        f"{len(getattr(plan.data, part))} {part}" for part in ("train", "val", "test")
    )
    kinds = ", ".join(f"{m.name} {m.shape}" for m in plan.data.modalities)
    console.print(f"Samples: {sizes}. Modalities: {kinds}.", highlight=False, markup=False)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("run", "stage", "epochs", "batch", "steps", "part", "parameters"):
        table.add_column(name, justify="left" if name in ("run", "stage", "part") else "right")
    for run in plan.runs:
        stages = [_stage_row(run, stage, len(plan.data.train)) for stage in run.stages]
        parts = [(part, f"{count:,}") for part, count in run.parameters.items()]
        for k, (row, part) in enumerate(zip_longest(stages, parts)):
            table.add_row(run.directory.name if k == 0 else "", *(row or [""] * 4), *(part or []))
    console.print(table)
    for run in plan.runs:
        for stage, source in run.reuse.items():
            console.print(
                f"{run.directory.name}: {stage} is taken from {source}.",
                highlight=False,
                soft_wrap=True,
            )
    console.print("Nothing was trained.")


def _stage_row(run: Any, stage: str, samples: int) -> tuple[str, str, str, str]:
    settings = run.settings.training.stage(stage)
    per_epoch = max(1, samples // (settings.batch * settings.accumulate))
    steps = min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)
    return (
        stage,
        str(settings.epochs),
        str(settings.batch),
        "taken" if stage in run.reuse else f"{steps:,}",
    )
