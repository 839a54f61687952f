"""Augmentation of images while a network is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomShift(nn.Module):
    """Moves each image by up to `pixels` in both directions, repeating its border; in training and
    for images only, else the identity.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.pixels or x.dim() != 4:
            return x
        move = torch.randint(-self.pixels, self.pixels + 1, (2, len(x), 1), device=x.device)
        rows = _moved(x.shape[-2], move[0])[:, :, None]
        columns = _moved(x.shape[-1], move[1])[:, None, :]
        each = torch.arange(len(x), device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2)


def _moved(size: int, by: Tensor) -> Tensor:
    """The places 0, ..., size - 1 moved `by` (B, 1) and kept within the image, (B, size)."""
    return (torch.arange(size, device=by.device) + by).clamp(0, size - 1)
