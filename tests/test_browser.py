"""`polymodal app` in a real Chromium: give one modality, see the others, change the subset, fill a
row, walk, upload what is no picture. Every request of the page and of the server to another machine
is refused and counted: there is none.

`make test` leaves these tests out: pytest -m browser.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from polymodal.cli import main as cli
from test_app import people

pytestmark = pytest.mark.browser
HERE = Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
NARROW = {"width": 420, "height": 900}
SECONDS = 60  # in which a server starts, or a button answers


@dataclass
class App:
    """A served run, and a page on it.

    Args:
        page: playwright's.
        url: of the server.
        refused: addresses that the page asked for.
        file: a line for each that the server asked for.
    """

    page: Any
    url: str
    file: Path
    refused: list[str] = field(default_factory=list)

    @property
    def others(self) -> list[str]:
        """All requests to other machines."""
        server = self.file.read_text().splitlines() if self.file.exists() else []
        return [*self.refused, *server]

    def press(self, name: str, says: str) -> str:
        """Presses a button and waits for what the status says."""
        self.page.get_by_role("button", name=name, exact=True).click()
        return self.says(says)

    def says(self, words: str) -> str:
        status = self.page.locator("#pm-status p", has_text=re.compile(words))
        status.wait_for(timeout=1000 * SECONDS)
        return status.inner_text()

    def tab(self, name: str, k: int = 0) -> None:
        self.page.get_by_role("tab", name=name, exact=True).nth(k).click()

    def pictures(self) -> int:
        """How many pictures the open tab shows."""
        return self.page.locator(".pm img:visible").count()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium of this machine; $POLYMODAL_CHROMIUM names another one."""
    from playwright.sync_api import sync_playwright

    found = os.environ.get("POLYMODAL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), "")
    if not found:
        pytest.fail("There is no Chromium; install Debian's package chromium.")
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=found, args=["--no-sandbox", rules])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, trained for seconds."""
    out = tmp_path_factory.mktemp("runs")
    (out / "people.csv").write_text(people(120))
    assert cli.run(["init", str(out / "people.csv"), "--out", str(out / "people.yaml")]) == 0
    for recipe, name, *more in (
        ("shapes-jnf", "shapes", "data.n=200", "training.epochs=2"),
        (str(out / "people.yaml"), "people", "training.epochs=20"),
    ):
        assert cli.run(["train", recipe, *more, "--out", str(out / name)]) == 0
    return out


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def started(run: Path, file: Path, *more: str) -> tuple[subprocess.Popen, str]:
    """A process that serves a run, and its address."""
    arguments = ["app", str(run), "--port", str(free_port()), *more]
    process = subprocess.Popen(
        [sys.executable, str(HERE / "refusing.py"), str(file), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(file.parent)},
    )
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"is at (http://\S+)", line):
            return process, found[1]
    raise AssertionError(said)


@dataclass(frozen=True)
class Served:
    """A run that is served; `file` has a line for each other machine that the server asked for."""

    url: str
    file: Path


def served(run: Path, folder: Path) -> Iterator[Served]:
    """A run, served until it is interrupted; its temporary folder is then gone."""
    process, url = started(run, folder / "refused")
    try:
        yield Served(url, folder / "refused")
    finally:
        assert len(list(folder.glob("polymodal-app-*"))) == 1
        process.terminate()  # an interrupt is ignored by processes of some shells' background
        try:
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
        assert not list(folder.glob("polymodal-app-*"))


@pytest.fixture(scope="module")
def served_shapes(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(runs / "shapes", tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def served_table(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    yield from served(runs / "people", tmp_path_factory.mktemp("served"))


def opened(browser: Any, run: Served, **context: Any) -> Iterator[App]:
    """A page on a served run. The page's own policy is off, so that all requests are counted."""
    pages = browser.new_context(bypass_csp=True, accept_downloads=True, **context)
    app = App(pages.new_page(), run.url, run.file)

    def check(route: Any) -> None:
        if urlsplit(route.request.url).hostname == "127.0.0.1":
            return route.continue_()
        app.refused.append(route.request.url)
        return route.abort()

    pages.route("**/*", check)
    app.page.goto(run.url)
    app.says("press Generate")
    yield app
    pages.close()


@pytest.fixture
def shapes(browser: Any, served_shapes: Served) -> Iterator[App]:
    yield from opened(browser, served_shapes)


@pytest.fixture
def table(browser: Any, served_table: Served) -> Iterator[App]:
    yield from opened(browser, served_table, viewport=NARROW, color_scheme="dark")


def uploaded(app: App, k: int, name: str, content: bytes) -> None:
    """Gives the k-th picture a file."""
    file = {"name": name, "mimeType": "image/png", "buffer": content}
    app.page.locator('input[type="file"]').nth(k).set_input_files(file)
    app.page.wait_for_timeout(1000)


def png(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def test_pictures_are_given_and_drawn(shapes: App) -> None:
    """Nothing, one modality by a file, the other one by drawing it, a walk, a test sample."""
    assert "Generated: square and circle; 8 draws" in shapes.press("Generate", "Nothing is given")
    assert shapes.pictures() == 16

    pixels = np.zeros((64, 64), np.uint8)
    pixels[16:48, 16:48] = 255
    uploaded(shapes, 0, "mine.png", png(pixels))
    said = shapes.press("Generate", "Given: square")
    assert said == "Given: square. Generated: circle; 8 draws, seed 0."
    assert shapes.pictures() == 1 + 8
    assert shapes.page.get_by_text("64 × 64 pixels was scaled to 32 × 32").is_visible()
    assert shapes.page.get_by_text("The 8 draws agree by").is_visible()
    with shapes.page.expect_download() as waiting:
        shapes.page.get_by_text("Download (.zip)").click()
    names = zipfile.ZipFile(waiting.value.path()).namelist()
    assert names == ["generated.npz", "circle.png"]

    shapes.tab("Latent")
    shapes.press("Walk", "Dimension z. of the latent, moved")
    assert shapes.pictures() == 2 * 9
    assert shapes.page.get_by_text("Shares of the variance that it moves: square").is_visible()

    shapes.press("Clear", "Nothing is given")
    shapes.tab("Draw", 1)
    box = shapes.page.locator("canvas:visible").bounding_box()
    shapes.page.mouse.move(box["x"] + 40, box["y"] + 128)
    shapes.page.mouse.down()
    shapes.page.mouse.move(box["x"] + 200, box["y"] + 128, steps=5)
    shapes.page.mouse.up()
    assert "Generated: square;" in shapes.press("Generate", "Given: circle")
    assert shapes.pictures() == 1 + 8  # of the tab that was opened by it

    shapes.tab("Test samples")
    shapes.press("Give to the model", "Of it square is given")
    assert shapes.press("Generate", "Given: square") == said
    assert shapes.others == []


def test_a_bad_upload_is_told_in_a_sentence(shapes: App) -> None:
    shapes.press("Generate", "Nothing is given")
    uploaded(shapes, 0, "mine.png", b"this is no picture")
    said = shapes.press("Generate", "cannot be read")
    assert said.startswith("mine.png cannot be read, since it is no picture")
    assert shapes.page.locator("#pm-status [role=alert]").count() == 1
    assert shapes.pictures() == 16  # those of before
    shapes.press("Clear", "Nothing is given")
    uploaded(shapes, 0, "large.png", os.urandom(6_000_000))
    shapes.page.wait_for_timeout(1000)
    assert "Nothing is given" in shapes.press("Generate", "Generated")  # it was not taken
    assert shapes.others == []


def test_a_row_is_filled_on_a_narrow_and_dark_page(table: App) -> None:
    page = table.page
    page.get_by_label("age").fill("41.5")
    page.get_by_label("city").click()
    page.get_by_role("option", name="Oslo").click()
    said = table.press("Generate", "Given")
    assert said == "Given: part of table. Generated: the rest of table; 8 draws, seed 0."
    cells = page.locator("table.filled tr.given")
    assert [row.inner_text().split() for row in cells.all()] == [
        ["age", "41.5", "given"],
        ["city", "Oslo", "given"],
    ]
    filled = page.locator("table.filled tbody tr:not(.given)").all()
    rest = [row.inner_text() for row in filled]
    assert len(rest) == 3 and re.search(r"children\s+\d+\s+\d+ to \d+", rest[1])
    assert re.search(r"smoker\s+(yes|no)\s+\d+%", rest[0])
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    page.get_by_label("age").fill("old")
    assert table.press("Generate", "must be") == "'age' must be a number, got 'old'."
    page.get_by_label("age").fill("")
    table.press("Generate", "Given")
    assert cells.count() == 1
    assert table.others == []


def test_requests_to_other_machines_are_counted(shapes: App, tmp_path: Path) -> None:
    """The counters of the tests above see one of the page and one of the server."""
    fetched = "fetch('http://203.0.113.1/').then(() => 'came', () => 'refused')"
    assert shapes.page.evaluate(fetched) == "refused"
    assert shapes.others == ["http://203.0.113.1/"]
    deliberate = [str(HERE / "refusing.py"), str(tmp_path / "one"), "connect", "203.0.113.1"]
    done = subprocess.run([sys.executable, *deliberate], capture_output=True, text=True)
    assert "203.0.113.1 is refused" in done.stderr
    assert (tmp_path / "one").read_text() == "203.0.113.1\n"


def test_the_policy_keeps_the_page_here(browser: Any, served_shapes: Served) -> None:
    """Without the tests' own refusals the browser itself refuses; no file is served, and no page
    on the interface.
    """
    page, url = browser.new_page(), served_shapes.url
    page.goto(url)
    page.get_by_role("button", name="Generate").wait_for()
    blocked = (
        "new Promise(done => { document.addEventListener('securitypolicyviolation',"
        " e => done(e.blockedURI)); fetch('http://203.0.113.1/x').catch(() => 0); })"
    )
    assert page.evaluate(blocked) == "http://203.0.113.1/x"
    for place in ("docs", "openapi.json", "redoc"):
        assert page.request.get(f"{url}{place}").status == 404
    assert page.request.get(f"{url}gradio_api/file={Path(__file__)}").status in (403, 404)
    page.close()


def asked_directly(page: Any, url: str, path: str) -> str:
    """What the server says to a request of its own making, for a file at `path`."""
    config = page.evaluate("window.gradio_config")
    types = {c["id"]: c["type"] for c in config["components"]}
    draw = next(d for d in config["dependencies"] if d["api_name"] == "draw")
    values: dict[str, Any] = {"slider": 2, "number": 0, "html": ""}
    values["image"] = {"path": path, "meta": {"_type": "gradio.FileData"}}
    data = [values[types[c]] for c in draw["inputs"]]
    body = {"data": data, "fn_index": draw["id"], "session_hash": "asked"}
    page.request.post(f"{url}gradio_api/queue/join", data=body)
    return page.request.get(f"{url}gradio_api/queue/data?session_hash=asked").text()


def test_no_path_and_no_address_is_taken_from_the_page(shapes: App, tmp_path: Path) -> None:
    """Neither a picture on the server's disk nor one of another machine, which gradio would fetch:
    what it asks for (also how the other is called) is refused, here by the test, and by the app
    itself as tests/test_app.py shows.
    """
    picture = tmp_path / "secret.png"
    picture.write_bytes(png(np.full((32, 32), 99, np.uint8)))
    for path in (str(picture), "http://203.0.113.1/x.png", f"{shapes.url}favicon.ico"):
        said = asked_directly(shapes.page, shapes.url, path)
        assert '"success":false' in said and '"success":true' not in said, path
    assert set(shapes.others) <= {"203.0.113.1", "dns.google"}
    shapes.file.unlink(missing_ok=True)


def test_a_port_that_is_taken_is_told(runs: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        arguments = [str(tmp_path / "none"), "app", str(runs / "shapes"), "--port", port]
        done = subprocess.run(
            [sys.executable, str(HERE / "refusing.py"), *arguments], capture_output=True, text=True
        )
    assert done.returncode == cli.USER_ERROR
    assert done.stderr.startswith(f"Port {port} of 127.0.0.1 is taken")
    assert done.stderr.count("\n") == 1
