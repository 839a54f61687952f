"""`write_report`: run directories in, one HTML page out that needs nothing else: no scripts, no
network.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polymodal.data import Splits
from polymodal.metrics.table import Table
from polymodal.report import plots
from polymodal.report.pictures import Generated, Group, Scenes, drawn
from polymodal.report.tables import NOTE, methods_of, results, rows_of
from polymodal.runs.files import make_directory, write
from polymodal.runs.run import Run, load
from polymodal.sampling.diagnostics import ChainReport
from polymodal.settings.data import load_splits
from polymodal.settings.schema import DataSettings

COHERENCE = "coherence"
SAME = (
    "Above: test samples, the same for all; below: draws (the decoders' means), with the same noise"
    " for all."
)


@dataclass
class Section:
    """A part of the page; `words`: how many leading columns of its table hold words."""

    title: str
    texts: Sequence[str] = ()
    warnings: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    words: int = 1
    note: str = ""
    groups: Sequence[Group] = ()
    details: Sequence[tuple[str, str]] = field(default_factory=list)


def write_report(
    runs: Sequence[str | os.PathLike[str] | Run],
    out: str | os.PathLike[str] = "report.html",
    *,
    data: Splits | str | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """One page on runs of the same data, compared if there are several; returns where it lies.

    What was run, results with direction, n, seeds and standard errors, given and generated images
    for every subset, joint samples, reconstructions, losses, and what methods offer besides:
    spectra, embeddings, samplers, planes.

    Args:
        runs: run directories, or runs; seeds of one method are put together.
        out: the page.
        data: the data; a folder or file in which it lies; None: as the first run says.
        labels: a name for each run, without its seed; None: the method's, or the directory's where
            that is ambiguous.

    Raises ValueError for no runs, runs of different modalities, or what `load` and `load_data`
    raise.
    """
    found = [one if isinstance(one, Run) else load(one) for one in runs]
    if not found:
        raise ValueError("A report needs at least one run directory.")
    names = list(labels) if labels else label_of(found)
    splits = data if isinstance(data, Splits) else data_of(found[0].settings, data)
    for name, run in zip(names, found, strict=True):
        shapes = [(m.name, m.shape) for m in run.modalities]
        if shapes != [(m.name, m.shape) for m in splits.modalities]:
            raise ValueError(
                f"Runs in one report must be of the same data, but {name!r} has the modalities"
                f" {shapes}."
            )
    page = _page(found, names, splits)
    target = Path(out)
    make_directory(target.parent)
    write(target, page.encode())
    return target


def data_of(settings: Mapping[str, Any], data: str | None = None) -> Splits:
    """The data that a run's settings name; `data` instead: a file, or the folder of the named
    sets.
    """
    return load_splits(DataSettings(**settings["data"]), settings["modalities"], data)


def label_of(runs: Sequence[Run]) -> list[str]:
    """A label for each run: its method; where methods of other settings share that, its directory
    without the seed.
    """
    said = ("method", "networks", "training")
    kinds = [json.dumps({k: run.settings[k] for k in said}, sort_keys=True) for run in runs]
    methods = [
        str(run.settings["method"].get("name") or "own method").replace("_", "-") for run in runs
    ]
    labels = []
    for run, kind, method in zip(runs, kinds, methods, strict=True):
        alone = len({k for k, m in zip(kinds, methods, strict=True) if m == method}) == 1
        folder = (
            re.sub(r"-seed\d+$", "", run.directory.name)
            if run.directory
            else f"{method} {kinds.index(kind) + 1}"
        )
        labels.append(method if alone else folder)
    return labels


def _page(runs: Sequence[Run], labels: Sequence[str], splits: Splits) -> str:
    from jinja2 import Environment, PackageLoader

    first = {label: run for label, run in zip(reversed(labels), reversed(runs), strict=True)}
    first = {label: first[label] for label in dict.fromkeys(labels)}
    scenes = Scenes(first, splits)
    generated = scenes.generated()
    seeds = f" Pictures are of seed {runs[0].seed}." if len(runs) > len(first) else ""
    sections = [
        _what(runs, labels, splits),
        _results(results(runs, labels), list(first)),
        Section("Generated from what is given", [SAME + seeds], groups=generated.groups),
        Section("Joint samples", groups=[scenes.joint()]),
        Section("Reconstructions", groups=[scenes.reconstructed()]),
        Section("Losses", groups=_losses(first)),
        Section("Embeddings of what is shared", groups=scenes.embedded()),
        Section("Dimensions that matter", groups=scenes.reduced()),
        _samplers(generated),
        Section("The latent plane", groups=[g for g in [scenes.plane()] if g]),
    ]
    sections = [
        s for s in sections if s.head or any(g.pictures for g in s.groups) or s.title == "Results"
    ]
    title = f"{splits.name}: {', '.join(first)}"
    subtitle = (
        f"polymodal {runs[0].info['versions'].get('polymodal', '')},"
        f" {time.strftime('%Y-%m-%d %H:%M')}"
    )
    template = Environment(
        loader=PackageLoader("polymodal.report", ""), autoescape=True
    ).get_template("report.html.j2")
    return template.render(title=title, subtitle=subtitle, sections=sections)


def _what(runs: Sequence[Run], labels: Sequence[str], splits: Splits) -> Section:
    sizes = ", ".join(f"{len(getattr(splits, part)):,} {part}" for part in ("train", "val", "test"))
    kinds = ", ".join(
        f"{m.name} {'×'.join(map(str, m.shape))} ({m.likelihood})" for m in splits.modalities
    )
    rows = []
    for label, run in zip(labels, runs, strict=True):
        count = sum(p.numel() for p in run.model.parameters())
        stages = "; ".join(_stage(name, said) for name, said in run.info["stages"].items())
        latent = run.model.prior().event_shape.numel()
        rows.append([label, str(run.directory or ""), stages, run.seed, latent, f"{count:,}"])
    versions = {json.dumps(run.info["versions"]): run.info["versions"] for run in runs}
    said = "; ".join(", ".join(f"{k} {v}" for k, v in one.items()) for one in versions.values())
    commits = ", ".join(
        sorted({str(run.info["commit"])[:10] for run in runs if run.info.get("commit")})
    )
    details = [
        (f"Settings of {label}, seed {run.seed}", _yaml(run))
        for label, run in zip(labels, runs, strict=True)
    ]
    texts = [f"Data: {splits.name}, {sizes} samples. Modalities: {kinds}."]
    head = ["method", "directory", "stages", "seed", "latent", "parameters"]
    note = f"Versions: {said}." + (f" Source: {commits}." if commits else "")
    return Section("What was run", texts, head=head, rows=rows, words=3, note=note, details=details)


def _stage(name: str, said: Mapping[str, Any]) -> str:
    if said["status"] == "reused":
        return f"{name} taken from {Path(said['from']).name}"
    epochs = f" {said['epochs']} epochs, {said['seconds']:.0f} s" if "epochs" in said else ""
    return name + epochs


def _yaml(run: Run) -> str:
    from omegaconf import OmegaConf

    return f"# {run.info['command']}\n" + OmegaConf.to_yaml(OmegaConf.create(run.settings))


def _results(table: Table | None, labels: Sequence[str]) -> Section:
    if table is None:
        return Section(
            "Results", ["These runs have not been evaluated yet: polymodal evaluate RUN."]
        )
    rows = rows_of(table)
    methods = methods_of(rows)
    lacking = ", ".join(label for label in labels if label not in methods)
    text = [f"Not evaluated yet: {lacking} (polymodal evaluate RUN)."] if lacking else []
    body = [
        [
            r.metric,
            r.quantity,
            r.direction,
            *(r.cells.get(m, "") for m in methods),
            r.unit,
            r.n,
            r.seeds,
        ]
        for r in rows
    ]
    groups = []
    shares = [r for r in rows if r.metric == COHERENCE]
    if shares:
        values = {r.quantity: {m: (c.value, c.se) for m, c in r.cells.items()} for r in shares}
        figure = plots.bars(values, "coherence (higher is better)", "share of draws")
        groups = [Group([drawn(figure, "Coherence of every method, bars with standard errors")])]
    head = ["metric", "target | given", "direction", *methods, "unit", "n", "seed"]
    return Section("Results", text, head=head, rows=body, words=3, note=NOTE, groups=groups)


def _losses(runs: Mapping[str, Run]) -> list[Group]:
    found = []
    for label, run in runs.items():
        history = run.history
        if "train_loss" not in history or history["train_loss"].isna().all():
            continue
        taken = [_stage(n, s) for n, s in run.info["stages"].items() if s["status"] == "reused"]
        words = f"Training and validation loss over the epochs, {label}"
        found.append(drawn(plots.loss_curves(history), words, "; ".join([label, *taken])))
    return [Group(found)]


def _samplers(generated: Generated) -> Section:
    groups, warnings, rows = [], [], []
    for (label, given), found in generated.diagnostics.items():
        picture = drawn(
            plots.sampler_diagnostics(found),
            f"Histograms of how the sampler fared, {label} given {given}",
        )
        groups.append(Group([picture], f"{label} given {given}"))
        rows.append([label, given, *_fared(found)])
        if warning := found.warning():
            warnings.append(f"{label} given {given}: {warning}")
    if not groups:
        return Section("How the samplers fared")
    text = (
        "Subsets of two and more whose posterior has no closed form are drawn by a sampler; green"
        " is well."
    )
    head = [
        "method",
        "given",
        "items",
        "acceptance",
        "R-hat below limit",
        "divergent",
        "effective sample size",
    ]
    return Section("How the samplers fared", [text], warnings, head, rows, 2, groups=groups)


def _fared(found: ChainReport) -> list[str]:
    said = found.summary()
    well = f"{said['rhat_ok']:.0%}" if "rhat_ok" in said else "–"
    return [
        f"{said['items']}",
        f"{said['acceptance']:.2f}",
        well,
        f"{said['divergent']:.0f}",
        f"{said['ess']:.0f}",
    ]
