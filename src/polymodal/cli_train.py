"""`polymodal train` and `evaluate`: what is trained and measured, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from polymodal.compare import Plan, is_first_process, make_plan, train


def train_recipe(
    recipe: str, overrides: Sequence[str], data: str | None, out: Path, seed: int | None, reuse: Mapping[str, str],
    dry_run: bool, console: Console,
) -> None:
    """Trains what a recipe asks for; a comparison is then evaluated and reported."""
    plan = make_plan(recipe, out, overrides, data, seed, {stage: Path(run) for stage, run in reuse.items()})
    if dry_run:
        print_plan(plan, console)
        return
    runs = train(plan)
    if not is_first_process():
        return
    if not plan.compares:
        console.print(f"Wrote the run into {out}; next: polymodal evaluate {out}, polymodal report {out}.", soft_wrap=True)
        return


def print_plan(plan: Plan, console: Console) -> None:
    """The resolved settings, parameters, samples and steps of every run, without training any."""
    from omegaconf import OmegaConf

    from polymodal.settings import to_dict

    for run in plan.runs:
        console.rule(f"{run.directory} (seed {run.seed})", align="left")
        console.print(OmegaConf.to_yaml(OmegaConf.create(to_dict(run.settings))), markup=False, highlight=False)
    sizes = ", ".join(f"{len(getattr(plan.data, part))} {part}" for part in ("train", "val", "test"))
    console.print(f"Samples: {sizes}. Modalities: {', '.join(f'{m.name} {m.shape}' for m in plan.data.modalities)}.")
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("run", "stage", "epochs", "batch", "steps", "parameters"):
        table.add_column(name)
    for run in plan.runs:
        parameters = ", ".join(f"{part} {count:,}" for part, count in run.parameters.items())
        for k, stage in enumerate(run.stages):
            settings = run.settings.training.stage(stage)
            per_epoch = max(1, len(plan.data.train) // (settings.batch * settings.accumulate))
            steps = min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)
            taken = f"taken from {run.reuse[stage]}" if stage in run.reuse else f"{steps:,}"
            first = (run.directory.name, parameters) if k == 0 else ("", "")
            table.add_row(first[0], stage, str(settings.epochs), str(settings.batch), taken, first[1])
    console.print(table)
    console.print("Nothing was trained.")
