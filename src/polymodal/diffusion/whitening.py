"""Coordinates of a latent in which every block is white."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor, nn


class LatentWhitening(nn.Module):
    """Coordinates y = (z - mean) @ matrix, block by block. A diffusion models some of them, the
    others are N(0, I).

    Args:
        sizes: {block: dimensions}, in their order in z.

    `modelled` (d,) bool says which; a new one changes nothing: mean 0, matrix I, all modelled.
    """

    mean: Tensor
    matrix: Tensor
    inverse_matrix: Tensor
    modelled: Tensor

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        d = sum(sizes.values())
        self.sizes = dict(sizes)
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("matrix", torch.eye(d))
        self.register_buffer("inverse_matrix", torch.eye(d))
        self.register_buffer("modelled", torch.ones(d, dtype=torch.bool))

    @torch.no_grad()
    def set_(
        self, mean: Tensor, matrix: Tensor, num_directions: Mapping[str, int] | None = None
    ) -> None:
        """Sets the mean (d,), the block-diagonal matrix (d, d), and how many leading coordinates of
        each block are modelled; None: as many as before.
        """
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
        # not every device has double precision
        self.inverse_matrix.copy_(torch.linalg.inv(matrix.cpu().double()))
        if num_directions is not None:
            leading = [torch.arange(d) < num_directions[m] for m, d in self.sizes.items()]
            self.modelled.copy_(torch.cat(leading))

    def forward(self, z: Tensor) -> Tensor:
        """y (..., d) of z (..., d)."""
        return (z - self.mean) @ self.matrix

    def inverse(self, y: Tensor) -> Tensor:
        """z (..., d) of y (..., d)."""
        return y @ self.inverse_matrix + self.mean

    def log_det(self) -> Tensor:
        """log |det| of each block's matrix, (M,): log p(z_m) = log p(y_m) + log |det|."""
        matrix = self.matrix.cpu().double()
        blocks = [matrix[part, part] for part in self._parts()]
        return torch.stack([torch.linalg.slogdet(block)[1] for block in blocks]).to(self.matrix)

    def _parts(self) -> list[slice]:
        """The coordinates of each block."""
        ends = list(accumulate(self.sizes.values()))
        return [slice(end - d, end) for end, d in zip(ends, self.sizes.values(), strict=True)]
