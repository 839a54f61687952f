"""Means over samples or classes, each with its standard error."""

from __future__ import annotations

import math

from torch import Tensor

from polymodal.metrics.metric import Value


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean of values (N,), and its standard error s / sqrt(N); NaN for one value.

    >>> import torch
    >>> mean_and_error(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    (0.75, 0.25)
    """
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), error


def macro_mean_and_error(values: Tensor, labels: Tensor) -> tuple[float, float]:
    """The mean over classes of each class's mean, and its standard error: every class has the same
    weight.

    Args:
        values: (N,).
        labels: (N,) classes; only those that occur count.

    >>> import torch
    >>> macro_mean_and_error(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1]))[0]
    0.5
    """
    means, errors = zip(
        *(mean_and_error(values[labels == c]) for c in labels.unique()), strict=True
    )
    errors_or_0 = [0.0 if math.isnan(e) else e for e in errors]  # NaN: a class with one sample
    return math.fsum(means) / len(means), math.hypot(*errors_or_0) / len(means)


def mean_of(values: Tensor) -> Value:
    """The mean of values (N,) as the value of a metric: mean, standard error, N."""
    return *mean_and_error(values), len(values)
