"""The columns that are measured: of tables, and of vectors as if they were tables."""

from __future__ import annotations

from collections.abc import Iterable

from polymodal.batch import CODED, Column, Modality

NUMBERS = ("normal", "laplace")  # likelihoods of vectors of real numbers
COUNTS = ("poisson", "negative_binomial", "library_counts")


def columns_of(modality: Modality) -> tuple[Column, ...]:
    """The columns of a table; of a vector, one of the likelihood's type for each entry; none for
    other values.

    >>> [c.name for c in columns_of(Modality("x", (2,)))]
    ['x[0]', 'x[1]']
    """
    if modality.columns:
        return modality.columns
    if len(modality.shape) != 1:
        return ()
    names = modality.names or [f"{modality.name}[{i}]" for i in range(modality.shape[0])]
    if modality.likelihood == "bernoulli":
        return tuple(Column(name, "boolean", ("0", "1")) for name in names)
    if modality.likelihood in COUNTS:
        return tuple(Column(name, "count") for name in names)
    if modality.likelihood not in NUMBERS:
        return ()
    if modality.link == "sigmoid":
        return tuple(Column(name, "bounded") for name in names)
    return tuple(Column(name) for name in names)


def numeric(modality: Modality) -> list[int]:
    """The places of the columns that are not coded."""
    return [i for i, c in enumerate(columns_of(modality)) if c.type not in CODED]


def has_intervals(modality: Modality) -> bool:
    """Whether its entries are measured by default: tables, counts of cells, vectors with holes, and
    vectors whose scale is learned. A scale that was fixed says nothing of uncertainty.
    """
    if not columns_of(modality):
        return False
    learned = modality.scale is None and modality.likelihood in NUMBERS
    counted = modality.likelihood == "library_counts"
    return bool(modality.columns) or modality.holes or learned or counted


def measured(modalities: Iterable[Modality]) -> list[Modality]:
    """The modalities of which `has_intervals` holds."""
    return [m for m in modalities if has_intervals(m)]
