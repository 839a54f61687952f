"""Means of samples with their standard errors."""

from __future__ import annotations

import math

from torch import Tensor

from polymodal.metrics.metric import Value


def mean_with_error(values: Tensor) -> tuple[float, float]:
    """The mean of (N,) and its standard error, s / sqrt(N); NaN for one sample.

    >>> import torch
    >>> mean_with_error(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    (0.75, 0.25)
    """
    values = values.double()
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), error


def macro_mean_with_error(values: Tensor, labels: Tensor) -> tuple[float, float]:
    """The mean over classes of each class's mean, and its standard error: every class counts the
    same.

    Args:
        values: (N,).
        labels: (N,) classes; only those that occur count. A class with one sample adds nothing to
            the error.

    >>> import torch
    >>> macro_mean_with_error(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1]))[0]
    0.5
    """
    each = [mean_with_error(values[labels == c]) for c in labels.unique()]
    errors = [0.0 if math.isnan(error) else error for _, error in each]
    return math.fsum(mean for mean, _ in each) / len(each), math.hypot(*errors) / len(each)


def averaged(values: Tensor | None) -> Value | None:
    """The value of a metric that has one figure for each sample, (N,); None for no figures."""
    return None if values is None or not len(values) else (*mean_with_error(values), len(values))
