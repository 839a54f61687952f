"""What is given, as components of gradio, which is passed in as `gr`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from polymodal.app import html
from polymodal.app.inputs import Field, Input

MOST_OPEN = 16  # cells that are not folded
CANVAS = 256  # pixels of the width of what is drawn on
SMALL = 64  # pixels up to which pictures of colours can be drawn
NOT_GIVEN = ("not given", "")
PAINTS = ("#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#f0e442")
FILES = [".npy", ".npz", ".csv", ".wav", ".txt"]
DATA_URL = "data:image/png;base64,"


@dataclass(frozen=True)
class Asked:
    """The components of one modality.

    Args:
        input: how the modality is given.
        components: {what each stands for: component}: a column; or upload, drawing, text, file.
        tabs: of a picture, between uploading and drawing.
    """

    input: Input
    components: dict[str, Any] = field(default_factory=dict)
    tabs: Any = None

    def raw(self, values: Mapping[str, Any]) -> Any:
        """What `Input.read` reads, of the values of the components.

        Raises ValueError for a picture that is both uploaded and drawn.
        """
        if self.input.form == "cells":
            return values
        if self.input.form != "picture":
            return next(iter(values.values()))
        uploaded, drawn = values.get("upload"), picture_of(values.get("drawing"))
        if uploaded is not None and drawn is not None:
            name = self.input.modality.name
            raise ValueError(f"{name!r} is both uploaded and drawn; clear one of them.")
        return drawn if uploaded is None else uploaded

    def values(self, raw: Any) -> dict[Any, Any]:
        """{component: its value} that give `raw`; None: nothing."""
        if self.input.form == "cells":
            return {c: (raw or {}).get(name, "") for name, c in self.components.items()}
        empty = {"text": "", "drawing": ""}
        given = {c: empty.get(name) for name, c in self.components.items()}
        if raw is not None:
            given[next(iter(self.components.values()))] = raw
        return given


def picture_of(drawing: str | None) -> bytes | None:
    """The PNG file in a data URL; None for a canvas without a stroke.

    Raises ValueError for another text.
    """
    if not drawing:
        return None
    try:
        return base64.b64decode(drawing.removeprefix(DATA_URL), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("A drawing must be a PNG file; wipe the canvas and draw again.") from None


def ask(gr: Any, asked: Input, paper: str) -> Asked:
    """The components of one modality, in a box of their own.

    Args:
        paper: the colour that is drawn on.
    """
    name, count = asked.modality.name, len(asked.fields) if asked.form == "cells" else 0
    label = f"{name}: {count} cells" if count > MOST_OPEN else name
    with gr.Accordion(label, open=count <= MOST_OPEN):
        if asked.form == "picture":
            with gr.Tabs() as tabs:
                return Asked(asked, dict(_picture(gr, asked, paper)), tabs)
        make = {"text": _text, "cells": _row, "file": _file}[asked.form]
        return Asked(asked, dict(make(gr, asked)))


def _picture(gr: Any, asked: Input, paper: str) -> Iterator[tuple[str, Any]]:
    channels, height, width = asked.modality.shape
    label = f"{asked.modality.name}, uploaded"
    with gr.Tab("Upload", id="upload"):
        yield "upload", _upload(gr, label)
    if channels == 1 or max(height, width) <= SMALL:
        with gr.Tab("Draw", id="drawing"):
            yield "drawing", _canvas(gr, asked, paper)


def _upload(gr: Any, label: str) -> Any:
    """An image whose file gradio does not open, so that what is wrong with it is said in a
    sentence. (A subclass would make gradio write a .pyi file beside this one.)
    """
    image = gr.Image(label=label, sources=["upload"], height=200, format="png", buttons=[])
    image.preprocess = lambda payload: uploaded(payload, image.GRADIO_CACHE)
    return image


def uploaded(payload: Any, folder: str) -> str | None:
    """The file that an uploaded picture lies in; None for none.

    gradio checks the paths of what calls itself a file of its own, and no others.

    Raises ValueError for a file outside the folder of uploads.
    """
    if payload is None or payload.path is None:
        return None
    if not Path(payload.path).resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError("A picture must be uploaded; the page takes no paths.")
    return payload.path


def _canvas(gr: Any, asked: Input, paper: str) -> Any:
    """A canvas whose value is a PNG file as a data URL, or ""."""
    channels, height, width = asked.modality.shape
    inks = ["white", "black"] if paper == "black" else ["black", "white"]
    colours = inks if channels == 1 else [*inks, *PAINTS]
    size = (CANVAS * height // width, CANVAS)
    return gr.HTML(
        "",
        html_template=html.canvas_html(asked.modality.name, size, paper, colours),
        js_on_load=(files("polymodal.app") / "canvas.js").read_text(),
        elem_classes="pm-canvas",
    )


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
        return gr.Dropdown(choices, value="", label=each.name, min_width=140)
    return gr.Textbox(label=each.name, placeholder=each.hint, min_width=140, max_lines=1)
