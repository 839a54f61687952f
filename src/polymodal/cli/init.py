"""`polymodal init`: a description of a user's tables, with a comment for each guess."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from polymodal.checks.yaml_text import WORDS
from polymodal.cli.console import say
from polymodal.cli.inspect import print_summary
from polymodal.data.described import Described, read_described
from polymodal.data.description import Description
from polymodal.data.sources.table import Rows, Taken
from polymodal.data.suggestion import modality_name, prefixed, suggested
from polymodal.data.summary import summary, unused
from polymodal.data.tables import is_table, read_table
from polymodal.runs.files import write_output
from polymodal.settings.recommended import recommended

PLAIN = re.compile(r"[^\W\d][\w./() -]*")  # names that YAML reads as they stand
MOST_COLUMNS = 200  # of a modality, that are listed one by one


def init_description(
    files: Sequence[str],
    out: Path | None,
    key: str | None,
    label: str | None,
    groups: Mapping[str, str],
    force: bool,
    console: Console,
) -> None:
    """Writes a description of tables, and prints what was understood.

    Args:
        files: the tables, the main one first; each further one is a modality.
        out: the file that is written; None: beside the main table, with its name.
        key: the column that names the samples.
        label: the column of labels.
        groups: {modality: columns with commas between}, of the main table.
        force: write over an older file.

    Raises ValueError for files that cannot be read, and a description that is there already.
    """
    section = _section(files, key, label)
    target = out or Path(section["path"]) / f"{Path(files[0]).name.partition('.')[0]}.yaml"
    if target.exists() and not force:
        raise ValueError(f"{target} exists; --force writes over it, --out names another file.")
    description = _with_modalities(Description(**section), files, groups)
    name = Path(files[0]).name.partition(".")[0]
    described = read_described(description.model_dump(), name)
    text = "".join(f"{line}\n" for line in _lines(described, files, bool(groups)))
    write_output(target, text.encode())
    print_summary(summary(described.splits, described), console)
    advice = recommended(described.splits)
    say(console, f"\nWrote {target}. Method {advice.method} ({advice.reason}).")
    away = target.resolve().parent != Path(section["path"]).resolve()
    folder = f" --data {section['path']}" if away else ""
    say(console, f"Next: polymodal inspect {target}; polymodal train {target}{folder}")


def _section(files: Sequence[str], key: str | None, label: str | None) -> dict[str, Any]:
    """The section `data` of tables, which lie in the folder of the main one or below it."""
    main = Path(files[0]).expanduser()
    for file in map(Path, files):
        if not is_table(file):
            hint = " An .npz file needs no description." if file.suffix == ".npz" else ""
            raise ValueError(
                "polymodal init describes tables (.csv, .tsv, .parquet, .feather), got"
                f" {file}.{hint}"
            )
        if not file.expanduser().resolve().is_relative_to(main.parent.resolve()):
            raise ValueError(
                f"{file} must lie in {main.parent}, the folder of {main}, or below it."
            )
    given = {"file": main.name, "path": str(main.parent), "key": key, "label": label}
    return {name: value for name, value in given.items() if value is not None}


def _with_modalities(
    description: Description, files: Sequence[str], groups: Mapping[str, str]
) -> Description:
    """The description with the modalities of all tables."""
    columns = {name: [c.strip() for c in text.split(",")] for name, text in groups.items()}
    whole = suggested(description, columns or None)
    modalities = dict(whole.modalities)
    folder = Path(description.path or ".").resolve()
    for file in files[1:]:
        path = Path(file).expanduser()
        name = modality_name(path.name.partition(".")[0])
        if name in modalities:
            raise ValueError(f"There are two modalities {name!r}; rename {file}.")
        read_table(path)  # so that what is wrong is said of this file
        modalities[name] = {"file": os.path.relpath(path.resolve(), folder)}
    return whole.model_copy(update={"modalities": modalities})


# The text.


def _lines(described: Described, files: Sequence[str], named: bool) -> Iterator[str]:
    """The lines of a description."""
    description, splits = described.description, described.splits
    advice = recommended(splits)
    yield f"# What polymodal init understood of {', '.join(Path(f).name for f in files)}. Correct"
    yield "# what is wrong; polymodal inspect shows what is read, polymodal train trains it."
    yield f"method: {_flow({'name': advice.method, **advice.options})}  # {advice.reason}"
    yield f"training: {_flow(advice.training)}  # {advice.because}"
    yield "data:"
    count = len(described.joined)
    yield f"  file: {_scalar(description.file or '')}  # {count:,} samples"
    for field, about in (("key", "names the samples"), ("label", "classes, for metrics")):
        if value := getattr(description, field):
            yield f"  {field}: {_scalar(value)}  # {about}"
    yield "  split: {val: 0.1, test: 0.1, seed: 0}  # or a column that says train, val or test"
    empty = _empty_words(described)
    yield f"  # Read as empty: {empty}. More words: empty: [...]"
    yield "  modalities:"
    if not named and len(prefixed(_columns(described))) > 1:
        yield "    # Grouped by the prefixes of the columns' names."
    for name, section in description.modalities.items():
        yield from _modality(name, section, described)
    for name, reason in list(unused(described).items())[:MOST_COLUMNS]:
        yield f"  # Left out: {_comment(name)} ({_comment(reason)})."


def _flow(values: Mapping[str, Any]) -> str:
    """A mapping in one line of YAML."""
    return f"{{{', '.join(f'{key}: {value}' for key, value in values.items())}}}"


def _columns(described: Described) -> list[str]:
    rows = (each for each in described.samples.values() if isinstance(each, Rows))
    return [taken.guess.name for each in rows for taken in each.taken]


def _empty_words(described: Described) -> str:
    """The words that were read as empty, and how often."""
    counts: dict[str, int] = {}
    for each in described.samples.values():
        for taken in each.taken if isinstance(each, Rows) else ():
            for word, n in taken.cells.empty.items():
                counts[word] = counts.get(word, 0) + n
    listed = (f"{json.dumps(word)} ({n:,} cells)" for word, n in counts.items())
    return ", ".join(listed) or "no word"


def _modality(name: str, section: Mapping[str, Any], described: Described) -> Iterator[str]:
    """The lines of one modality."""
    samples = described.samples[name]
    if not isinstance(samples, Rows):
        fields = ", ".join(f"{k}: {_scalar(v)}" for k, v in section.items())
        yield f"    {_scalar(name)}: {{{fields}}}  # texts, one in a cell"
        return
    yield f"    {_scalar(name)}:"
    if file := section.get("file"):
        yield f"      file: {_scalar(file)}"
    if len(samples.taken) > MOST_COLUMNS:
        yield f"      # {len(samples.taken):,} columns, whose types are guessed when they are read."
        if "columns" in section:
            yield f"      columns: {json.dumps(list(section['columns']), ensure_ascii=False)}"
        else:
            yield "      columns: null"
        return
    yield "      columns:"
    for taken in samples.taken:
        yield f"        {_scalar(taken.guess.name)}: {_type(taken)}  # {_because(taken)}"
    for guess in samples.left_out:
        yield f"        {_scalar(guess.name)}: drop  # {_comment(guess.reason)}"


def _type(taken: Taken) -> str:
    guess = taken.guess
    if guess.type == "bounded":
        return f"{{type: bounded, low: {guess.low:g}, high: {guess.high:g}}}"
    return guess.type


def _because(taken: Taken) -> str:
    """The reason of a guess, and how many cells are empty."""
    empty = int((~taken.cells.observed).sum())
    holes = f"; {empty:,} of {len(taken.cells.observed):,} cells are empty" if empty else ""
    return _comment(taken.guess.reason + holes)


def _comment(text: str) -> str:
    """Text in one line that can be printed."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _scalar(text: str) -> str:
    """A word as YAML reads it back.

    >>> _scalar("blood.iron"), _scalar("true"), _scalar("a: b")
    ('blood.iron', '"true"', '"a: b"')
    """
    is_plain = PLAIN.fullmatch(text) and text.strip() == text and text.lower() not in WORDS
    return text if is_plain and text.isascii() else json.dumps(text)
