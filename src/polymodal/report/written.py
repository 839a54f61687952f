"""The table of a comparison as Markdown and as LaTeX: methods as columns, the best in bold."""

from __future__ import annotations

from collections.abc import Sequence

from polymodal.metrics.table import Table, markdown_row
from polymodal.report.tables import NOTE, Cell, Row, methods_of, rows_of

WORDS = ("metric", "target, given", "direction")
ENDS = ("unit", "n", "seeds")
ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
SIGNS = {"±": r"$\pm$", "|": r"$\mid$", "–": "--", "^": r"\textasciicircum{}"}


def markdown(table: Table, answer: str = "") -> str:
    """A combined table as Markdown, below the answer in words."""
    rows = rows_of(table)
    header = [*WORDS, *methods_of(rows), *ENDS]
    lines = [markdown_row(header), markdown_row(["---"] * len(header))]
    lines += [markdown_row(_texts(row, methods_of(rows), "**{}**")) for row in rows]
    parts = [answer, "\n".join(lines), NOTE, *table.reasons()]
    return "\n\n".join(part for part in parts if part) + "\n"


def latex(table: Table) -> str:
    """A combined table as a LaTeX `tabular` with the rules of the package booktabs."""
    rows = rows_of(table)
    methods = methods_of(rows)
    columns = "l" * len(WORDS) + "r" * len(methods) + "l" * len(ENDS)
    lines = [_row(_escaped([*WORDS, *methods, *ENDS])), r"\midrule"]
    for row in rows:
        lines.append(_row(_texts(row, methods, r"\textbf{{{}}}", escape=True)))
    inner = "\n".join([r"\toprule", *lines, r"\bottomrule"])
    return f"% {NOTE}\n\\begin{{tabular}}{{{columns}}}\n{inner}\n\\end{{tabular}}\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escaped(cells: Sequence[str]) -> list[str]:
    """Text as LaTeX prints it."""
    signs = ESCAPES | SIGNS
    return ["".join(signs.get(c, c) for c in cell) for cell in cells]


def _texts(row: Row, methods: Sequence[str], bold: str, escape: bool = False) -> list[str]:
    """The cells of a row, the best figures put into `bold`."""

    def texts(cells: Sequence[str]) -> list[str]:
        return _escaped(cells) if escape else list(cells)

    figures = []
    for cell in (row.cells.get(method) for method in methods):
        (text,) = texts(["" if cell is None else str(cell)])
        figures.append(bold.format(text) if _is_best(cell) else text)
    words = texts([row.metric, row.quantity, row.direction])
    return [*words, *figures, *texts([row.unit, row.n, row.seeds])]


def _is_best(cell: Cell | None) -> bool:
    return cell is not None and cell.best
