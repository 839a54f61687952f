"""Tables of what polymodal has, made from its registries; they are read without torch.

In a page, `{registry} samplers` makes the table of a kind (a kind of `polymodal.cli.catalog`), and
`{families}` the table of the families of methods. `python docs/_ext/registries.py` writes the same
tables into README.md, between its markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from inspect import getdoc
from pathlib import Path

import polymodal
from polymodal.cli.catalog import entries

DOCS = Path(__file__).resolve().parents[1]
README = DOCS.parent / "README.md"
START, END = "<!-- generated: python docs/_ext/registries.py -->", "<!-- end of generated -->"
# The order in which the families are shown; each is a page of docs/methods.
FAMILIES = ("joint", "products", "mixtures", "private", "tied", "tables", "score", "baselines")
NAMED = {"datasets": "data sets", "metrics": "metrics", "samplers": "samplers"}


def front_matter(page: Path, key: str) -> str:
    """The value of `key` in a page's front matter."""
    found = re.search(rf"^{key}: (.*)$", page.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{page} has no {key!r} in its front matter.")
    return found[1].strip()


def methods_of(family: str) -> list[str]:
    """The methods of a family, in the order of its page's front matter."""
    return front_matter(DOCS / "methods" / f"{family}.md", "methods").strip("[]").split(", ")


def row(cells: Iterable[str]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    return "\n".join([row(head), "|" + "---|" * len(head), *map(row, rows)])


def registry_table(kind: str) -> str:
    """name, description: everything of a kind."""
    described = entries(kind).items()
    linked = kind == "methods"
    names = [f"[`{k}`](/methods/{k}.md)" if linked else f"`{k}`" for k, _ in described]
    return table(("name", "what it is"), zip(names, (v for _, v in described), strict=True))


def family_table(root: str) -> str:
    """family, what its methods have in common, their names; links start at `root`."""
    rows = []
    for family in FAMILIES:
        page = DOCS / "methods" / f"{family}.md"
        names = [f"[`{m}`]({root}{m}.md)" for m in methods_of(family)]
        title = f"[{front_matter(page, 'family')}]({root}{family}.md)"
        rows.append((title, front_matter(page, "summary"), ", ".join(names)))
    return table(("family", "in common", "methods"), rows)


def name_table() -> str:
    """The names of the kinds of NAMED, a row for each kind."""
    names = {kind: ", ".join(f"`{k}`" for k in entries(kind)) for kind in NAMED}
    return table(("", "names"), ((NAMED[kind], names[kind]) for kind in NAMED))


def name_links() -> str:
    """The public names of polymodal, the module of each, and its first sentence."""
    rows = []
    for name in (n for n in polymodal.__all__ if not n.startswith("__")):
        public = getattr(polymodal, name)
        home = getattr(public, "__module__", None) or "polymodal"
        own = isinstance(public, type) or callable(public)
        said = (getdoc(public) or "").split("\n\n")[0] if own else "a registry: name to value"
        room = home.split(".")[1] if own else ""
        link = f"[`{name}`](/api/{room}.md)" if room else f"`{name}`"
        rows.append((link, " ".join(said.split())))
    return table(("name", "what it is"), rows)


def readme_block() -> str:
    """What stands between the markers of README.md."""
    return f"{START}\n{family_table('docs/methods/')}\n\n{name_table()}\n{END}"


def readme_with(block: str) -> str:
    """README.md with `block` in place of what stands between its markers."""
    text = README.read_text()
    before, rest = text.split(START)
    return before + block + rest.split(END)[1]


def setup(app) -> dict[str, bool]:
    from docutils.statemachine import StringList
    from sphinx.util.docutils import SphinxDirective

    class Table(SphinxDirective):
        """A Markdown table in place of the directive."""

        def made(self) -> str:
            raise NotImplementedError

        def run(self):
            lines = StringList(self.made().splitlines(), self.name)
            return self.parse_text_to_nodes("\n".join(lines))

    class Registry(Table):
        required_arguments = 1

        def made(self) -> str:
            return registry_table(self.arguments[0])

    class Families(Table):
        def made(self) -> str:
            return family_table("/methods/")

    class Names(Table):
        def made(self) -> str:
            return name_links()

    app.add_directive("names", Names)
    app.add_directive("registry", Registry)
    app.add_directive("families", Families)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    README.write_text(readme_with(readme_block()))
