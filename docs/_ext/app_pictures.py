"""The screenshots of docs/app.md: trains two small runs, serves them, looks at them in Chromium.

    python docs/_ext/app_pictures.py    # writes docs/_static/app-*.png; needs the extra browser

$POLYMODAL_CHROMIUM names another Chromium than that of the machine.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).resolve().parents[1] / "_static"
COMMAND = [sys.executable, "-m", "polymodal"]
GROUPS = ["--modalities", "person=age,smoker,city", "--modalities", "clinic=income,pressure"]
CITIES = ("Lyon", "Oslo", "Turin")
WIDE, NARROW = 1100, 420
COLOURS = 96  # of a picture


def people(rows: int = 400) -> str:
    """A table with holes."""
    r = np.random.default_rng(0)
    lines = ["age,smoker,city,income,pressure"]
    for _ in range(rows):
        age, smoker, city = r.uniform(20, 80), r.random() < 0.3, r.integers(3)
        income = np.exp(7.2 + 0.2 * city + 0.2 * r.normal())
        pressure = 105 + 0.5 * (age - 20) + 8 * smoker + 4 * r.normal()
        words = ["no", "yes"][smoker], CITIES[city]
        cells = [f"{age:.0f}", *words, f"{income:.0f}", f"{pressure:.0f}"]
        lines.append(",".join("" if r.random() < 0.1 else cell for cell in cells))
    return "\n".join(lines) + "\n"


def trained(folder: Path) -> None:
    """The runs folder/shapes and folder/people."""
    (folder / "people.csv").write_text(people())
    for arguments in (
        ["train", "shapes-jnf-dcca", "data.n=3000", "training.epochs=10", "--out", "shapes"],
        ["init", "people.csv", *GROUPS],
        ["train", "people.yaml", "training.epochs=150", "--out", "people"],
        ["evaluate", "people", "--metrics", "imputation"],
    ):
        subprocess.run([*COMMAND, *arguments], cwd=folder, check=True)


@contextmanager
def served(folder: Path, run: str) -> Iterator[str]:
    """The address of a run that is served."""
    command = [*COMMAND, "app", run]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = (re.search(r"is at (http://\S+)", line) for line in process.stdout)
        yield next(filter(None, found))[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


@contextmanager
def page_of(browser: Any, url: str, width: int, scheme: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    page.goto(url)
    page.get_by_role("button", name="Generate").wait_for()
    page.wait_for_timeout(1000)
    yield page
    page.close()


def press(page: Any, name: str, says: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
    page.locator("#pm-status p", has_text=re.compile(says)).wait_for(timeout=60_000)
    page.wait_for_timeout(500)


def shot(page: Any, name: str) -> None:
    """A screenshot of the whole page, in few colours, so that the file is small."""
    from PIL import Image

    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    image.quantize(COLOURS).save(OUT / f"{name}.png", optimize=True)


def shapes(browser: Any, url: str) -> None:
    """A square is drawn; a dimension is moved."""
    with page_of(browser, url, WIDE, "light") as page:
        page.get_by_role("tab", name="Draw", exact=True).first.click()
        box = page.locator("canvas:visible").bounding_box()
        x, y = box["x"] + 128, box["y"] + 128
        page.mouse.move(x, y - 90)
        page.mouse.down()
        for dx, dy in ((90, 0), (0, 90), (-90, 0), (0, -90)):
            page.mouse.move(x + dx, y + dy, steps=4)
        page.mouse.up()
        press(page, "Generate", "Given: square")
        shot(page, "app-shapes")
        page.get_by_role("tab", name="Latent").click()
        page.wait_for_timeout(2000)
        press(page, "Walk", "moved")
        shot(page, "app-walk")


def row(browser: Any, url: str) -> None:
    """A row is filled, on a narrow and dark page."""
    with page_of(browser, url, NARROW, "dark") as page:
        page.get_by_label("age").fill("71")
        page.get_by_label("smoker").click()
        page.get_by_role("option", name="yes").click()
        press(page, "Generate", "Given")
        shot(page, "app-row")


def main() -> None:
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("POLYMODAL_CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as play:
        folder = Path(name)
        trained(folder)
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for run, look in (("shapes", shapes), ("people", row)):
            with served(folder, run) as url:
                look(browser, url)
        browser.close()


if __name__ == "__main__":
    main()
