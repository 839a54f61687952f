"""Tutorials: listed, readable as notebooks, clear about what they give. `make docs` runs them."""

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
PAGES = [p for p in sorted(FOLDER.glob("*.md")) if p.stem != "index"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_tutorial_is_a_notebook_of_python(page: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    notebook = jupytext.read(page)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 4 and notebook.cells[0].source.startswith("# ")
    for source in code:
        if not source.startswith("!"):
            ast.parse(source)
        assert "{code-cell}" not in source


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_tutorial_says_first_what_the_reader_will_have(page: Path) -> None:
    title, first, *_ = page.read_text().split("---\n", 2)[2].split("\n\n")
    assert title.startswith("# ") and first.startswith("At the end you have ")


def test_the_list_has_every_tutorial_once() -> None:
    listed = re.findall(
        r"^\| \[.*?\]\((\w+)\.md\)", (FOLDER / "index.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == [page.stem for page in PAGES]
