"""Counts that describe the shape of the source: rooms, arrows, type switches, parameters,
complexity, line lengths.

    python benchmarks/house.py                # prints the counts of src/polymodal
    python benchmarks/house.py --save before  # also writes them into results/house.json
    python benchmarks/house.py --details      # also says where wide and complex functions are

A room is an entry of the package: a folder, or a loose module. An arrow is an ordered pair of rooms
of which the first imports the second, at the top of a file or inside a function. The complexity is
radon's; parameters are counted by ruff (PLR0913), on which the development environment depends
anyway.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from radon.complexity import cc_visit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "house.json"
# Rooms that may name no class of another room; before the redesign they were loose files with these
# first words.
UPPER = ("model", "metrics", "report", "cli", "runs", "evaluation", "checkpoint", "plots")
WINDOW = 6  # lines that two places must share to count as duplicated


def room_of(path: Path, package: Path) -> str:
    """The entry of the package in which a file lies, without its suffix."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def imports(tree: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a file imports from the package; the name is "" for a whole
    module.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.startswith(f"{package}."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == package or node.module.startswith(f"{package}."):
                yield from ((node.module, a.name) for a in node.names)


def target_of(module: str, name: str, package: str, rooms: set[str]) -> str | None:
    """The room that an import reaches; None for the package's own names."""
    parts = module.split(".")[1:] or [name]
    return parts[0] if parts[0] in rooms else None


def arrows(files: dict[Path, ast.Module], package: Path) -> set[tuple[str, str]]:
    rooms = {room_of(path, package) for path in files}
    found = set()
    for path, tree in files.items():
        here = room_of(path, package)
        if here in ("__init__", "__main__"):
            continue
        for module, name in imports(tree, package.name):
            target = target_of(module, name, package.name, rooms)
            if target and target != here:
                found.add((here, target))
    return found


def on_a_circle(pairs: set[tuple[str, str]]) -> list[str]:
    """The rooms that reach themselves along arrows."""
    reach = {a: {y for x, y in pairs if x == a} for a, _ in pairs}
    for _ in reach:
        reach = {a: to.union(*(reach.get(b, set()) for b in to)) for a, to in reach.items()}
    return sorted(a for a, to in reach.items() if a in to)


def names_in(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def switches(path: Path, tree: ast.Module, package: Path) -> list[str]:
    """Type switches of a file on classes of another room: `isinstance`, `hasattr`, `getattr` with a
    default, and comparisons of a class's name.
    """
    here, found = room_of(path, package), []
    foreign = {n for m, n in imports(tree, package.name) if m.split(".")[1:2] not in ([here], [])}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kind, arguments = node.func.id, node.args
            foreign_class = kind == "isinstance" and names_in(arguments[1]) & foreign
            if foreign_class or kind == "hasattr" or (kind == "getattr" and len(arguments) == 3):
                found.append(f"{path.relative_to(package)}:{node.lineno} {ast.unparse(node)}")
        elif isinstance(node, ast.Compare) and "__name__" in ast.unparse(node):
            found.append(f"{path.relative_to(package)}:{node.lineno} {ast.unparse(node)}")
    return found


def is_upper(room: str) -> bool:
    return room.split("_")[0] in UPPER


def functions(files: dict[Path, ast.Module]) -> list[ast.FunctionDef]:
    return [n for tree in files.values() for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


def parameters(function: ast.FunctionDef) -> int:
    given = function.args
    return len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)


def complexities(texts: dict[Path, str]) -> dict[str, int]:
    """Radon's cyclomatic complexity of every function and method."""
    found = {}
    for path, text in texts.items():
        for block in cc_visit(text):
            for one in getattr(block, "methods", [block]):
                found[f"{path.name}:{one.lineno} {one.name}"] = one.complexity
    return found


def wide_signatures(package: Path) -> int:
    """Functions with more than 7 parameters, as ruff's PLR0913 counts them."""
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--select",
        "PLR0913",
        "--output-format",
        "concise",
    ]
    setting = ["--config", "lint.pylint.max-args=7", "--no-cache", str(package)]
    done = subprocess.run([*command, *setting], capture_output=True, text=True, check=False)
    return done.stdout.count("PLR0913")


def duplicated(texts: dict[Path, str]) -> float:
    """Share of the code lines that lie in a window of equal lines which occurs at least twice."""
    windows: dict[tuple[str, ...], list[tuple[Path, int]]] = {}
    total = 0
    for path, text in texts.items():
        lines = [line.strip() for line in text.splitlines()]
        code = [
            (i, line)
            for i, line in enumerate(lines)
            if line and not line.startswith(("#", "from ", "import "))
        ]
        total += len(code)
        for k in range(len(code) - WINDOW + 1):
            key = tuple(line for _, line in code[k : k + WINDOW])
            windows.setdefault(key, []).append((path, k))
    twice = {
        (p, k + i) for at in windows.values() if len(at) > 1 for p, k in at for i in range(WINDOW)
    }
    return len(twice) / max(1, total)


def count(package: Path) -> dict[str, float]:
    """Every count of `package`, by what it is called in the table."""
    paths = sorted(p for p in package.rglob("*.py") if "__pycache__" not in p.parts)
    texts = {path: path.read_text() for path in paths}
    files = {path: ast.parse(text) for path, text in texts.items()}
    entries = [
        p for p in package.iterdir() if p.name != "__pycache__" and not p.name.endswith(".pyc")
    ]
    loose = [p for p in entries if p.suffix == ".py" and not p.name.startswith("__")]
    pairs, nodes = arrows(files, package), [sum(1 for _ in ast.walk(f)) for f in functions(files)]
    kinds = Counter(type(n).__name__ for tree in files.values() for n in ast.walk(tree))
    anys = sum(
        isinstance(n, ast.Name) and n.id == "Any" for t in files.values() for n in ast.walk(t)
    )
    lines = sum(text.count("\n") for text in texts.values())
    code = [line for text in texts.values() for line in text.splitlines()]
    upper = {p: t for p, t in files.items() if is_upper(room_of(p, package))}
    comprehensions = sum(kinds[k] for k in ("ListComp", "DictComp", "SetComp", "GeneratorExp"))
    return {
        "entries": len(entries),
        "loose modules": len(loose),
        "arrows between rooms": len(pairs),
        "rooms on a circle": len(on_a_circle(pairs)),
        "type switches of upper rooms": sum(len(switches(p, t, package)) for p, t in upper.items()),
        "functions": len(nodes),
        "functions with more than 7 parameters": wide_signatures(package),
        "most parameters": max(parameters(f) for f in functions(files)),
        "functions of complexity over 10": sum(c > 10 for c in complexities(texts).values()),
        "syntax nodes per function, median": statistics.median(nodes),
        "lines": lines,
        "lines over 100 columns": sum(len(line) > 100 for line in code),
        "fmt: skip": sum(bool(re.search(r"#\s*fmt:\s*skip", line)) for line in code),
        "assigned lambdas": sum(
            isinstance(n, ast.Assign) and isinstance(n.value, ast.Lambda)
            for t in files.values()
            for n in ast.walk(t)
        ),
        "conditional expressions per 1,000 lines": round(1000 * kinds["IfExp"] / lines, 1),
        "comprehensions per 1,000 lines": round(1000 * comprehensions / lines, 1),
        "Any per 1,000 lines": round(1000 * anys / lines, 1),
        "duplicated lines, %": round(100 * duplicated(texts), 2),
    }


def details(package: Path) -> None:
    """Prints where the type switches, wide signatures and complex functions are."""
    texts = {p: p.read_text() for p in sorted(package.rglob("*.py"))}
    files = {p: ast.parse(t) for p, t in texts.items()}
    for path, tree in files.items():
        if is_upper(room_of(path, package)):
            print(*(f"switch: {line}" for line in switches(path, tree, package)), sep="\n", end="")
        for f in ast.walk(tree):
            if isinstance(f, ast.FunctionDef) and parameters(f) > 7:
                print(
                    f"parameters: {path.relative_to(package)}:{f.lineno} {f.name} {parameters(f)}"
                )
    for name, complexity in sorted(complexities(texts).items(), key=lambda item: -item[1]):
        if complexity > 10:
            print(f"complexity: {name} {complexity}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--package", type=Path, default=ROOT / "src" / "polymodal")
    parser.add_argument(
        "--save", metavar="NAME", help="write the counts into results/house.json under NAME"
    )
    parser.add_argument("--details", action="store_true", help="also say where they are")
    given = parser.parse_args()
    counts = count(given.package)
    width = max(map(len, counts))
    print(*(f"{name:<{width}}  {value:g}" for name, value in counts.items()), sep="\n")
    if given.details:
        details(given.package)
    if given.save:
        held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps(held | {given.save: counts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
