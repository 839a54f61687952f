"""`polymodal inspect`: what was understood of a user's data, before anything trains."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from polymodal.checks import AUTO, Memory, typed
from polymodal.cli.console import say
from polymodal.data import Splits, load_data
from polymodal.data.described import Described, read_described
from polymodal.data.description import is_own, section_of
from polymodal.data.grid import Grid
from polymodal.data.mapped import where
from polymodal.data.summary import Summary, summary
from polymodal.runs.files import write_json, write_output
from polymodal.settings.recommended import recommended

PICTURE, VALUES = "missing.png", "inspect.json"
LISTED = 60  # columns that the terminal lists
LOOKED = 10_000  # samples of a part that are looked at, of data that stay on disk
LONGEST = 60  # characters of a cell


def inspect_data(data: str, out: Path | None, console: Console) -> None:
    """Prints the summary of a data set, and writes it into the folder `out`, if one is given.

    Args:
        data: a table, a description, another file, or the name of a data set.

    Raises ValueError in one sentence for data that cannot be read.
    """
    splits, described = read(data)
    few = few_of(splits)
    about = summary(few, described)
    print_summary(about, console)
    say(console, f"\n{where(splits, _memory(data))}")
    if few is not splits:
        say(console, f"Values are those of the first {LOOKED:,} samples of each part.")
    advice = recommended(splits)
    say(console, f"\nRecommended: method {advice.method} ({advice.reason}).")
    if out is not None:
        from polymodal.report.missing import missing_picture

        write_output(out / PICTURE, missing_picture(Grid.of(few)))
        chosen = {"method": advice.method, "reason": advice.reason}
        write_json(out / VALUES, about.plain() | chosen)
        say(console, f"Wrote {PICTURE} and {VALUES} into {out}.")


def read(data: str) -> tuple[Splits, Described | None]:
    """A data set, and what was read of a description if it has one."""
    if not is_own(data):
        return load_data(data), None
    name = Path(data).name.partition(".")[0]
    described = read_described(section_of(data), name, memory=_memory(data))
    for part, each in described.splits.parts.items():
        each.check(part)
    return described.splits, described


def few_of(splits: Splits) -> Splits:
    """The first samples of each part of data that stay on disk; of others all."""
    if not splits.train.streamed:
        return splits
    return splits.map(lambda part, data: data.first(LOOKED))


def _memory(data: str) -> Memory:
    """What the data may take in memory, in GB."""
    given = section_of(data).get("memory", AUTO) if is_own(data) else AUTO
    return typed(Memory, given, "data.memory")


def print_summary(about: Summary, console: Console) -> None:
    """The summary as tables."""
    sizes = ", ".join(f"{n:,} {part}" for part, n in about.samples.items())
    say(console, f"{about.name}: {sum(about.samples.values()):,} samples ({sizes})\n")
    console.print(_modalities(about))
    if about.columns:
        console.print()
        console.print(_columns(about))
    if len(about.columns) > LISTED:
        say(console, f"... and {len(about.columns) - LISTED:,} more columns (--out writes all).")
    if about.left_out:
        say(console, "\nLeft out:")
        for name, reason in list(about.left_out.items())[:LISTED]:
            say(console, f"  {name}: {reason}")
    console.print()
    console.print(_patterns(about))
    for title, sentences in (("Look at", about.suspicious), ("Notes", about.notes)):
        if sentences:
            say(console, f"\n{title}:")
            for sentence in sentences[:LISTED]:
                say(console, f"  {sentence}")


def _table(title: str, *names: str, numbers: tuple[str, ...] = ()) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    table.min_width = len(title) + 2
    table.padding = (0, 2, 0, 0)
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(_short(str(cell))) for cell in cells))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _modalities(about: Summary) -> Table:
    total = sum(about.samples.values())
    names = ("name", "kind", "shape", "present", "values", "standardised")
    table = _table("Modalities", *names, numbers=("present",))
    for m in about.modalities:
        share = f"{m.present:,} ({m.present / total:.0%})"
        _row(table, m.name, m.kind, m.shape, share, m.range, m.scaling)
    return table


def _columns(about: Summary) -> Table:
    total = sum(about.samples.values())
    names = ("column", "modality", "type", "empty", "values", "standardised", "because")
    table = _table("Columns", *names, numbers=("empty",))
    for c in about.columns[:LISTED]:
        empty = f"{c.empty:,} ({c.empty / total:.0%})" if c.empty else "-"
        _row(table, c.name, c.modality, c.type, empty, c.range, c.scaling, c.reason)
    return table


def _patterns(about: Summary) -> Table:
    title = f"Missing: {about.empty_share:.1%}, in {about.number_of_patterns:,} patterns"
    table = _table(title, "samples", "missing together", numbers=("samples",))
    repeated = [p for p in about.patterns if p.samples > 1]
    for pattern in repeated:
        missing = ", ".join(pattern.missing[:6]) or "nothing"
        more = f" and {len(pattern.missing) - 6} more" if len(pattern.missing) > 6 else ""
        _row(table, f"{pattern.samples:,}", missing + more)
    if about.number_of_patterns > len(repeated):
        only = ", each of a single sample" if len(repeated) < len(about.patterns) else ""
        more = "more patterns" if repeated else "patterns"
        left = about.number_of_patterns - len(repeated)
        _row(table, "..." if repeated else "1", f"{left:,} {more}{only}")
    return table
