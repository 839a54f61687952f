"""What there is, read from the source without running it, so that `polymodal list` need not wait
for torch.
"""

from __future__ import annotations

import ast
import re
from importlib.resources import files

# Where each dictionary of names stands: the file, then the dictionary.
REGISTRIES = {
    "datasets": ("data/__init__.py", "DATASETS"),
    "networks": ("networks/architectures.py", "NETWORKS"),
    "samplers": ("sampling/registry.py", "SAMPLERS"),
    "poolings": ("posteriors/pooling.py", "POOLINGS"),
}
# The decorators that enter functions, of the folder of the same name as the kind.
DECORATORS = {"methods": "method", "metrics": "metric"}
KINDS = ("methods", "datasets", "recipes", "metrics", "networks", "samplers", "poolings")


def entries(kind: str) -> dict[str, str]:
    """name -> what it is, in one line, for a kind of `KINDS`.

    >>> entries("samplers").keys() >= {"hmc", "mala", "smc"}
    True
    """
    if kind in DECORATORS:
        return _decorated(kind, DECORATORS[kind])
    return _recipes() if kind == "recipes" else _registry(*REGISTRIES[kind])


def _decorated(folder: str, decorator: str) -> dict[str, str]:
    """The functions of a folder with a decorator, and the first paragraph of their docstrings."""
    texts = {}
    for file in (files("polymodal") / folder).iterdir():
        if file.name.endswith(".py"):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.FunctionDef) and _has(node, decorator):
                    texts[node.name] = (ast.get_docstring(node) or "").split("\n\n")[0]
    return {name: " ".join(text.split()) for name, text in sorted(texts.items())}


def _has(node: ast.FunctionDef, decorator: str) -> bool:
    """Whether a function is decorated with `@decorator` or `@decorator(...)`."""
    return any(ast.unparse(d).split("(")[0] == decorator for d in node.decorator_list)


def _recipes() -> dict[str, str]:
    found = {}
    for file in (files("polymodal.settings") / "recipes").iterdir():
        if file.name.endswith(".yaml"):
            about = re.search(r'^about: *"?(.*?)"?$', file.read_text(), re.MULTILINE)
            found[file.name.removesuffix(".yaml")] = about[1] if about else ""
    return dict(sorted(found.items()))


def _registry(path: str, name: str) -> dict[str, str]:
    text = (files("polymodal") / path).read_text()
    lines = text.splitlines()
    folder = (files("polymodal") / path.rsplit("/", 1)[0]) if "/" in path else None
    texts = (
        [f.read_text() for f in folder.iterdir() if f.name.endswith(".py")] if folder else [text]
    )
    heads = {k: v for t in texts for k, v in _docstrings(t).items()}
    table = next(
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and name in (ast.unparse(t) for t in _targets(node))
    )
    if not isinstance(table, ast.Dict):
        raise ValueError(f"{name} in {path} must be written as a dictionary.")
    found = {}
    for key, value in zip(filter(None, table.keys), table.values, strict=True):
        comment = lines[value.end_lineno - 1].partition("  # ")[2] if value.end_lineno else ""
        head = heads.get(
            re.findall(r"\w+", ast.unparse(value))[-1], ""
        )  # of what a wrapper holds, too
        found[ast.literal_eval(ast.unparse(key))] = comment or head
    return found


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _docstrings(text: str) -> dict[str, str]:
    """The first line of the docstring of every function and class at a file's top level."""
    nodes = [n for n in ast.parse(text).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    return {n.name: (ast.get_docstring(n) or "").split("\n", 1)[0] for n in nodes}
