"""Places: the pairs (given, target) for which a metric is computed.

Each is a function (names of the modalities, subsets that are asked for) -> pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

Given = tuple[str, ...]
Place = tuple[Given, str]
Places = Callable[[Sequence[str], Sequence[Given]], Iterable[Place]]


def others(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every subset with each target that is not in it.

    >>> list(others(["a", "b"], [("a",), ("a", "b")]))
    [(('a',), 'b')]
    """
    return ((given, m) for given in asked for m in names if m not in given)


def pairs(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every subset with each target that is not in it; the subset of all with each target.

    >>> list(pairs(["a", "b"], [("a",), ("a", "b")]))
    [(('a',), 'b'), (('a', 'b'), 'a'), (('a', 'b'), 'b')]
    """
    for given in asked:
        whole = len(given) == len(names)
        yield from ((given, m) for m in names if whole or m not in given)


def every(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every subset with each target.

    >>> list(every(["a", "b"], [("a",)]))
    [(('a',), 'a'), (('a',), 'b')]
    """
    return ((given, m) for given in asked for m in names)


def subsets(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every subset; the target is the latent, "z"."""
    return ((given, "z") for given in asked)


def targets(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every target, with nothing given."""
    return (((), m) for m in names)


def generated(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """`targets`, then `pairs`: all that is generated, joint samples from the prior first.

    >>> list(generated(["a", "b"], [("a",)]))
    [((), 'a'), ((), 'b'), (('a',), 'b')]
    """
    yield from targets(names, asked)
    yield from pairs(names, asked)


def couples(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every two modalities as one target, with nothing given.

    >>> list(couples(["a", "b", "c"], []))
    [((), 'a+b'), ((), 'a+c'), ((), 'b+c')]
    """
    return (((), "+".join(two)) for two in combinations(names, 2))


def partners(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every modality given each other one by itself.

    >>> list(partners(["a", "b"], []))
    [(('a',), 'b'), (('b',), 'a')]
    """
    return (((a,), b) for a in names for b in names if a != b)


def each_alone(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """Every modality given itself.

    >>> list(each_alone(["a", "b"], []))
    [(('a',), 'a'), (('b',), 'b')]
    """
    return (((m,), m) for m in names)


def once(names: Sequence[str], asked: Sequence[Given]) -> Iterator[Place]:
    """All modalities as one target, with nothing given."""
    return iter([((), "+".join(names))])


def usual_subsets(names: Sequence[str]) -> list[Given]:
    """Each single one, all but one, and all.

    >>> usual_subsets(["a", "b", "c", "d"])[3:6]
    [('d',), ('b', 'c', 'd'), ('a', 'c', 'd')]
    """
    all_but_one = [tuple(m for m in names if m != left_out) for left_out in names]
    return list(dict.fromkeys([*((m,) for m in names), *all_but_one, tuple(names)]))
