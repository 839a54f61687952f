"""`polymodal init`: a description of a user's files, with a comment for each guess."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from polymodal.batch import Modality
from polymodal.checks.yaml_text import WORDS
from polymodal.cli.console import say
from polymodal.cli.init_files import description_of_files, given
from polymodal.cli.inspect import print_summary
from polymodal.data.covariates import hint
from polymodal.data.described import Described, read_described
from polymodal.data.sources.cells import CellValues
from polymodal.data.sources.images import USUAL, Pictures
from polymodal.data.sources.table import Rows, Taken
from polymodal.data.suggestion import prefixed
from polymodal.data.summary import summary, unused
from polymodal.runs.files import write_output
from polymodal.settings.recommended import recommended

PLAIN = re.compile(r"[^\W\d][\w./() -]*")  # names that YAML reads as they stand
MOST_COLUMNS = 200  # of a modality, that are listed one by one
MANY = 2000  # features, of which fewer are worth a thought


def init_description(
    files: Sequence[str],
    out: Path | None,
    fields: Mapping[str, Any],
    groups: Mapping[str, str],
    force: bool,
    console: Console,
) -> None:
    """Writes a description of files, and prints what was understood.

    Args:
        files: tables, files of cells or arrays, folders of pictures, the main table first; each
            further one is a modality or several.
        out: the file that is written; None: beside the main table, with its name.
        fields: of the description: key, label, empty and encoding; None: not said.
        groups: {modality: columns with commas between}, of the main table.
        force: write over an older file.

    Raises ValueError for files that cannot be read, and a description that is there already.
    """
    known = given(files)
    target = out or known.root / f"{known.name}.yaml"
    if target.exists() and not force:
        raise ValueError(f"{target} exists; --force writes over it, --out names another file.")
    description = description_of_files(known, fields, groups)
    described = read_described(description.model_dump(), known.name)
    text = "".join(f"{line}\n" for line in _lines(described, files, bool(groups)))
    write_output(target, text.encode())
    print_summary(summary(described.splits, described), console)
    advice = recommended(described.splits)
    say(console, f"\nWrote {target}. Method {advice.method} ({advice.reason}).")
    if told := _hint(described):
        say(console, told)
    away = target.resolve().parent != known.root.resolve()
    folder = f" --data {known.root}" if away else ""
    say(console, f"Next: polymodal inspect {target}; polymodal train {target}{folder}")


def _hint(described: Described) -> str | None:
    """A sentence on a column that may be a covariate of counts."""
    description = described.description
    if description.file is None:
        return None
    place = description.place()
    free = set(place.table().columns) - set(place.taken[description.file])
    free -= {*_columns(described)}
    counts = [m.name for m in described.splits.modalities if m.kind == "counts"]
    columns = sorted(place.table().columns, key=lambda c: ":" in c)  # those of all cells first
    return hint(place.table(), [c for c in columns if c in free], counts)


# The text.


def _lines(described: Described, files: Sequence[str], named: bool) -> Iterator[str]:
    """The lines of a description."""
    description, splits = described.description, described.splits
    advice = recommended(splits)
    yield f"# What polymodal init understood of {', '.join(Path(f).name for f in files)}. Correct"
    yield "# what is wrong; polymodal inspect shows what is read, polymodal train trains it."
    yield f"method: {_flow({'name': advice.method, **advice.options})}  # {advice.reason}"
    yield f"training: {_flow(advice.training)}  # {advice.because}"
    if advice.networks:
        chosen = {_scalar(m): network for m, network in advice.networks.items()}
        yield f"networks: {_flow(chosen)}  # quick on a CPU"
    if advice.weights:
        weights = {_scalar(m): _flow({"weight": w}) for m, w in advice.weights.items()}
        yield f"modalities: {_flow(weights)}  # in training, so that pixels do not drown it"
    yield "data:"
    count = len(described.joined)
    if description.file is not None:
        yield f"  file: {_scalar(description.file)}  # {count:,} samples"
    for field, about in (("key", "names the samples"), ("label", "classes, for metrics")):
        if value := getattr(description, field):
            yield f"  {field}: {_scalar(value)}  # {about}"
    yield "  split: {val: 0.1, test: 0.1, seed: 0}  # or a column that says train, val or test"
    if description.encoding:
        yield f"  encoding: {_scalar(description.encoding)}"
    if description.empty:
        yield f"  empty: {json.dumps(list(description.empty), ensure_ascii=False)}"
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
        is_picture = isinstance(samples, Pictures)
        size = {"size": _modality_of(name, described).shape[1]} if is_picture else {}
        shown = {**section, **size}
        fields = ", ".join(f"{k}: {_value(v)}" for k, v in shown.items())
        yield f"    {_scalar(name)}: {{{fields}}}  # {_about(name, described)}"
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


def _modality_of(name: str, described: Described) -> Modality:
    (m,) = (m for m in described.splits.modalities if m.name == name)
    return m


def _about(name: str, described: Described) -> str:
    """What a modality that is no table is, in a comment."""
    samples, m = described.samples[name], _modality_of(name, described)
    size = " x ".join(map(str, m.shape))
    if isinstance(samples, Pictures):
        colour = "grey" if m.shape[0] == 1 else "colours"
        quicker = "; size: 32 takes a fourth of the time" if m.shape[1] == USUAL else ""
        return f"pictures, read as {m.shape[1]} x {m.shape[2]} in {colour}{quicker}"
    if m.vocabulary:
        return "texts, one in a cell"
    if isinstance(samples, CellValues):
        whole = samples.x.shape[1]
        if samples.used and samples.used < whole:
            fewer = f" of {whole:,} that vary most; features: null takes all"
        else:
            fewer = f"; features: {MANY} takes fewer" if whole > MANY else ""
        if m.kind != "counts":
            return f"numbers of {m.shape[0]:,} features{fewer}"
        return f"counts of {m.shape[0]:,} features{fewer}; counts: false if they are none"
    return f"{size} {'pixels' if m.kind == 'image' else 'numbers'}"


def _value(value: Any) -> str:
    """A field's value in YAML."""
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


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
