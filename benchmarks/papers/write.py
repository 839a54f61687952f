"""Writes benchmarks/papers/papers.md: what papers publish beside what is measured here.

    python benchmarks/papers/write.py [--out FILE]

Reads published.yaml, claims.yaml and rows.yaml of this folder, and all results of
benchmarks/results/papers, which `train.py` writes.
"""

from __future__ import annotations

import argparse
import string
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import yaml  # noqa: E402
from papers import claims as rules  # noqa: E402
from papers import figures as data  # noqa: E402
from papers.figures import Figure, Figures, PaperTable, Setup  # noqa: E402

from polymodal.metrics.table import shown  # noqa: E402

PAGE = HERE / "papers.md"
INTRO = """\
What the papers and slides behind this library report and claim, and what is measured here: first the figures, table by
table, then the claims about them, then everything that they describe, row by row. Misses are shown like hits.
`python benchmarks/papers/write.py` writes this page from `benchmarks/papers/published.yaml`, `claims.yaml` and
`rows.yaml` beside it, and the results in `benchmarks/results/papers`.
"""
FRECHET = """\
**Fréchet distances and FID.** The papers' FID uses Inception features. Ours, where the column says "distance", is the
Fréchet distance in the features of our own classifiers: another scale and other features, so that the two **cannot be
compared**; at most the order of models can.
"""
ERRORS = """\
The standard error of ours is over seeds where there are two or more, else over test items of one seed (a mean over
subsets: at most so much). Published numbers stand as printed, with the paper's standard deviation over trainings where it
has one; claims are judged by that divided by the square root of the number of trainings.
"""
ROWS = """\
`jnf` is `senellart2023`, `jnf-slides` K. Yakovlev's slides on it; `mvae-slides` are A. Kumar's and `mmvae-slides`
K. Petrushina's on MVAE and MMVAE, `sbm-slides` K. Yakovlev's on score-based autoencoders and score ratio matching.
"""
OWN = ("quantity", "model", "ours", "standard error", "over", "set-up")
TABLE = ("quantity", "model", "published", "ours", "standard error", "over", "set-up")
WORDS = {
    "coherence": "coherence",
    "fid": "FID",
    "frechet": "distance",
    "probe": "linear probe",
    "conditional_log_likelihood": "log-likelihood",
    "joint_log_likelihood": "log-likelihood of all",
    "joint_coherence": "joint coherence",
    "classifier_accuracy": "accuracy",
    "synergy": "log p",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    out = parser.parse_args().out
    out.write_text(page())
    print(f"Wrote {out}")
    for line in reminders():
        print(line)


def reminders(results: Path = data.RESULTS) -> Iterator[str]:
    """Rows with a verdict of their own that their claims, as far as they are measured, contradict."""
    content = data.published()
    ours = data.measured(data.setups(results), content["labels"])
    decided = _decided(data.paper_tables(content), ours)
    for entry in rows():
        found = verdict_of({**entry, "verdict": rules.COMPUTED}, decided)
        if found not in (entry["verdict"], rules.UNKNOWN) and entry["verdict"] != rules.COMPUTED:
            yield f"Row {entry['row']} says {entry['verdict']!r}, its claims say {found!r}."


def page(results: Path = data.RESULTS) -> str:
    """The whole page, from the results in a folder."""
    content, found = data.published(), data.setups(results)
    tables, ours = data.paper_tables(content), data.measured(found, content["labels"])
    letters = dict(zip(found, _letters(), strict=False))
    parts = ["# What the papers report, and what is measured here\n", INTRO, FRECHET, ERRORS]
    parts += [_protocols(content), _setups(found, letters)]
    parts += ["## Figures\n"]
    parts += [_table(table, content, ours, letters) for table in tables]
    parts += [_unpublished(tables, ours, letters)]
    decided = _decided(tables, ours)
    parts += [_claims(decided, letters), _rows(rows(), decided)]
    return "\n".join(parts)


def rows() -> list[dict[str, Any]]:
    """The entries of rows.yaml."""
    return yaml.safe_load((HERE / "rows.yaml").read_text())


def _letters() -> Iterator[str]:
    """a, b, ..., z, aa, ab, ..."""
    for first in ("", *string.ascii_lowercase):
        yield from (first + second for second in string.ascii_lowercase)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(c.replace('|', ', ') for c in line)} |\n" for line in cells)


def _protocols(content: Mapping[str, Any]) -> str:
    """Where the figures come from, and how they were measured."""
    sources = "".join(f"- `{name}`: {words}\n" for name, words in content["sources"].items())
    header = ("protocol", "classifier", "FID", "draws", "test items", "ours")
    keys = ("classifier", "fid", "samples", "test_items", "ours")
    lines = [(f"`{name}`", *(p[key] for key in keys)) for name, p in content["protocols"].items()]
    return f"## Sources\n\n{sources}\n## How figures were measured\n\n{markdown(header, lines)}"


def _setups(found: Mapping[str, Setup], letters: Mapping[str, str]) -> str:
    text = "## Our set-ups\n\n"
    if not found:
        return text + "No results yet: `benchmarks/results/papers` has no file.\n"
    header = ("set-up", "what differs from the papers", "machine", "results")
    lines = [
        (letters[s.name], s.differs, s.machine, ", ".join(f"`{f}`" for f in s.files))
        for s in found.values()
    ]
    trained = [line for s in found.values() for line in _trained(s, letters[s.name])]
    header_of_runs = ("set-up", "model", "seeds", "epochs", "minutes", "commit")
    return text + markdown(header, lines) + "\n" + markdown(header_of_runs, trained)


def _trained(setup: Setup, letter: str) -> Iterator[tuple[str, ...]]:
    """A line for each model of a set-up: its seeds, epochs, minutes and commits."""
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for run in setup.runs:
        by_label.setdefault(run["label"], []).append(run)
    for label, runs in by_label.items():
        seeds = ", ".join(str(run["seed"]) for run in runs)
        epochs = "; ".join(dict.fromkeys(_epochs(run) for run in runs))
        minutes = [_minutes(run) for run in runs]
        commits = dict.fromkeys(str(run.get("commit") or "")[:7] for run in runs)
        mean = f"{sum(minutes) / len(minutes):.0f}"
        yield letter, label, seeds, epochs, mean, ", ".join(commits)


def _epochs(run: Mapping[str, Any]) -> str:
    trained = run.get("epochs") or {}
    return ", ".join(f"{stage} {n}" for stage, n in trained.items() if n is not None)


def _minutes(run: Mapping[str, Any]) -> float:
    seconds = (s for s in (run.get("seconds") or {}).values() if s)
    return run["minutes"] if "minutes" in run else sum(seconds) / 60


def _table(
    table: PaperTable,
    content: Mapping[str, Any],
    ours: Mapping[str, Figures],
    letters: Mapping[str, str],
) -> str:
    about = {
        "Source": f"`{table.source}`",
        "Protocol": f"`{table.protocol}`",
        "Training": table.training,
        "Standard deviations": table.spread,
        "Note": table.note.removesuffix("."),
    }
    text = " ".join(f"{name}: {words}." for name, words in about.items() if words)
    lines = list(_lines(table, content["models"], ours, letters))
    if not any(line[-1] for line in lines):
        return (
            f"### {table.title}\n\n{text} Not measured here.\n\n{_grid(table, content['models'])}"
        )
    return f"### {table.title}\n\n{text}\n\n{markdown(TABLE, lines)}"


def _grid(table: PaperTable, models: Mapping[str, str]) -> str:
    """The published numbers, a line for each model."""
    lines = [
        (models[model], *(_printed(table, model, quantity) for quantity in table.quantities))
        for model in dict.fromkeys(model for model, _ in table.figures)
    ]
    return markdown(("model", *map(_in_words, table.quantities)), lines)


def _printed(table: PaperTable, model: str, quantity: str) -> str:
    figure = table.figures.get((model, quantity))
    return figure.printed if figure else ""


def _lines(
    table: PaperTable,
    models: Mapping[str, str],
    ours: Mapping[str, Figures],
    letters: Mapping[str, str],
) -> Iterator[tuple[str, ...]]:
    """A line for each published number and each set-up that has ours."""
    for quantity in table.quantities:
        for (model, name), figure in table.figures.items():
            if name == quantity:
                for match in _matches(table.data, model, quantity, ours) or [None]:
                    yield _line(quantity, models[model], figure, match, letters)


def _matches(
    of: str, model: str, quantity: str, ours: Mapping[str, Figures]
) -> list[Figure | None]:
    """Our figures of a published quantity, of each set-up."""
    found = (data.lookup(figures, of, model, quantity) for figures in ours.values())
    return [figure for figure in found if figure is not None]


def _line(
    quantity: str,
    model: str,
    published: Figure,
    match: Figure | None,
    letters: Mapping[str, str],
) -> tuple[str, ...]:
    first = (_in_words(quantity), model, published.printed)
    if match is None:
        return (*first, "not measured", "", "", "")
    value, _, error = shown(match.value, match.se).partition(" ± ")
    is_other = match.metric != published.metric
    value = f"distance {value}" if is_other else value
    return (*first, value, error or "unknown", match.of, letters[match.setup])


def _unpublished(
    tables: Sequence[PaperTable], ours: Mapping[str, Figures], letters: Mapping[str, str]
) -> str:
    """Our figures of published quantities by models of which a paper has none on that data."""
    printed = {(table.data, model) for table in tables for model, _ in table.figures}
    quantities = {(table.data, quantity) for table in tables for quantity in table.quantities}
    lines = []
    for figures in ours.values():
        for (of, model, quantity), figure in figures.items():
            if (of, quantity) in quantities and (of, model) not in printed:
                value, _, error = shown(figure.value, figure.se).partition(" ± ")
                words = f"{of}: {_in_words(quantity)}"
                lines.append((words, model, value, error, figure.of, letters[figure.setup]))
    if not lines:
        return ""
    return f"### Models of ours without a published figure\n\n{markdown(OWN, lines)}"


def _in_words(quantity: str) -> str:
    """A quantity for people.

    >>> _in_words("coherence svhn->mnist"), _in_words("coherence 2->others")
    ('coherence, mnist given svhn', 'coherence, others given 2')
    """
    metric, given, target = data.split(quantity)
    words = WORDS.get(metric, metric.replace("_", " "))
    if not target:
        return words
    what = words if target == "z" else f"{words}, {target}"
    return f"{what} given {' and '.join(given)}" if given else what


Decided = Sequence[tuple[rules.Claim, str, str, list[str]]]


def _decided(tables: Sequence[PaperTable], ours: Mapping[str, Figures]) -> Decided:
    """Each claim with the verdict of the published figures, that of ours, and their set-ups."""
    printed = data.by_quantity(tables)
    return [
        (claim, rules.in_print(claim, printed), *rules.in_ours(claim, ours))
        for claim in rules.claims()
    ]


def _claims(decided: Decided, letters: Mapping[str, str]) -> str:
    header = ("row", "claim", "where", "published figures", "ours", "set-up")
    lines = [
        (
            str(claim.row),
            claim.words,
            claim.where,
            "no numbers" if printed == rules.UNKNOWN else printed,
            f"**{found}**",
            ", ".join(letters[setup] for setup in used),
        )
        for claim, printed, found, used in sorted(decided, key=lambda entry: entry[0].row)
    ]
    rule = (
        "Decided by the rules of `benchmarks/papers/claims.yaml`: a difference counts from two of its"
        ' standard errors on (the larger of those over seeds and over items); between stands "not'
        ' decided". The published figures are judged by the same rules.\n'
    )
    return f"## Claims about figures\n\n{rule}\n{markdown(header, lines)}"


def _rows(entries: Sequence[Mapping[str, Any]], decided: Decided) -> str:
    verdicts = {entry["row"]: verdict_of(entry, decided) for entry in entries}
    count = Counter(verdicts.values())
    summary = ", ".join(f"{v} {count[v]}" for v in rules.VERDICTS if count[v])
    text = f"## Row by row\n\n{len(entries)} things that the papers and slides describe or claim:"
    text += f" {summary}. {ROWS}\n"
    return text + "".join(_row(entry, verdicts[entry["row"]]) for entry in entries)


def verdict_of(entry: Mapping[str, Any], decided: Decided) -> str:
    """The verdict of a row, from its claims in our figures where it says so: those that are
    measured, and "partly" where these hold and others are open.
    """
    if entry["verdict"] != rules.COMPUTED:
        return entry["verdict"]
    every = [found for claim, _, found, _ in decided if claim.row == entry["row"]]
    known = [found for found in every if found != rules.UNKNOWN]
    verdict = rules.together(known)
    return rules.PARTLY if len(known) < len(every) and verdict == rules.HOLDS else verdict


def _row(entry: Mapping[str, Any], verdict: str) -> str:
    evidence = ", ".join(f"`{path}`" for path in entry["evidence"])
    text = f"{entry['row']}. {entry['claim']} ({entry['where']}): **{verdict}**. {entry['words']}"
    return f"{text} {evidence}\n" if evidence else f"{text}\n"


if __name__ == "__main__":
    main()
