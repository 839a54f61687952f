"""Principal components of wide values, which encoders read in place of thousands of numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WIDE = 100  # values above which encoders read components
COMPONENTS = 50
ROWS = 5000  # samples by which they are found
TINY = 1e-6  # of the largest variance: below it there is nothing


class PrincipalComponents(nn.Module):
    """Values x (B, d) as their first k principal components (B, k), in units of the root of their
    mean variance. Until `start_at` they are k random directions.

    Few samples of thousands of values do not determine as many weights, but they do determine the
    directions in which the samples differ most.

    Args:
        name: of the modality.
        before: values as they are read -> x.
        size: d.
    """

    center: Tensor
    directions: Tensor

    def __init__(self, name: str, before: nn.Module, size: int) -> None:
        super().__init__()
        self.modality, self.before = name, before
        self.register_buffer("center", torch.zeros(size))
        self.register_buffer("directions", torch.randn(size, COMPONENTS) / size**0.5)

    @torch.no_grad()
    def start_at(self, values: Tensor) -> None:
        """Finds the components of training values (N, *shape)."""
        x = self.before(values[:ROWS].to(self.directions)).double()
        center = x.mean(0)
        _, scales, directions = torch.linalg.svd(x - center, full_matrices=False)
        directions, scales = directions[:COMPONENTS], scales[:COMPONENTS]
        kept = scales.square() > TINY * scales[:1].square()
        variance = (scales.square() / len(x))[kept].mean().clamp_min(TINY)
        directions = torch.where(kept[:, None], directions, 0) / variance.sqrt()
        self.center.copy_(center)
        self.directions.zero_()
        self.directions[:, : len(directions)] = directions.T.to(self.directions)

    def forward(self, x: Any) -> Tensor:
        return (self.before(x) - self.center) @ self.directions
