"""Formulas as MathML, made while the site is built: browsers show them without any script."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
# What pages may write and the converter does not know. MathML stretches brackets by itself.
SPELLINGS = {
    r"\\[bB]ig[lr]?(?![a-zA-Z])": "",
    r"\\dots": r"\\ldots",
    r"\\texttt": r"\\mathtt",
    r"(?<![\\a-zA-Z{])(KL|CE|MMD|tr)(?![a-zA-Z])": r"\\mathrm{\1}",
}


def converted(node: nodes.math | nodes.math_block, block: bool) -> str:
    """The MathML of a formula; a formula that cannot be read is a warning and is shown as text."""
    formula = node.astext()
    for pattern, spelling in SPELLINGS.items():
        formula = re.sub(pattern, spelling, formula)
    try:
        return tex2mathml(formula, as_block=block)
    except MathError as error:
        logger.warning("The formula %r cannot be read: %s", node.astext(), error, location=node)
        return f"<code>{node.astext()}</code>"


def visit_inline(visitor, node: nodes.math) -> None:
    visitor.body.append(converted(node, block=False))
    raise nodes.SkipNode


def visit_block(visitor, node: nodes.math_block) -> None:
    visitor.body.append(f'<div class="math">{converted(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
