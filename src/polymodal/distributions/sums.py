"""Sums of tensors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor


def sum_of(values: Iterable[Tensor]) -> Tensor:
    """The sum of one or more tensors, without the integer 0 that `sum` starts from."""
    return reduce(torch.add, values)
