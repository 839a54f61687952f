"""Names and descriptions of everything in the registries, read from the source without running it:
`polymodal list` does not wait for torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.resources import files

# The file and the name of each dictionary.
REGISTRIES = {
    "datasets": ("data/__init__.py", "DATASETS"),
    "networks": ("networks/architectures.py", "NETWORKS"),
    "samplers": ("sampling/registry.py", "SAMPLERS"),
    "poolings": ("posteriors/pooling.py", "POOLINGS"),
}
# The folder of decorated functions, and their decorator.
DECORATED = {"methods": ("methods", "method"), "metrics": ("metrics", "metric")}
KINDS = ("methods", "datasets", "recipes", "metrics", "networks", "samplers", "poolings")


def entries(kind: str) -> dict[str, str]:
    """name -> description, in one line, for a kind of `KINDS`.

    >>> entries("samplers").keys() >= {"hmc", "mala", "smc"}
    True
    """
    if kind in DECORATED:
        return _decorated(*DECORATED[kind])
    return _recipes() if kind == "recipes" else _registry(*REGISTRIES[kind])


def _decorated(folder: str, decorator: str) -> dict[str, str]:
    """The functions that a decorator enters into a registry, with the first paragraph of their
    docstrings.
    """
    described = {}
    for text in _sources(folder):
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and _has_decorator(node, decorator):
                first = (ast.get_docstring(node) or "").split("\n\n")[0]
                described[node.name] = " ".join(first.split())
    return dict(sorted(described.items()))


def _sources(folder: str) -> list[str]:
    """The text of every Python file of a folder of the package."""
    content = (files("polymodal") / folder).iterdir()
    return [file.read_text() for file in content if file.name.endswith(".py")]


def _has_decorator(node: ast.FunctionDef, decorator: str) -> bool:
    """Whether a function is decorated with `@decorator` or `@decorator(...)`."""
    return any(ast.unparse(d).split("(")[0] == decorator for d in node.decorator_list)


def _recipes() -> dict[str, str]:
    described = {}
    for file in (files("polymodal.settings") / "recipes").iterdir():
        if file.name.endswith(".yaml"):
            about = re.search(r'^about: *"?(.*?)"?$', file.read_text(), re.MULTILINE)
            described[file.name.removesuffix(".yaml")] = about[1] if about else ""
    return dict(sorted(described.items()))


def _registry(path: str, name: str) -> dict[str, str]:
    """The keys of a dictionary, each with the comment behind its value, else with the first line of
    the docstring of the function or class that the value names last.
    """
    text = (files("polymodal") / path).read_text()
    lines = text.splitlines()
    docstrings: dict[str, str] = {}
    for source in _sources(path.rsplit("/", 1)[0]):
        docstrings |= _docstrings(source)
    described = {}
    for key, value in _items(text, path, name):
        comment = lines[(value.end_lineno or 1) - 1].partition("  # ")[2]
        last = re.findall(r"\w+", ast.unparse(value))[-1]  # also inside a wrapper
        described[key] = comment or docstrings.get(last, "")
    return described


def _items(text: str, path: str, name: str) -> Iterator[tuple[str, ast.expr]]:
    """Keys and values of the dictionary `name`. Raises ValueError if it is not written as one."""
    assignments = [n for n in ast.parse(text).body if isinstance(n, ast.Assign | ast.AnnAssign)]
    named = (n for n in assignments if name in [ast.unparse(t) for t in _targets(n)])
    table = next(named).value
    if not isinstance(table, ast.Dict):
        raise ValueError(f"{name} in {path} must be written as a dictionary.")
    for key, value in zip(table.keys, table.values, strict=True):
        if key is not None:
            yield ast.literal_eval(key), value


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _docstrings(text: str) -> dict[str, str]:
    """The first line of the docstring of every function and class at a file's top level."""
    nodes = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return {n.name: (ast.get_docstring(n) or "").split("\n", 1)[0] for n in nodes}
