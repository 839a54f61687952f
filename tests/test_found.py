"""The beginning of a report: what was found, in words."""

from __future__ import annotations

import math
from itertools import combinations

from polymodal.metrics.table import Table
from polymodal.report import found, plots
from polymodal.report.tables import rows_of


def table_of(rows: list[tuple[str, str, str, float]]) -> Table:
    """Coherences of (method, target, given, value), of standard error .01."""
    common = {"data": "d", "metric": "coherence", "se": 0.01, "se_seeds": math.nan, "n": 100}
    common |= {"seed": "0", "direction": "higher", "unit": "share", "reason": "", "evaluation": ""}
    return Table.from_records(
        [common | {"method": m, "target": t, "given": g, "value": v} for m, t, g, v in rows]
    )


def test_the_best_method_is_named_first_with_what_was_given() -> None:
    rows = rows_of(
        table_of(
            [
                ("jmvae", "mnist", "svhn", 0.48),
                ("jnf-dcca", "mnist", "svhn", 0.76),
                ("jmvae", "mnist", "mnist+svhn", 0.9),
                ("jnf-dcca", "mnist", "mnist+svhn", 0.91),
            ]
        )
    )
    assert [row.given for row in rows] == [("svhn",), ("mnist", "svhn")]
    others = found._from_others(rows)
    assert others == rows[:1]  # the digit itself was given in the second
    assert found._shows(others[0]) == (
        "mnist given svhn: the right class in 0.760 ± 0.010 of draws by jnf-dcca,"
        " 0.480 ± 0.010 by jmvae."
    )


def test_a_method_without_a_figure_is_not_named() -> None:
    (row,) = rows_of(table_of([("a", "x", "y", math.nan), ("b", "x", "y", 0.5)]))
    assert found._shows(row) == "x given y: the right class in 0.500 ± 0.010 of draws by b."


def test_colours_differ_in_lightness_or_in_blue_and_yellow() -> None:
    """Red and green look alike to most colour-blind people: lightness, or blue against yellow, must
    tell any two of the first six colours apart.
    """

    def seen(colour: str) -> tuple[float, float]:
        red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        return 0.3 * red + 0.59 * green + 0.11 * blue, blue - (red + green) / 2

    for one, other in combinations(plots.COLOURS[:6], 2):
        assert math.dist(seen(one), seen(other)) > 0.2, (one, other)
