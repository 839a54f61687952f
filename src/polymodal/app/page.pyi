"""The page over a `Service`: gradio's components and what they call. gradio is imported when a page
is made.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from polymodal.app import html
from polymodal.app.inputs import Field, Input
from polymodal.app.service import MOST_DRAWS, Service

log = logging.getLogger("polymodal")

DRAWS = 8
CANVAS, BRUSH = 256, 22  # pixels of what is drawn on, and of a stroke
SMALL = 64  # pixels up to which pictures of colours can be drawn
NOT_GIVEN = ("not given", "")
PAINTS = ["#ffffff", "#000000", "#0072b2", "#e69f00", "#009e73", "#d55e00", "#f0e442", "#56b4e9"]
FILES = [".npy", ".npz", ".csv", ".wav", ".txt"]
FAILED = "This failed in a way that was not expected; the terminal says how."


@dataclass(frozen=True)
class Asked:
    """The components of one modality.

    Args:
        input: how the modality is given.
        components: {what each stands for: component}: a column; or upload, drawing, text, file.
    """

    input: Input
    components: dict[str, Any] = field(default_factory=dict)

    def raw(self, values: Mapping[str, Any]) -> Any:
        """What `Input.read` reads, of the values of the components.

        Raises ValueError for a picture that is both uploaded and drawn.
        """
        if self.input.form == "cells":
            return values
        if self.input.form != "picture":
            return next(iter(values.values()))
        given = [v for v in (values.get("upload"), _drawn(values.get("drawing"))) if v is not None]
        if len(given) > 1:
            name = self.input.modality.name
            raise ValueError(f"{name!r} is both uploaded and drawn; clear one of them.")
        return given[0] if given else None

    def values(self, raw: Any) -> list[Any]:
        """The values of the components that give `raw`; None: nothing."""
        if self.input.form == "cells":
            return [(raw or {}).get(name, "") for name in self.components]
        first = "" if raw is None and self.input.form == "text" else raw
        return [first, *[None] * (len(self.components) - 1)]


def _drawn(value: Any) -> Any:
    """A drawing as an array; None without a stroke."""
    picture = None if value is None else value.get("composite")
    return picture if picture is not None and picture[..., 3].any() else None


def make_page(service: Service, folder: Path) -> Any:
    """gradio's Blocks.

    Args:
        folder: for files that are downloaded.
    """
    import gradio as gr

    with gr.Blocks(title=service.title, analytics_enabled=False) as page:
        gr.HTML(html.header(service))
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                asked = [_modality(gr, i) for i in service.inputs.values()]
                with gr.Row():
                    n = gr.Slider(1, MOST_DRAWS, DRAWS, step=1, label="Draws", min_width=140)
                    seed = gr.Number(0, label="Seed", minimum=0, precision=0, min_width=100)
                with gr.Row():
                    clear = gr.Button("Clear", min_width=100)
                    go = gr.Button("Generate", variant="primary", min_width=140)
            with gr.Column(scale=3, min_width=320):
                status = gr.HTML(
                    html.status_html("Give something, or nothing, and press Generate.")
                )
                parts = Parts(gr, service, folder, asked, n, seed, status)
                with gr.Tabs():
                    parts.draws(go, clear)
                    parts.walk()
                    parts.samples()
                    with gr.Tab("About"):
                        gr.HTML(html.about_html(service))
    return page


# What is given.


def _modality(gr: Any, asked: Input) -> Asked:
    """The components of one modality in a box of their own."""
    make = {"picture": _picture, "text": _text, "cells": _row, "file": _file}[asked.form]
    with gr.Accordion(asked.modality.name, open=True):
        return Asked(asked, dict(make(gr, asked)))


def _picture(gr: Any, asked: Input) -> Iterator[tuple[str, Any]]:
    channels, height, width = asked.modality.shape
    name = f"{asked.modality.name}, uploaded"
    with gr.Tab("Upload"):
        yield "upload", _upload_class(gr)(label=name, sources=["upload"], height=200, format="png")
    if channels == 1 or max(height, width) <= SMALL:
        with gr.Tab("Draw"):
            yield (
                "drawing",
                gr.ImageEditor(
                    label=f"{asked.modality.name}, drawn",
                    sources=(),
                    transforms=(),
                    layers=False,
                    buttons=[],
                    image_mode="RGBA",
                    type="numpy",
                    format="png",
                    canvas_size=(CANVAS, CANVAS * height // width),
                    fixed_canvas=True,
                    height=360,
                    brush=gr.Brush(
                        default_size=BRUSH,
                        colors=PAINTS[:2] if channels == 1 else PAINTS,
                        default_color=PAINTS[0],
                        color_mode="fixed",
                    ),
                    elem_classes="pm-canvas",
                ),
            )


def _upload_class(gr: Any) -> Any:
    """An image that is not read by gradio, so that what is wrong with it is said in a sentence."""
from gradio.events import Dependency

    class Upload(gr.Image):
        is_template = True

        def preprocess(self, payload: Any) -> str | None:
            return None if payload is None else payload.path

    return Upload


def _text(gr: Any, asked: Input) -> Iterator[tuple[str, Any]]:
    yield "text", gr.Textbox(label=asked.modality.name, placeholder="not given", lines=2)


def _file(gr: Any, asked: Input) -> Iterator[tuple[str, Any]]:
    sizes = " × ".join(map(str, asked.modality.shape))
    label = f"{asked.modality.name}: a file of one value of shape {sizes}"
    yield "file", gr.File(label=label, file_types=FILES, type="filepath", height=120)


def _row(gr: Any, asked: Input) -> Iterator[tuple[str, Any]]:
    with gr.Row():
        for each in asked.fields:
            yield each.name, _cell(gr, each)


def _cell(gr: Any, each: Field) -> Any:
    if each.choices:
        choices = [NOT_GIVEN, *each.choices]
        return gr.Dropdown(choices, value="", label=each.name, min_width=140, filterable=True)
    return gr.Textbox(label=each.name, placeholder=each.hint, min_width=140, max_lines=1)


# What is said.


@dataclass
class Parts:
    """The tabs of the page.

    Args:
        gr: gradio.
        folder: for files that are downloaded.
        asked: what is given, by modality.
        n, seed, status: components.
    """

    gr: Any
    service: Service
    folder: Path
    asked: Sequence[Asked]
    n: Any
    seed: Any
    status: Any

    @property
    def components(self) -> list[Any]:
        """Those by which something is given."""
        return [c for each in self.asked for c in each.components.values()]

    def raw(self, values: Sequence[Any]) -> dict[str, Any]:
        """What is given, of the values of `components`."""
        left, given = list(values), {}
        for each in self.asked:
            own = {name: left.pop(0) for name in each.components}
            given[each.input.modality.name] = each.raw(own)
        return given

    def draws(self, go: Any, clear: Any) -> None:
        gr, service = self.gr, self.service
        with gr.Tab("Draws"):
            result = gr.HTML()
            download = gr.DownloadButton("Download (.zip)", interactive=False, size="sm")
        outputs = [self.status, result, download]

        def draw(n: Any, seed: Any, *values: Any) -> list[Any]:
            answer = service.draw(self.raw(values), int(n), _whole(seed))
            said = html.status_html(html.answer_status(answer, int(n), _whole(seed)))
            file = self._file(service.files(answer)) if answer.draws else None
            button = gr.DownloadButton(value=file, interactive=file is not None)
            return [said, html.answer_html(service, answer), button]

        go.click(
            self.said(draw, outputs),
            [self.n, self.seed, *self.components],
            outputs,
            api_visibility="private",
        )
        nothing = [v for each in self.asked for v in each.values(None)]
        cleared = [html.status_html("Nothing is given."), "", gr.DownloadButton(interactive=False)]
        clear.click(
            lambda: [*cleared, *nothing],
            None,
            [*outputs, *self.components],
            api_visibility="private",
        )

    def _file(self, content: bytes) -> str:
        """A file of its own, so that another browser's download stays what it was."""
        path = Path(tempfile.mkdtemp(dir=self.folder)) / "generated.zip"
        path.write_bytes(content)
        return str(path)

    def walk(self) -> None:
        gr, service = self.gr, self.service
        with gr.Tab("Walk along the latent") as tab:
            gr.HTML(
                html.status_html(
                    "Moves one dimension of the latent of the first draw, given what is given."
                )
            )
            choices = [(f"z{d}", d) for d in range(service.latent_size)]
            dimension = gr.Dropdown(choices, value=0, label="Dimension")
            go = gr.Button("Walk", variant="primary")
            result = gr.HTML()

        def named() -> Any:
            order = [(service.moved(d), d) for d in service.moves.order()]
            return gr.Dropdown(choices=order, value=order[0][1])

        def walk(d: Any, seed: Any, *values: Any) -> list[Any]:
            moved = service.walk(self.raw(values), int(d), _whole(seed))
            said = html.status_html(f"Dimension {int(d)} of the latent, moved.")
            return [said, html.walk_html(service, moved)]

        outputs = [self.status, result]
        tab.select(named, None, dimension, api_visibility="private")
        go.click(
            self.said(walk, outputs),
            [dimension, self.seed, *self.components],
            outputs,
            api_visibility="private",
        )

    def samples(self) -> None:
        gr, service = self.gr, self.service
        if service.data is None:
            return
        names = list(service.inputs)
        with gr.Tab("Test samples"):
            with gr.Row():
                last = len(service.data.test) - 1
                index = gr.Number(
                    0, label=f"Number, 0 to {last}", minimum=0, maximum=last, precision=0
                )
                chosen = gr.CheckboxGroup(names, value=names[:1], label="What is given of it")
            with gr.Row():
                look = gr.Button("Show", min_width=100)
                give = gr.Button("Give to the model", variant="primary", min_width=140)
            result = gr.HTML()
        outputs = [self.status, result]

        def show(index: Any) -> list[Any]:
            sample = service.sample(_whole(index))
            return [html.status_html(sample.text), html.sample_html(service, sample)]

        def fill(index: Any, chosen: Sequence[str]) -> list[Any]:
            sample = service.sample(_whole(index))
            raw = {m: sample.raw.get(m) if m in chosen else None for m in names}
            values = [v for each in self.asked for v in each.values(raw[each.input.modality.name])]
            given = [m for m in names if raw[m] is not None]
            text = f"{sample.text} Of it {', '.join(given) or 'nothing'} is given; press Generate."
            return [html.status_html(text), html.sample_html(service, sample), *values]

        every = [*outputs, *self.components]
        look.click(self.said(show, outputs), index, outputs, api_visibility="private")
        give.click(self.said(fill, every), [index, chosen], every, api_visibility="private")

    def said(self, act: Callable[..., list[Any]], outputs: Sequence[Any]) -> Callable[..., Any]:
        """`act`, whose errors become one sentence in the status; the other outputs then stay."""

        @wraps(act)
        def acting(*arguments: Any) -> list[Any]:
            try:
                return act(*arguments)
            except (ValueError, MemoryError) as error:
                text = str(error) or "There is not enough memory; lower the number of draws."
            except Exception:
                log.exception("The app failed.")
                text = FAILED
            return [html.error_html(text), *[self.gr.skip()] * (len(outputs) - 1)]

        return acting


def _whole(value: Any) -> int:
    """A number that a person typed. Raises ValueError for nothing."""
    if value is None:
        raise ValueError("A whole number from 0 is missing: the seed, or the sample's number.")
    return int(value)