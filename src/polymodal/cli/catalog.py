"""The names that commands know, read from the source without running it, so that `polymodal list`
need not wait for torch.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.resources import files

# Where each dictionary of names stands: the file, then the dictionary.
REGISTRIES = {
    "datasets": [("data/__init__.py", "DATASETS")],
    "networks": [("networks/architectures.py", "NETWORKS")],
    "samplers": [("sampling/registry.py", "SAMPLERS"), ("diffusion/registry.py", "DIFFUSIONS")],
    "poolings": [("posteriors/pooling.py", "POOLINGS")],
}
# The decorators that enter functions, of the folder of the same name as the kind.
DECORATORS = {"methods": "method", "metrics": "metric"}
KINDS = ("methods", "datasets", "recipes", "metrics", "networks", "samplers", "poolings")


def entries(kind: str) -> dict[str, str]:
    """name -> what it is, in one line, for a kind of `KINDS`.

    >>> entries("samplers").keys() >= {"hmc", "mala", "smc", "diffusion"}
    True
    """
    if kind in DECORATORS:
        return _decorated(kind, DECORATORS[kind])
    if kind == "recipes":
        return _recipes()
    return {k: v for place in REGISTRIES[kind] for k, v in _registry(*place).items()}


def names(kind: str) -> list[str]:
    """The names of a kind of `REGISTRIES`, without their descriptions: faster.

    >>> names("samplers")[:2]
    ['hmc', 'mala']
    """
    return [key for path, name in REGISTRIES[kind] for key, _ in _items(_read(path), name)]


def _read(path: str) -> str:
    """The text of a file of the package."""
    return (files("polymodal") / path).read_text()


def _sources(folder: str) -> Iterator[str]:
    """The texts of the Python files in a folder of the package."""
    for file in (files("polymodal") / folder).iterdir():
        if file.name.endswith(".py"):
            yield file.read_text()


# Functions with a decorator.


def _decorated(folder: str, decorator: str) -> dict[str, str]:
    """The functions of a folder with a decorator, and the first paragraph of their docstrings."""
    texts = {}
    for source in _sources(folder):
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and _has(node, decorator):
                texts[node.name] = (ast.get_docstring(node) or "").split("\n\n")[0]
    return {name: " ".join(text.split()) for name, text in sorted(texts.items())}


def _has(node: ast.FunctionDef, decorator: str) -> bool:
    """Whether a function is decorated with `@decorator` or `@decorator(...)`."""
    return any(ast.unparse(d).split("(")[0] == decorator for d in node.decorator_list)


# Recipes.


def _recipes() -> dict[str, str]:
    """The built-in recipes, and what their `about` says."""
    recipes = {}
    for file in (files("polymodal.settings") / "recipes").iterdir():
        if file.name.endswith(".yaml"):
            about = re.search(r'^about: *"?(.*?)"?$', file.read_text(), re.MULTILINE)
            recipes[file.name.removesuffix(".yaml")] = about[1] if about else ""
    return dict(sorted(recipes.items()))


# Dictionaries.


def _registry(path: str, name: str) -> dict[str, str]:
    """The keys of a dictionary, each with the comment on its line, or else the first line of its
    value's docstring.
    """
    text = _read(path)
    lines, docstrings = text.splitlines(), _docstrings(path.rpartition("/")[0])
    return {
        key: _comment(lines, value) or docstrings.get(_last_name(value), "")
        for key, value in _items(text, name)
    }


def _items(text: str, name: str) -> Iterator[tuple[str, ast.expr]]:
    """The keys and values of the dictionary `name` in the source `text`."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in _targets(node):
            if not isinstance(node.value, ast.Dict):
                raise ValueError(f"{name} must be written as a dictionary.")
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if key is not None:
                    yield ast.literal_eval(key), value


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [ast.unparse(target) for target in targets]


def _comment(lines: list[str], value: ast.expr) -> str:
    """The comment on the line on which a value ends; "" if there is none."""
    last = lines[(value.end_lineno or 1) - 1]
    return last.partition("  # ")[2]


def _last_name(value: ast.expr) -> str:
    """The last name in a value: that of the function in `f` and in `Wrapper(f)`."""
    return re.findall(r"\w+", ast.unparse(value))[-1]


def _docstrings(folder: str) -> dict[str, str]:
    """The first line of the docstring of every function and class in a folder's files."""
    nodes = [node for source in _sources(folder) for node in ast.parse(source).body]
    return {
        node.name: (ast.get_docstring(node) or "").split("\n", 1)[0]
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
