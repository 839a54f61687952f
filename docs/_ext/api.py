"""The API reference: `{room} batch` documents a module of polymodal, or every module of a package.

Docstrings are plain text with `code` in backticks and sections such as "Args:". Here they become
reStructuredText in which no other character has a meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules, walk_packages

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import polymodal

SECTIONS = ("Args", "Returns", "Raises", "Yields", "Attributes")
CODE = re.compile(r"(`+[^`]+`+)")


def modules_of(room: str) -> list[str]:
    """The module `polymodal.<room>`, and those inside it where it is a package."""
    name = f"polymodal.{room}"
    path = getattr(import_module(name), "__path__", None)
    return [name, *(f"{name}.{m.name}" for m in iter_modules(path or []))]


def import_everything(app: Sphinx) -> None:
    """Imports all modules first: autodoc changes annotations of the classes that it documents,
    from which pydantic could then build no subclass.
    """
    for module in walk_packages(polymodal.__path__, "polymodal."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def escaped(text: str) -> str:
    """`text` in which only backticks mean anything: ``code``."""
    pieces = CODE.split(" ".join(text.split()))
    plain = [re.sub(r"([\\*|_`])", r"\\\1", piece) for piece in pieces[::2]]
    code = [f"``{piece.strip('`')}``\\ " for piece in pieces[1::2]]
    return "".join(a + b for a, b in zip(plain, [*code, ""], strict=True))


def paragraphs(lines: list[str]) -> Iterator[list[str]]:
    """Blocks of lines between blank lines; a section's heading is a block by itself."""
    block: list[str] = []
    for line in lines:
        heading = re.match(rf"({'|'.join(SECTIONS)}):", line) is not None
        if block and (heading or not line.strip()):
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """(name, text) of the entries of a section, "name: text" with deeper continuation lines."""
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    texts: list[str] = []
    for line in lines:
        if not texts or len(line) - len(line.lstrip()) == indent:
            texts.append(line.strip())
        else:
            texts[-1] += " " + line.strip()
    for text in texts:
        name, colon, rest = text.partition(": ")
        yield (name, rest) if colon else ("", text)


def section(block: list[str]) -> Iterator[str]:
    """A section as a list of its entries."""
    head, _, rest = block[0].partition(":")
    yield from (f"**{head}**", "")
    body = [*([f"    {rest.strip()}"] if rest.strip() else []), *block[1:]]
    for name, text in entries(body) if body else ():
        yield f"- {f'**{escaped(name)}**: ' if name else ''}{escaped(text)}"
    yield ""


def structured(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText."""
    made: list[str] = []
    for block in paragraphs(lines):
        if block[0].lstrip().startswith((">>>", "# ")):
            code = [f"    {line.rstrip()}" for line in block]
            made += [".. code-block:: pycon", "", *code, ""]
        elif re.match(rf"({'|'.join(SECTIONS)}):", block[0]):
            made += section(block)
        else:
            made += [escaped(" ".join(block)), ""]
    return made


def process(app, what: str, name: str, obj, options, lines: list[str]) -> None:
    lines[:] = structured(lines)


def skip(app, what: str, name: str, obj, skipped: bool, options) -> bool | None:
    """Leaves out the configuration of pydantic, which every group of settings has."""
    return True if name in ("model_config", "model_post_init") else None


class Room(SphinxDirective):
    """Documents the modules of a room."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = ["````{eval-rst}"]
        for module in modules_of(self.arguments[0]):
            lines += [f".. rubric:: {module}", "", f".. automodule:: {module}", "   :members:"]
            lines += ["   :ignore-module-all:", ""]
        return self.parse_text_to_nodes("\n".join([*lines, "````"]))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", import_everything)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", process)
    app.add_directive("room", Room)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
