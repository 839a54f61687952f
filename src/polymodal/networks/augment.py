"""Augmentation of images while a network is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RandomShift(nn.Module):
    """In training, each image moved by up to `pixels` in both directions, its border repeated; else
    the identity.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.pixels or x.dim() != 4:
            return x
        size, (height, width) = len(x), x.shape[-2:]
        move = torch.randint(-self.pixels, self.pixels + 1, (2, size, 1), device=x.device)
        rows = (torch.arange(height, device=x.device) + move[0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=x.device) + move[1]).clamp(0, width - 1)
        each = torch.arange(size, device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(
            0, 3, 1, 2
        )
