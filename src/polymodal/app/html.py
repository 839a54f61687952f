"""What the service says, as HTML without scripts. Pictures are part of it: nothing is fetched."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape as escape_html

from polymodal.app.answer import Answer, Cell, Row
from polymodal.app.service import Service, TestSample, Walk
from polymodal.app.shown import Shown

SMALL, LARGE = 96, 320  # pixels on the page that pictures have at least and at most


def header(service: Service) -> str:
    """The title and what the page is for."""
    names, several = _and(service.inputs), len(service.inputs) > 1
    what = f"Give any of {names}, whole or in part" if several else f"Give a part of {names}"
    return (
        f'<div class="pm"><h1>{escape(service.title)}</h1>'
        f'<p class="soft">{escape(what)}; the model generates the rest.</p></div>'
    )


def about_html(service: Service) -> str:
    """What the run is."""
    said = [*service.about(), *([service.missing] if service.missing else [])]
    return _block(*(_p(text) for text in said))


def status_html(text: str) -> str:
    """A line on what happened."""
    return f'<div class="pm"><p role="status">{escape(text)}</p></div>'


def error_html(text: str) -> str:
    """A sentence on what went wrong."""
    return f'<div class="pm"><p role="alert" class="error">{escape(text)}</p></div>'


def answer_status(answer: Answer, n: int, seed: int) -> str:
    """What was given and what was drawn, in a sentence."""
    given = [f"part of {m}" if m in answer.draws else m for m in answer.given]
    drawn = [m for m in answer.draws if m not in answer.given]
    drawn += [f"the rest of {m}" for m in answer.draws if m in answer.given]
    said = f"Given: {_and(given)}." if given else "Nothing is given: joint draws."
    if not drawn:
        return f"{said} Nothing is left to generate; leave something out."
    return f"{said} Generated: {_and(drawn)}; {n} draws, seed {seed}."


def answer_html(service: Service, answer: Answer) -> str:
    """What was given, and the draws of everything else."""
    parts = [_p(note, "soft") for note in answer.notes]
    if answer.sampler:
        parts.append(_p(answer.sampler, "soft"))
        parts.append(
            _p(answer.warning or "Its diagnostics are good.", "warning" * bool(answer.warning))
        )
    whole = [m for m in answer.given if m not in answer.rows and answer.batch is not None]
    if whole and answer.batch is not None:
        figures = [_captioned(m, service.shown(m, answer.batch.x[m])) for m in whole]
        parts.append(f'<h2>Given</h2><div class="strip">{"".join(figures)}</div>')
    for m, draws in answer.draws.items():
        shown = service.shown(m, draws[:, 0])
        parts.append(f"<h2>{escape(m)}</h2>")
        parts.append(_p(answer.sure.get(m, ""), "soft"))
        if m in answer.rows:
            parts.append(row_html(answer.rows[m]))
            folded = f"<details><summary>{len(shown)} draws of the row, without noise</summary>"
            parts.append(f"{folded}{_values(shown, 'draw')}</details>")
        else:
            parts.append(_values(shown, f"draw of {m}"))
    return _block(*parts)


def row_html(row: Row) -> str:
    """A filled row as a table."""
    head = "".join(f'<th scope="col">{c}</th>' for c in ("column", "value", "how sure"))
    body = "".join(
        f'<tr class="{"given" if c.is_given else ""}"><th scope="row">{escape(c.column)}</th>'
        f"<td>{escape(c.value)}</td><td>{_sure(c)}</td></tr>"
        for c in row.cells
    )
    table = f'<table class="filled"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="wide">{table}</div>{_p(row.text, "soft")}'


def _sure(cell: Cell) -> str:
    if cell.is_given:
        return "given"
    if cell.probability is not None:
        share = f"{cell.probability:.0%}"
        return f'<span class="bar" style="--share:{share}" aria-hidden="true"></span> {share}'
    return f"{escape(cell.low)} to {escape(cell.high)}" if cell.low else ""


def walk_html(service: Service, walk: Walk) -> str:
    """One dimension moved: a strip for each modality."""
    low, high = float(walk.values[0]), float(walk.values[-1])
    said = (
        f"z{walk.dimension} goes from {low:.2g} to {high:.2g}, the other dimensions stay. Shares of"
        f" the variance that it moves: {walk.text}."
    )
    parts = [_p(said, "soft")]
    for m, x in walk.x.items():
        values = _values(service.shown(m, x), f"{m}, value", "strip row-of-values")
        parts.append(f"<h2>{escape(m)}</h2>{values}")
    return _block(*parts)


def sample_html(service: Service, sample: TestSample) -> str:
    """A test sample."""
    figures = [_captioned(m, service.shown(m, x)) for m, x in sample.x.items()]
    lacking = [m for m in service.inputs if m not in sample.x]
    lacks = _p(f"It lacks {_and(lacking)}.") if lacking else ""
    return _block(_p(sample.text), f'<div class="strip">{"".join(figures)}</div>', lacks)


def canvas_html(name: str, size: tuple[int, int], paper: str, inks: Sequence[str]) -> str:
    """A canvas of (height, width) pixels, and buttons for its colours, the first of them chosen.

    `canvas.js` makes it work.
    """
    height, width = size
    buttons = "".join(
        f'<button type="button" data-ink="{ink}" title="{ink}" aria-label="Draw in {ink}"'
        f' style="background: {ink}"></button>'
        for ink in inks
    )
    return (
        f'<canvas width="{width}" height="{height}" data-paper="{paper}" data-ink="{inks[0]}"'
        f' role="img" aria-label="Draw {escape(name)} here"></canvas><div class="inks">{buttons}'
        '<button type="button" class="words">Wipe</button></div>'
    )


# Pieces.


def escape(text: str) -> str:
    """Text in which no character means anything, also to gradio's templates.

    >>> escape("${a} <b>")
    '$&#123;a} &lt;b&gt;'
    """
    return escape_html(text).replace("{", "&#123;")


def _captioned(m: str, shown: Shown) -> str:
    return f"<figure><figcaption>{escape(m)}</figcaption>{_values(shown, m)}</figure>"


def _values(shown: Shown, what: str, name: str = "strip") -> str:
    """Values beside or below each other."""
    if shown.texts:
        items = "".join(f"<li>{escape(text) or '(empty)'}</li>" for text in shown.texts)
        return f"<ol>{items}</ol>"
    if shown.cells:
        return _table(shown, what)
    images = [_image(png, shown.size, f"{what} {k + 1}") for k, png in enumerate(shown.pictures)]
    return f'<div class="{name}">{"".join(images)}</div>'


def _image(png: bytes, size: tuple[int, int], alt: str) -> str:
    height, width = size
    scale = max(1, -(-SMALL // max(1, min(height, width))))
    scale = max(1, min(scale, LARGE // max(height, width)))
    data = base64.b64encode(png).decode()
    return (
        f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" width="{width * scale}"'
        f' height="{height * scale}">'
    )


def _table(shown: Shown, what: str) -> str:
    """Columns below each other, values beside each other."""
    numbers = "".join(f'<th scope="col">{k + 1}</th>' for k in range(len(shown)))
    body = "".join(
        f'<tr><th scope="row">{escape(column)}</th>{_cells(shown.cells, k)}</tr>'
        for k, column in enumerate(shown.columns)
    )
    head = f'<thead><tr><th scope="col">{what}</th>{numbers}</tr></thead>' if len(shown) > 1 else ""
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _cells(rows: Sequence[Sequence[str]], k: int) -> str:
    return "".join(f"<td>{escape(row[k]) or '–'}</td>" for row in rows)


def _p(text: str, name: str = "") -> str:
    return f'<p class="{name}">{escape(text)}</p>' if text else ""


def _block(*parts: str) -> str:
    return f'<div class="pm">{"".join(parts)}</div>'


def _and(names: Iterable[str]) -> str:
    """Names in a sentence.

    >>> _and(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
