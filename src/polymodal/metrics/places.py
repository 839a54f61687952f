"""Places: for which given subset and which target a metric is computed.

A place is a function of the model's modalities and the subsets asked for. It yields pairs (given,
target): names of modalities, and one name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

Given = tuple[str, ...]
Place = tuple[Given, str]
Places = Callable[[Sequence[str], Sequence[Given]], Iterator[Place]]


def others(names: Sequence[str], subsets: Sequence[Given]) -> Iterator[Place]:
    """Every subset with every modality that is not in it.

    >>> list(others(["a", "b"], [("a",), ("a", "b")]))
    [(('a',), 'b')]
    """
    for subset in subsets:
        yield from ((subset, name) for name in names if name not in subset)


def pairs(names: Sequence[str], subsets: Sequence[Given]) -> Iterator[Place]:
    """Every subset with every modality that is not in it; the whole set with every modality.

    >>> list(pairs(["a", "b"], [("a",), ("a", "b")]))
    [(('a',), 'b'), (('a', 'b'), 'a'), (('a', 'b'), 'b')]
    """
    for subset in subsets:
        whole = len(subset) == len(names)
        yield from ((subset, name) for name in names if whole or name not in subset)


def every(names: Sequence[str], subsets: Sequence[Given]) -> Iterator[Place]:
    """Every subset with every modality."""
    for subset in subsets:
        yield from ((subset, name) for name in names)


def subsets(names: Sequence[str], subsets: Sequence[Given]) -> Iterator[Place]:
    """Every subset with the latent, "z"."""
    yield from ((subset, "z") for subset in subsets)


def targets(names: Sequence[str], subsets: Sequence[Given]) -> Iterator[Place]:
    """Every modality, with nothing given."""
    yield from (((), name) for name in names)


def once(names: Sequence[str], subsets: Sequence[Given]) -> Iterator[Place]:
    """All modalities together, such as "a+b", with nothing given."""
    yield (), "+".join(names)


def every_subset(names: Sequence[str]) -> list[Given]:
    """All non-empty subsets, small ones first.

    >>> every_subset(["a", "b"])
    [('a',), ('b',), ('a', 'b')]
    """
    return [s for size in range(1, len(names) + 1) for s in combinations(names, size)]
