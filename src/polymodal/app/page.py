"""The page over a `Service`: what its buttons do. gradio is imported when a page is made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

from polymodal.app import html
from polymodal.app.components import Asked, ask
from polymodal.app.download import keep
from polymodal.app.service import MOST_DRAWS, Service
from polymodal.checks import shown

log = logging.getLogger("polymodal")

DRAWS = 8
FIRST = "Give something, or nothing, and press Generate."
FAILED = "This failed in a way that was not expected; the terminal says how."
LATENT = "Moves one dimension of the latent of the first draw, given what is given."
KEPT = (3600, 86400)  # seconds: how often files are looked at, and how long they are kept
# On a narrow page, what was asked for lies below what was given.
SCROLL = """() => { if (window.innerWidth < 700)
  document.querySelector("#pm-status").scrollIntoView({ behavior: "smooth" }); }"""


def make_page(service: Service, folder: Path) -> Any:
    """gradio's Blocks.

    Args:
        folder: for files that are downloaded.
    """
    import gradio as gr

    with gr.Blocks(title=service.title, analytics_enabled=False, delete_cache=KEPT) as page:
        gr.HTML(html.header(service))
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=320):
                asked = [ask(gr, i, service.paper(m)) for m, i in service.inputs.items()]
                with gr.Row():
                    n = gr.Slider(1, MOST_DRAWS, DRAWS, step=1, label="Draws", min_width=140)
                    seed = gr.Number(0, label="Seed", minimum=0, precision=0, min_width=100)
                with gr.Row():
                    clear = gr.Button("Clear", min_width=100)
                    go = gr.Button("Generate", variant="primary", min_width=140)
            with gr.Column(scale=3, min_width=320):
                status = gr.HTML(html.status_html(FIRST), elem_id="pm-status")
                with gr.Tabs() as tabs:
                    actions = Actions(gr, service, folder, asked, n, seed, status, tabs)
                    actions.draws(go, clear)
                    actions.walk()
                    actions.samples()
                    with gr.Tab("About"):
                        gr.HTML(html.about_html(service))
    return page


@dataclass(frozen=True)
class Actions:
    """What the buttons do.

    Args:
        gr: gradio.
        folder: for files that are downloaded.
        asked: what is given, by modality.
        n, seed, status, tabs: components.
    """

    gr: Any
    service: Service
    folder: Path
    asked: Sequence[Asked]
    n: Any
    seed: Any
    status: Any
    tabs: Any

    @property
    def inputs(self) -> list[Any]:
        """The components by which something is given."""
        return [c for each in self.asked for c in each.components.values()]

    def raw(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """What is given, of the values of components."""
        return {
            each.input.modality.name: each.raw({k: values[c] for k, c in each.components.items()})
            for each in self.asked
        }

    def when(
        self,
        event: Callable[..., Any],
        act: Callable[[Mapping[Any, Any]], dict[Any, Any]],
        reads: Iterable[Any],
        writes: Iterable[Any],
    ) -> Any:
        """At an event `act` takes {component: value} of `reads` and returns those of `writes`, or
        of some of them.

        An error becomes one sentence in the status; all else then stays.
        """

        @wraps(act)
        def acting(values: Mapping[Any, Any]) -> dict[Any, Any]:
            try:
                return act(values)
            except (ValueError, MemoryError) as error:
                text = str(error) or "There is not enough memory; lower the number of draws."
            except Exception:
                log.exception("The app failed.")
                text = FAILED
            return {self.status: html.error_html(text)}

        outputs = [self.status, *writes]
        return event(acting, {*reads}, outputs, api_visibility="private", show_progress="minimal")

    # Tabs.

    def draws(self, go: Any, clear: Any) -> None:
        gr, service = self.gr, self.service
        with gr.Tab("Draws", id="draws"):
            result = gr.HTML()
            download = gr.DownloadButton("Download (.zip)", interactive=False, size="sm")

        def draw(values: Mapping[Any, Any]) -> dict[Any, Any]:
            n, seed = _whole(values[self.n], "Draws"), _whole(values[self.seed], "The seed")
            answer = service.draw(self.raw(values), n, seed)
            file = str(keep(self.folder, service.files(answer))) if answer.draws else None
            return {
                self.status: html.status_html(html.answer_status(answer, n, seed)),
                result: html.answer_html(service, answer),
                download: gr.update(value=file, interactive=file is not None),
                self.tabs: gr.update(selected="draws"),
            }

        def wipe(values: Mapping[Any, Any]) -> dict[Any, Any]:
            return {
                self.status: html.status_html("Nothing is given."),
                result: "",
                download: gr.update(value=None, interactive=False),
                **{c: v for each in self.asked for c, v in each.values(None).items()},
            }

        writes = [result, download]
        drawn = self.when(go.click, draw, [self.n, self.seed, *self.inputs], [*writes, self.tabs])
        drawn.then(None, js=SCROLL, api_visibility="private")
        self.when(clear.click, wipe, [self.n], [*writes, *self.inputs])

    def walk(self) -> None:
        gr, service = self.gr, self.service
        with gr.Tab("Latent") as tab:
            gr.HTML(html.status_html(LATENT))
            choices = [(f"z{d}", d) for d in range(service.latent_size)]
            dimension = gr.Dropdown(choices, value=0, label="Dimension, and what it moves")
            go = gr.Button("Walk", variant="primary")
            result = gr.HTML()

        def name(values: Mapping[Any, Any]) -> dict[Any, Any]:
            order = [(f"z{d}: {service.moved(d)}", d) for d in service.moves.order()]
            return {dimension: gr.update(choices=order, value=order[0][1])}

        def walk(values: Mapping[Any, Any]) -> dict[Any, Any]:
            d, seed = _whole(values[dimension], "Dimension"), _whole(values[self.seed], "The seed")
            moved = service.walk(self.raw(values), d, seed)
            return {
                self.status: html.status_html(f"Dimension z{d} of the latent, moved."),
                result: html.walk_html(service, moved),
            }

        self.when(tab.select, name, [self.n], [dimension])
        self.when(go.click, walk, [dimension, self.seed, *self.inputs], [result])

    def samples(self) -> None:
        gr, service = self.gr, self.service
        if service.data is None:
            return
        names, last = list(service.inputs), len(service.data.test) - 1
        with gr.Tab("Test samples"):
            with gr.Row():
                number = gr.Number(0, label=f"Number, 0 to {last}", minimum=0, precision=0)
                chosen = gr.CheckboxGroup(names, value=names[:1], label="What is given of it")
            with gr.Row():
                look = gr.Button("Show", min_width=100)
                give = gr.Button("Give to the model", variant="primary", min_width=140)
            result = gr.HTML()

        def show(values: Mapping[Any, Any]) -> dict[Any, Any]:
            sample = service.sample(_whole(values[number], "The number of the sample"))
            return {
                self.status: html.status_html(sample.text),
                result: html.sample_html(service, sample),
            }

        def fill(values: Mapping[Any, Any]) -> dict[Any, Any]:
            sample = service.sample(_whole(values[number], "The number of the sample"))
            raw = {m: v for m, v in sample.raw.items() if m in values[chosen]}
            given = f"{' and '.join(raw)} is given" if raw else "nothing is given"
            return {
                self.status: html.status_html(f"{sample.text} Of it {given}; press Generate."),
                result: html.sample_html(service, sample),
                **self.filled(raw),
            }

        pictures = [each.tabs for each in self.asked if each.tabs is not None]
        self.when(look.click, show, [number], [result])
        self.when(give.click, fill, [number, chosen], [result, *self.inputs, *pictures])

    def filled(self, raw: Mapping[str, Any]) -> dict[Any, Any]:
        """{component: value} that give `raw`, and nothing else."""
        given: dict[Any, Any] = {}
        for each in self.asked:
            given |= each.values(raw.get(each.input.modality.name))
            if each.tabs is not None:
                given[each.tabs] = self.gr.update(selected="upload")
        return given


def _whole(value: Any, what: str) -> int:
    """A number that a person typed. Raises ValueError for anything but a whole number.

    >>> _whole(3.0, "The seed")
    3
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{what} must be a whole number from 0, got {shown(value)}; type one.")
    return int(value)
