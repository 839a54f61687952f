"""The documentation: its examples run, its links lead somewhere, its tables are those of the
registries.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from polymodal.batch import Modality
from polymodal.cli.catalog import entries
from polymodal.cli.main import run as run_command
from polymodal.data.kinds import KINDS
from polymodal.methods import METHODS
from polymodal.metrics import METRICS
from polymodal.metrics.frechet import frechet_distance
from polymodal.networks.architectures import NETWORKS
from polymodal.runs.run import build
from polymodal.sampling import SAMPLERS
from polymodal.settings import load_recipe, resolve, to_dict
from polymodal.settings.data import complete

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "_ext"))

import registries  # noqa: E402

PAGES = [p for p in sorted(DOCS.rglob("*.md")) if not p.name.startswith("_")]
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(r"^(`{3,})([^\n]*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
CODE = ("python", "{code-cell} ipython3")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(page: Path) -> list[str]:
    """The Python code of a page."""
    found = FENCE.findall(page.read_text())
    bodies = [body for _, kind, body in found if kind.strip() in CODE]
    return [re.sub(r"\A(:.*\n)+", "", body) for body in bodies]  # options of a cell


def run(source: str, names: dict[str, Any]) -> None:
    """Runs `source`; an expression with the comment `# -> text` must have that text as its str."""
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        code = ast.unparse(statement)
        said = lines[(statement.end_lineno or 1) - 1].partition("  # -> ")[2]
        if said and isinstance(statement, ast.Expr):
            assert str(eval(code, names)) == said, code
        else:
            exec(compile(code, "page", "exec"), names)


REGISTRIES = (METHODS, METRICS, KINDS, NETWORKS, SAMPLERS)
# Tutorials run while the site is built.
WITH_CODE = [p for p in TEXTS if blocks(p) and p.parent.name != "tutorials"]
# Texts of a page in whose place a test has others, which take less time.
SMALLER = {
    "README.md": {
        "Imputer(random_state=0)": "Imputer(epochs=2, random_state=0)",
        'load_data("shapes")': 'load_data("shapes", n=600)',
        "epochs=10": "epochs=2",
        'metrics=["coherence"]': 'metrics=["conditional_log_likelihood"], samples=10',
    }
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = "\n".join(blocks(page))
    for text, smaller in SMALLER.get(name_of(page), {}).items():
        assert text in source
        source = source.replace(text, smaller)
    before = [dict(registry) for registry in REGISTRIES]
    try:
        run(source, {"__name__": "__main__"})
    finally:  # what a page adds is for that page only
        for registry, entries in zip(REGISTRIES, before, strict=True):
            registry.clear()
            registry.update(entries)


def test_the_commands_that_fill_in_a_table_run(tmp_path: Path, monkeypatch) -> None:
    """Those of the README, from a table with holes to one without, and its intervals."""
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))
    holes = np.random.default_rng(1).random(table.shape) < 0.2
    table.mask(holes).to_csv("wine.csv", index=False)
    bodies = (body for _, kind, body in FENCE.findall((ROOT / "README.md").read_text()) if not kind)
    commands = next(body for body in bodies if "polymodal impute" in body).splitlines()
    for line in commands:
        words = line.partition("#")[0].split()
        short = ["training.epochs=2"] if words[1] == "train" else []
        assert run_command([*words[1:], *short]) == 0, line
    assert not pd.read_csv("filled.csv").isna().any(axis=None)
    assert len(pd.read_csv("filled.intervals.csv")) == holes.sum()
    assert len(list(tmp_path.glob("filled.[0-9]*.csv"))) == 20


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for path in re.findall(r"\]\(([^)\s:]+\.\w+)(?:#[^)]*)?\)", text):
        start = DOCS if path.startswith("/") else page.parent
        assert (start / path.lstrip("/")).exists(), path


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_files_of_the_project_that_a_page_names_are_there(page: Path) -> None:
    """Measured figures name the file that holds them; that file must be in the project."""
    for path in re.findall(r"`((?:benchmarks|src|tests|docs)/[\w./-]+\.\w+)`", page.read_text()):
        assert (ROOT / path).exists(), path


def test_files_of_the_package_that_the_architecture_names_are_there() -> None:
    text = (DOCS / "architecture.md").read_text()
    paths = re.findall(r"`([\w/]+\.py)`", text)
    assert paths
    for path in paths:
        assert (ROOT / "src" / "polymodal" / path).exists() or (ROOT / path).exists(), path


RECIPES = [
    (page, body)
    for page in TEXTS
    for _, kind, body in FENCE.findall(page.read_text())
    if kind.strip() == "yaml"
]


@pytest.mark.parametrize(("page", "text"), RECIPES, ids=[name_of(page) for page, _ in RECIPES])
def test_the_recipes_of_a_page_are_read_and_their_methods_built(
    page: Path, text: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("page.yaml", "pairs.npz"):
        (tmp_path / file).write_text(text)
    settings = resolve(load_recipe("page.yaml"))
    modalities = [Modality("photo", (3, 32, 32)), Modality("tags", (5,))]
    assert build(to_dict(complete(settings, modalities)), modalities).stages
    assert set(settings.evaluation.metrics or ()) <= set(entries("metrics"))


def test_a_formula_of_the_text_is_the_one_that_a_test_measures() -> None:
    """Hoelder's objective in `test_objectives`, the bias of `frechet` in `test_metrics`."""
    page = (DOCS / "methods" / "hoelder.md").read_text()
    formula = r"w_m \log p(x_m|z) + \beta \big(\log p(z) - \log q(z)\big)"
    assert formula in page and "log-density of the whole mixture" in page
    assert "2F/N + F(F + 1)/(2N)" in (frechet_distance.__doc__ or "")


def test_equal_bits_are_promised_for_equal_numbers_of_threads_only() -> None:
    promises = []
    for page in [*TEXTS, *(ROOT / "src").rglob("*.py")]:
        promises += re.findall(r"bit for bit.{,90}", " ".join(page.read_text().split()))
    assert len(promises) > 2 and all("threads" in promise for promise in promises), promises


def test_the_first_page_shows_no_figure_of_its_own() -> None:
    """A measured figure stands on the page of measurements, which names its file."""
    text = FENCE.sub("", (DOCS / "index.md").read_text())
    assert not re.findall(r"(?<![\w.])\d*\.\d+", text)


def test_every_page_is_reached() -> None:
    """Every page stands in a table of contents."""
    reached = set()
    for page in PAGES:
        for _, kind, body in FENCE.findall(page.read_text()):
            if kind.strip() == "{toctree}":
                lines = [line for line in body.splitlines() if line and not line.startswith(":")]
                names = [re.sub(r".*<(.*)>", r"\1", line).removesuffix(".md") for line in lines]
                reached |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert {p for p in PAGES if p != DOCS / "index.md"} == reached


def test_every_method_has_a_page_and_one_family() -> None:
    methods = [m for family in registries.FAMILIES for m in registries.methods_of(family)]
    assert sorted(methods) == sorted(entries("methods"))
    assert all((DOCS / "methods" / f"{m}.md").exists() for m in methods)


@pytest.mark.parametrize("method", sorted(entries("methods")))
def test_the_page_of_a_method_is_whole(method: str) -> None:
    text = (DOCS / "methods" / f"{method}.md").read_text()
    for head in ("## Objective", "## When to use it", "## Missing modalities", "## Example"):
        assert head in text, head
    assert f'"{method}"' in text  # the example trains it


def test_every_room_is_in_the_api_reference() -> None:
    package = ROOT / "src" / "polymodal"
    rooms = {p.name.removesuffix(".py") for p in package.iterdir() if not p.name.startswith("_")}
    assert rooms - {"py.typed"} == {p.stem for p in (DOCS / "api").glob("*.md")} - {"index"}


def test_the_tables_of_the_readme_are_current() -> None:
    """`python docs/_ext/registries.py` writes them."""
    text = registries.README.read_text()
    assert text == registries.readme_with(registries.readme_block())
