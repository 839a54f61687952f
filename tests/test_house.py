"""The shape of the house: imports go down the floors only, nothing happens on import, functions
stay small.
"""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import polymodal
from polymodal.methods import METHODS

ROOT = Path(polymodal.__file__).parent
# From the ground up: a room may import from the rooms before it.
FLOORS = (
    "checks batch rng sampling distributions data analysis networks diffusion priors posteriors"
    " model objectives methods metrics settings runs training experiments imputation report app cli"
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


@pytest.mark.parametrize(
    ("first", "heavy"),
    [
        ("import polymodal", {"torch", "lightning_fabric", "matplotlib"}),
        ("from polymodal import fit, load", {"scipy", "sklearn", "pandas", "pyarrow"}),
    ],
)
def test_importing_polymodal_is_light_and_changes_nothing(first: str, heavy: set[str]) -> None:
    code = f"{first}; import sys; print(sorted({heavy} & set(sys.modules)))"
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
def test_a_method_only_fills_slots(name: str) -> None:
    """Its body has at most 15 lines without the docstring, and at most 10 options of its own."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(METHODS[name])))
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    _, first, *_ = function.body
    lines = function.end_lineno - first.lineno + 1
    assert lines <= 15, f"the body of {name} has {lines} lines without its docstring"
    assert len(function.args.kwonlyargs) <= 10


def test_the_architecture_page_lists_the_rooms_floor_by_floor() -> None:
    page = (ROOT.parents[1] / "docs" / "architecture.md").read_text()
    rooms = re.findall(r"^\| `(\w+)/?`", page, re.MULTILINE)
    assert rooms == list(FLOORS)


def test_the_package_shows_its_rooms() -> None:
    entries = [p for p in ROOT.iterdir() if p.name != "__pycache__"]
    loose = [p for p in entries if p.suffix == ".py" and not p.name.startswith("__")]
    assert len(entries) <= 26 and len(loose) <= 8
    assert {p.name.removesuffix(".py") for p in entries} - {
        "__init__",
        "__main__",
        "py.typed",
    } == set(FLOORS)


def test_rooms_are_attributes_and_methods_are_the_registered_ones() -> None:
    """Without an import of the room, which is made when it is asked for."""
    code = f"import polymodal; [getattr(polymodal, room) for room in {FLOORS!r}]"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(FLOORS) <= set(dir(polymodal))
    with pytest.raises(AttributeError, match="sampling"):
        polymodal.samplings  # noqa: B018
    for name, method in METHODS.items():
        if method.__module__.startswith("polymodal."):  # not those that other tests register
            assert getattr(polymodal.methods, name) is method
