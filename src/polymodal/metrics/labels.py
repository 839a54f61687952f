"""The labels of a data set: classes, or attributes that a modality consists of."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from polymodal.data.dataset import Dataset
from polymodal.data.rows import gather
from polymodal.metrics.metric import UnavailableError


class LabelledValues(NamedTuple):
    """Values of one modality with their labels.

    Args:
        table: the table in which they are stored, (N_m, *shape).
        rows: their rows of the table, (n,).
        labels: (n,) classes, or (n, A) attributes 0 and 1.
    """

    table: Tensor
    rows: Tensor
    labels: Tensor

    def values(self, which: Tensor) -> Tensor:
        """The values `which` (B,) as floating point, (B, *shape)."""
        return gather(self.table, self.rows[which])


def attributes_of(data: Dataset) -> str | None:
    """The modality that serves as labels if the data has none: its only bernoulli vector."""
    if data.label is not None:
        return None
    vectors = [m.name for m in data.modalities if m.likelihood == "bernoulli" and len(m.shape) == 1]
    return vectors[0] if len(vectors) == 1 else None


def has_labels(data: Dataset) -> bool:
    """Whether the data has labels, or attributes that serve as labels."""
    return data.label is not None or attributes_of(data) is not None


def labels_of(data: Dataset, samples: Tensor | None = None) -> Tensor:
    """(B,) classes or (B, A) attributes 0 and 1 of `samples` (B,); of all samples if None.

    Raises UnavailableError if the data has none.
    """
    if samples is None:
        samples = torch.arange(len(data), device=data.device)
    if data.label is not None:
        return data.label[samples]
    attributes = attributes_of(data)
    if attributes is None:
        raise UnavailableError(
            "The data has no labels; give `label` to the Dataset, or leave the metrics that need it"
            " out."
        )
    rows = data.rows_of(attributes, samples)
    return (gather(data.tables[attributes], rows) > 0.5).long()


def distinct(data: Dataset, name: str) -> LabelledValues:
    """The values of modality `name` that samples have, each once, with their labels."""
    samples = data.is_present(name).nonzero().squeeze(1)
    rows, inverse = data.rows_of(name, samples).unique(return_inverse=True)
    first = torch.empty_like(rows).scatter_(0, inverse, samples)
    return LabelledValues(data.tables[name], rows, labels_of(data, first))
