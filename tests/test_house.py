"""The shape of the house: imports go down the floors only, nothing happens on import, functions
stay small.
"""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import polymodal
from polymodal.methods import METHODS

ROOT = Path(polymodal.__file__).parent
# From the ground up: a room may import from the rooms before it.
FLOORS = (
    "checks batch rng sampling distributions data analysis networks diffusion priors posteriors"
    " model objectives methods settings runs training experiments metrics report cli"
).split()
FILES = sorted(ROOT.rglob("*.py"))


def room(module: str) -> str:
    """The room of a module `polymodal.<room>...`: the folder or the loose module of that name."""
    return module.split(".")[1] if "." in module else module


def imported(path: Path) -> set[str]:
    """The rooms of polymodal that a file imports at its top level or inside functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        rooms |= {room(n) for n in names if n.startswith("polymodal.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):  # the package itself offers everything
        return
    assert own in FLOORS, f"{own} has no place in the floors"
    below = FLOORS[: FLOORS.index(own) + 1]
    assert imported(path) <= set(below), (
        f"{own} imports {imported(path) - set(below)}, which lies above it"
    )


def test_importing_polymodal_is_light_and_changes_nothing() -> None:
    code = (
        "import sys, polymodal; print(sorted({'torch', 'lightning', 'matplotlib'} &"
        " set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_zuko_leaves_validation_as_it_was() -> None:
    code = (
        "from torch.distributions import Distribution as D; before = D._validate_args; import"
        " polymodal.networks.flows; print(D._validate_args is before)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "True"
    )


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_recipe_is_at_most_thirty_lines(name: str) -> None:
    lines = inspect.getsource(inspect.unwrap(METHODS[name])).splitlines()
    assert len(lines) <= 30, f"{name} has {len(lines)} lines, signature and docstring included"
