"""Sums of tensors."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
from torch import Tensor


def sum_of(values: Any) -> Tensor:
    """Sum of one or more tensors, without the integer 0 that `sum` starts from."""
    return reduce(torch.add, values)
