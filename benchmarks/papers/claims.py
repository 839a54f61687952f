"""Verdicts on claims about figures, by the rules of claims.yaml."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from papers.figures import HERE, Figure, Figures, canonical, lookup, split

from polymodal.metrics import METRICS

HOLDS, FAILS, PARTLY, OPEN = "holds", "does not hold", "partly", "not decided"
UNKNOWN, IMPOSSIBLE = "not measured", "cannot be tried"
VERDICTS = (HOLDS, FAILS, PARTLY, OPEN, UNKNOWN, IMPOSSIBLE)
COMPUTED = "from claims"  # of a row: the verdict that its claims have in our figures
ERRORS = 2.0  # standard errors of a difference from which on it counts

Find = Callable[[str, str], Figure | None]  # (model, quantity)


@dataclass(frozen=True)
class Claim:
    """A claim of claims.yaml."""

    id: str
    row: int
    where: str
    words: str
    data: str
    rules: Sequence[Mapping[str, Any]]

    def models(self) -> set[str]:
        """The models that its rules name."""
        sides = (side for rule in self.rules for pair in _pairs(rule) for side in pair[:2])
        return {side[0] for side in sides if isinstance(side, tuple)}


def claims() -> list[Claim]:
    """All claims, in the order of the file."""
    return [Claim(**entry) for entry in yaml.safe_load((HERE / "claims.yaml").read_text())]


Side = tuple[str, str] | float  # (model, quantity), or a number
# The two sides, and what must be true of the difference of their figures: a form of rule.
Pair = tuple[Side, Side, str, float]


def _pairs(rule: Mapping[str, Any]) -> Iterator[Pair]:
    """The comparisons of two figures that a rule consists of."""
    if "best" in rule:
        for quantity in map(canonical, rule["of"]):
            lower = METRICS[split(quantity)[0]].direction == "lower"
            for other in rule["among"]:
                best, second = (rule["best"], quantity), (other, quantity)
                above, below = (second, best) if lower else (best, second)
                yield above, below, "greater", 0.0
        return
    form = next(f for f in ("greater", "at_least", "near") if f in rule)
    one, other = map(_side, rule[form])
    yield one, other, form, float(rule.get("within", 0.0))


def compare(first: Figure, second: Figure, form: str, within: float = 0.0) -> str:
    """The verdict on two figures.

    >>> a, b = (Figure(v, 0.01, "", "coherence") for v in (0.71, 0.70))
    >>> compare(a, b, "greater"), compare(a, b, "at_least"), compare(a, b, "near", 0.1)
    ('not decided', 'holds', 'holds')
    """
    difference = first.value - second.value
    margin = ERRORS * math.hypot(first.error, second.error)
    if math.isnan(margin):
        return OPEN
    if form == "near":
        gap = abs(difference)
        return HOLDS if gap + margin < within else FAILS if gap - margin > within else OPEN
    if form == "at_least" and difference >= 0:
        return HOLDS
    return HOLDS if difference > margin else FAILS if difference < -margin else OPEN


def verdict(claim: Claim, find: Find) -> str:
    """The verdict on a claim, with `find` to look figures up."""
    found = []
    for rule in claim.rules:
        for first, second, form, within in _pairs(rule):
            a, b = _figure(first, find), _figure(second, find)
            found.append(UNKNOWN if a is None or b is None else compare(a, b, form, within))
    return together(found)


def _side(given: Any) -> Side:
    return (given[0], canonical(given[1])) if isinstance(given, list) else float(given)


def _figure(side: Side, find: Find) -> Figure | None:
    return Figure(side, 0.0, "", "") if isinstance(side, float) else find(*side)


def together(found: Sequence[str]) -> str:
    """The verdict on something of several parts, of which those are the verdicts.

    >>> together(["holds", "does not hold"]), together(["holds", "not measured"])
    ('partly', 'not measured')
    """
    if FAILS in found or PARTLY in found:
        return PARTLY if HOLDS in found or PARTLY in found else FAILS
    if UNKNOWN in found or not found:
        return UNKNOWN
    return OPEN if OPEN in found else HOLDS


def in_print(claim: Claim, figures: Figures) -> str:
    """The verdict on the published figures."""
    return verdict(claim, lambda model, quantity: figures.get((claim.data, model, quantity)))


def in_ours(claim: Claim, ours: Mapping[str, Figures]) -> tuple[str, list[str]]:
    """The verdict on our figures, and the set-ups that they are of.

    Where several set-ups have a figure, that of the set-up with most of the claim's models counts.
    """
    models = claim.models()
    count = {
        s: len({m for d, m, _ in f if d == claim.data and m in models}) for s, f in ours.items()
    }
    order = sorted(ours, key=lambda setup: (-count[setup], setup))
    used: set[str] = set()

    def find(model: str, quantity: str) -> Figure | None:
        for setup in order:
            figure = lookup(ours[setup], claim.data, model, quantity)
            if figure is not None:
                used.add(setup)
                return figure
        return None

    return verdict(claim, find), sorted(used)
