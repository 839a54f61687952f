"""`polymodal impute` and `encode`: new rows without holes, and their latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from polymodal.cli.console import say
from polymodal.data.readers.archives import archive
from polymodal.data.readers.cells import ANNDATA, MUDATA, is_cells
from polymodal.data.tables import TABLES
from polymodal.data.tables.writing import table_bytes
from polymodal.imputation.cell_rows import CellRows
from polymodal.imputation.completion import Completion, complete, single_values
from polymodal.imputation.conformal import Calibration
from polymodal.imputation.rows import Rows, ending, rows_in
from polymodal.imputation.weighted import latent_means
from polymodal.runs.files import check_output, write_output
from polymodal.runs.run import Run, load

LISTED = 20  # columns
INTERVALS = "intervals"


@dataclass(frozen=True)
class Options:
    """How holes are filled.

    Args:
        draws: completed copies; 0: none.
        level: of the intervals; 0: none.
        proposals: latents behind each row.
        seed: of the noise.
        data: the data of the run, by whose validation part intervals are made to hold; None: those
            that its settings name.
    """

    draws: int = 0
    level: float = 0.9
    proposals: int = 1000
    seed: int = 0
    data: str | None = None


def impute_file(run_dir: Path, file: Path, out: Path, options: Options, console: Console) -> None:
    """Writes OUT, the file with the best single value in each hole; its name with `.intervals`, the
    bounds; and its name with `.1`, `.2`, ..., completed copies.

    Raises ValueError, before anything is written, for files that do not fit.
    """
    run = load(run_dir)
    rows = rows_in(run, file)
    rows.output(out)
    check_output(out)
    for note in [*rows.notes, *_unplaced(rows)]:
        say(console, note)
    completion = complete(
        run.model,
        rows.data,
        rows.targets,
        level=options.level or 0.5,
        draws=options.draws,
        proposals=options.proposals,
        seed=options.seed,
    )
    calibration = _calibration(run, options, console)
    completion = completion.moved(rows.modalities, calibration)
    written = _write(rows, completion, calibration, out, options)
    _report(rows, completion, options, console)
    say(console, f"Wrote {written}.")


def _unplaced(rows: Rows) -> list[str]:
    """Sentences on modalities that have no place in the file."""
    names = [m.name for m in rows.modalities if m.name not in rows.targets]
    return [f"{rows.path} has no place for {m!r}; polymodal generate draws it." for m in names]


def _calibration(run: Run, options: Options, console: Console) -> Calibration | None:
    """The calibration that the run keeps, or that its validation data give; None if there is none,
    which is said.
    """
    from polymodal.imputation.columns import measured
    from polymodal.imputation.evaluate import calibrate
    from polymodal.imputation.results import calibration_of, calibration_text
    from polymodal.report.comparison import data_of

    if not measured(run.modalities):
        return None
    calibration = calibration_of(run)
    if calibration is None:
        try:
            splits = data_of(run.settings, options.data)
            if splits.modalities != list(run.modalities):
                raise ValueError("The data are not those of the run.")
        except ValueError as error:
            say(console, f"Intervals are the model's own, and may not hold: {error}")
            return None
        calibration = calibrate(run, splits)
    if text := calibration_text(calibration):
        say(console, text)
    return calibration


def _write(
    rows: Rows,
    completion: Completion,
    calibration: Calibration | None,
    out: Path,
    options: Options,
) -> str:
    """Writes all files, the one that was named last; returns their names in words."""
    modalities = {m.name: m for m in rows.modalities}
    filled = completion.filled
    single = {m: single_values(known.center, modalities[m]) for m, known in filled.items()}
    copies = [rows.marked(out, str(k + 1)) for k in range(options.draws)]
    bounds = rows.marked(out, INTERVALS)
    for k, copy in enumerate(copies):
        rows.write(copy, completion, {m: known.draws[k] for m, known in filled.items()})
    if options.level:
        rows.write_bounds(bounds, completion, calibration)
    rows.write(out, completion, single)
    words = f"{out} (the best single values)"
    if folders := rows.folders(out, completion):
        words += f", the new pictures in {', '.join(map(str, folders))}"
    if options.level:
        words += f", {bounds} ({options.level:.0%} intervals)"
    if copies:
        words += f", {len(copies)} completed copies {copies[0]} to {copies[-1]}"
    return words


def _report(rows: Rows, completion: Completion, options: Options, console: Console) -> None:
    """What was filled, and how far to trust it."""
    counts = rows.counts()
    say(console, _counted(counts, rows.lacking(), len(rows.data)))
    if nothing := int(completion.nothing.sum()):
        say(
            console,
            f"Nothing is observed in {nothing:,} rows; they are filled from the prior, as rows of"
            " which nothing is known.",
        )
    if completion.ess is not None:
        say(
            console,
            f"Effective number of draws behind a row: {completion.ess:.0f} of"
            f" {options.proposals:,} (median).",
        )
    if warning := completion.warning("--proposals"):
        say(console, f"Warning: {warning}")


def _counted(counts: Mapping[str, int], lacking: int, size: int) -> str:
    """How many cells of which columns were filled.

    >>> _counted({"age": 3, "city": 1}, 4, 10)
    'Filled 4 cells in 4 of 10 rows: age 3, city 1.'
    """
    if not counts:
        return "There are no holes to fill."
    most = sorted(counts.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {n:,}" for name, n in most[:LISTED])
    more = f" and {len(most) - LISTED} more columns" if len(most) > LISTED else ""
    total = sum(counts.values())
    return f"Filled {total:,} cells in {lacking:,} of {size:,} rows: {listed}{more}."


def encode_file(run_dir: Path, file: Path, out: Path, seed: int, console: Console) -> None:
    """Writes the latent means of the rows of a file: a table with the key, or the number of the
    row from 0, and a column z0, z1, ... for each dimension; an .npz file with the arrays of that
    key and z; or of cells the same file with `.obsm["X_polymodal"]`.

    Raises ValueError, before anything is written, for files that do not fit.
    """
    own = [ANNDATA, MUDATA] if is_cells(file) else []
    endings = (*TABLES, ".npz", *(e for e in own if file.suffix.lower() == e))
    if ending(out, endings) is None:
        raise ValueError(f"Latents are written into one of {', '.join(endings)} files, got {out}.")
    check_output(out)
    run = load(run_dir)
    rows = rows_in(run, file)
    if is_cells(out):
        rows.output(out)
    for note in rows.notes:
        say(console, note)
    names = rows.names()
    latents = latent_means(run.model, rows.data, seed)
    z = latents.double().cpu().numpy()
    if isinstance(rows, CellRows) and is_cells(out):
        rows.write_latents(out, latents)
        return say(console, f"Wrote {out}: {len(z):,} cells with X_polymodal in obsm.")
    if out.suffix.lower() == ".npz":
        content = archive({names.column: np.array(list(names.values)), "z": z})
    else:
        columns = {f"z{k}": z[:, k].tolist() for k in range(z.shape[1])}
        content = table_bytes({names.column: list(names.values), **columns}, out)
    write_output(out, content)
    say(console, f"Wrote {out}: {len(z):,} rows of {z.shape[1]} latent means.")
