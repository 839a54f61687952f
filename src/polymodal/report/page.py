"""`write_report`: run directories in, one HTML page out that needs nothing else: no scripts, no
network.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polymodal.checks import FilePath
from polymodal.checks.yaml_text import write as write_yaml
from polymodal.data import Splits
from polymodal.metrics.table import Table
from polymodal.report import plots
from polymodal.report.comparison import Comparison, check_distinct, data_of, label_of
from polymodal.report.curves import curves, sweep_of
from polymodal.report.diagnostics import samplers
from polymodal.report.filling import filling_pictures, filling_rows, filling_texts
from polymodal.report.found import found
from polymodal.report.pictures import Generated, Group, Picture, Scenes, drawn
from polymodal.report.section import Section
from polymodal.report.tables import NOTE, Row, methods_of, results, rows_of, synergy
from polymodal.report.traversals import TRAVERSED, traversals
from polymodal.runs.files import check_output, write_output
from polymodal.runs.run import Run, load

GENERATED = (
    "Upper rows: given test samples, the same for all methods. Lower rows: draws (the decoders'"
    " means), with the same noise for all methods."
)
LOSSES = "Mean loss of each epoch, a panel for each stage; training in blue, validation in orange."
SYNERGY = (
    "log p(x_m) in nats, by importance sampling from the posterior of what is given: all rows of a"
    " column estimate one number from below, and the more the given modalities tell about the"
    " latent, the closer they come. Synergy: all modalities together come at least as close as x_m"
    " by itself. How far the others fall below x_m by itself says what they do not tell about it."
)


def write_report(
    runs: Sequence[FilePath | Run],
    out: FilePath = "report.html",
    *,
    data: Splits | str | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Writes one page on runs of the same data, compared if there are several; returns its path.

    The page shows settings, results with direction, n, seeds and standard errors, images generated
    given every subset, joint samples, reconstructions, losses, and, for methods that have them,
    embeddings, spectra, diagnostics of samplers and the latent plane.

    Args:
        runs: run directories, or runs; seeds of one method are put together.
        out: the page.
        data: the data; a file, or the folder in which it lies; None: those of the first run.
        labels: a name for each run, without its seed; None: the method's, or the directory's where
            that is ambiguous.

    Raises ValueError for no runs, runs of different modalities, or what `load` and `load_data`
    raise.
    """
    check_output(Path(out))
    loaded = [load(run) if isinstance(run, str | os.PathLike) else run for run in runs]
    if not loaded:
        raise ValueError("A report needs at least one run directory.")
    names = list(labels or label_of(loaded))
    check_distinct(loaded, names)
    if data is None or isinstance(data, str):
        data = data_of(loaded[0].settings, data)
    comparison = Comparison(loaded, names, data)
    comparison.check()
    write_output(Path(out), _page(comparison).encode())
    return Path(out)


def _page(comparison: Comparison) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("polymodal.report", ""), autoescape=True)
    template = environment.get_template("report.html.j2")
    version = comparison.runs[0].info["versions"].get("polymodal", "")
    return template.render(
        title=f"{comparison.data.name}: {', '.join(comparison.first)}",
        subtitle=f"polymodal {version}, {time.strftime('%Y-%m-%d %H:%M')}",
        sections=[s for s in _sections(comparison) if not s.is_empty],
    )


def _sections(comparison: Comparison) -> Iterator[Section]:
    """What was found, then pictures, then figures behind folds."""
    runs = comparison.first
    scenes = Scenes(runs, comparison.data)
    generated, joint = scenes.generated(), scenes.joint()
    plane = scenes.plane()
    table = results(comparison.runs, comparison.labels)
    yield found(comparison, table)
    yield _generated(generated, comparison)
    yield Section("Joint samples", groups=joint.groups)
    yield Section("Reconstructions", groups=[scenes.reconstructed()])
    yield _filling(comparison)
    yield _results(table, runs)
    yield _synergy(table)
    yield samplers(generated.reports | joint.reports)
    moved = traversals(scenes)
    yield Section("Latent traversals", [TRAVERSED] if moved else [], groups=moved)
    yield Section("Embeddings of what is shared", groups=scenes.embedded())
    yield Section("Dimensions that matter", groups=scenes.reduced())
    yield Section("The latent plane", groups=[plane] if plane else [])
    yield Section("Losses", [LOSSES], groups=[_losses(runs)])
    yield _overview(comparison)


# What was run.


def _overview(comparison: Comparison) -> Section:
    rows = [_run_row(label, run) for label, run in comparison]
    return Section(
        "What was run",
        [_data_text(comparison.data)],
        head=["method", "directory", "stages", "seed", "latent", "parameters"],
        rows=rows,
        words=3,
        note=_versions(comparison.runs),
        details=[(f"Settings of {k}, seed {run.seed}", _yaml(run)) for k, run in comparison],
        folded=True,
    )


def _data_text(data: Splits) -> str:
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in data.parts.items())
    modalities = ", ".join(
        f"{m.name} {'×'.join(map(str, m.shape))} ({m.likelihood})" for m in data.modalities
    )
    return f"Data: {data.name}, {sizes} samples. Modalities: {modalities}."


def _run_row(label: str, run: Run) -> list[Any]:
    count = sum(p.numel() for p in run.model.parameters())
    stages = "; ".join(_stage(name, outcome) for name, outcome in run.info["stages"].items())
    latent = run.model.prior().event_shape.numel()
    return [label, str(run.directory or ""), stages, run.seed, latent, f"{count:,}"]


def _stage(name: str, outcome: Mapping[str, Any]) -> str:
    if outcome["status"] == "reused":
        return f"{name} taken from {Path(outcome['from']).name}"
    if "epochs" not in outcome:
        return name
    return f"{name} {outcome['epochs']} epochs, {outcome['seconds']:.0f} s"


def _versions(runs: Sequence[Run]) -> str:
    """The versions and commits with which the runs were made, each combination once."""
    versions = [", ".join(f"{k} {v}" for k, v in run.info["versions"].items()) for run in runs]
    commits = {str(run.info["commit"])[:10] for run in runs if run.info.get("commit")}
    text = f"Versions: {'; '.join(dict.fromkeys(versions))}."
    return text + (f" Source: {', '.join(sorted(commits))}." if commits else "")


def _yaml(run: Run) -> str:
    return f"# {run.info['command']}\n{write_yaml(run.settings)}"


# Results.


def _results(table: Table | None, runs: Mapping[str, Run]) -> Section:
    if table is None:
        return Section("Results")
    rows = rows_of(table)
    methods = methods_of(rows)
    missing = ", ".join(label for label in runs if label not in methods)
    unevaluated = [f"Not evaluated yet: {missing} (polymodal evaluate RUN)."] if missing else []
    return Section(
        "Results",
        [*unevaluated, *table.reasons()],
        head=["metric", "target | given", "direction", *methods, "unit", "n", "seed"],
        rows=[_result_row(row, methods) for row in rows],
        words=3,
        note=NOTE,
        folded=True,
        groups=curves(rows, sweep_of(runs)),
    )


def _result_row(row: Row, methods: Sequence[str]) -> list[Any]:
    cells = [row.cells.get(method, "") for method in methods]
    return [row.metric, row.quantity, row.direction, *cells, row.unit, row.n, row.seeds]


def _filling(comparison: Comparison) -> Section:
    """What filling in is worth, where it was measured."""
    runs = comparison.first
    head, rows = filling_rows(runs)
    if not rows:
        return Section("Filling in")
    groups = filling_pictures(runs, comparison.data)
    words = 4 if head[0] == "method" else 3
    return Section(
        "Filling in", filling_texts(runs), head=head, rows=rows, words=words, groups=groups
    )


def _synergy(table: Table | None) -> Section:
    """log p(x_m) from every subset, where it was measured."""
    head, rows = ([], []) if table is None else synergy(table)
    texts = [SYNERGY] if rows else []
    return Section("Synergy", texts, head=head, rows=rows, words=2, folded=True)


# Pictures.


def _generated(generated: Generated, comparison: Comparison) -> Section:
    several = len(comparison.runs) > len(comparison.first)
    seed = [f"Pictures are of seed {comparison.runs[0].seed}."] if several else []
    return Section("Generated given a subset", [GENERATED, *seed], groups=generated.groups)


def _losses(runs: Mapping[str, Run]) -> Group:
    curves = {label: _curves(label, run) for label, run in runs.items()}
    return Group([picture for picture in curves.values() if picture is not None])


def _curves(label: str, run: Run) -> Picture | None:
    """The losses of a run; None if it was not trained by epochs."""
    history = run.history
    if "train_loss" not in history or history["train_loss"].isna().all():
        return None
    stages = run.info["stages"].items()
    reused = [_stage(name, o) for name, o in stages if o["status"] == "reused"]
    alt = f"Training and validation loss over the epochs, {label}"
    return drawn(plots.loss_curves(history), alt, "; ".join([label, *reused]))
