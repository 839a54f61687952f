"""Augmentation of inputs while a network is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polymodal.rng import noise


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
        return shifted(x, noise(x, [2, len(x), 1], self._steps))

    def _steps(self, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Whole numbers of pixels; `dtype` is that of the images."""
        return torch.randint(-self.pixels, self.pixels + 1, shape, device=device)


class Dropout(nn.Module):
    """Sets a random share `p` of each sample's values to 0 and scales the others by 1 / (1 - p); in
    training only.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        flat = x.flatten(1)
        return (flat * (noise(flat, flat.shape, torch.rand) >= self.p) / (1 - self.p)).view_as(x)


def shifted(x: Tensor, by: Tensor) -> Tensor:
    """Images x (B, C, H, W) moved by so many rows and columns, (2, B, 1), borders repeated."""
    rows = _moved(x.shape[-2], by[0])[:, :, None]
    columns = _moved(x.shape[-1], by[1])[:, None, :]
    each = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[each, rows, columns].permute(0, 3, 1, 2)


def _moved(size: int, by: Tensor) -> Tensor:
    """The places 0, ..., size - 1 moved `by` (B, 1) and kept within the image, (B, size)."""
    return (torch.arange(size, device=by.device) + by).clamp(0, size - 1)
