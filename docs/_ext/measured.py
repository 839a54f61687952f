"""Links from the name of a file with measurements to the page that shows it."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

RESULT = re.compile(r"benchmarks/results/(\w+)\.md")


def link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for literal in list(doctree.findall(nodes.literal)):
        found = RESULT.fullmatch(literal.astext())
        if found is None or isinstance(literal.parent, nodes.reference):
            continue
        uri = app.builder.get_relative_uri(docname, f"measured/{found[1]}")
        reference = nodes.reference("", "", refuri=uri, internal=True)
        literal.replace_self(reference)
        reference += literal


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
