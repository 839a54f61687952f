"""Small pictures side by side in one, pixel for pixel."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MOST = 16  # samples and draws that a file shows
LARGEST = 4  # times as large, at most, as images narrower than others beside them are shown
PAPER, GAP, WIDE = 255, 2, 6  # what lies between images, and how wide it is, in pixels


def mosaic(rows: Sequence[Tensor], gap_after: int = 0) -> np.ndarray:
    """Rows of images (n, 3, H, W) or (n, 1, H, W) in [0, 1] as one image, uint8 (H, W, 3).

    Args:
        rows: from top to bottom, each as high as its images; images of less than half the width of
            the widest are shown two or more times as large, and stand in the middle of their place.
        gap_after: so many first rows are set apart from the rest by a wider gap.

    >>> mosaic([torch.zeros(3, 1, 4, 4), torch.ones(3, 1, 4, 4)]).shape
    (10, 16, 3)
    """
    width = max(row.shape[-1] for row in rows)
    shown = [_pixels(row, min(LARGEST, width // row.shape[-1])) for row in rows]
    wide = WIDE if 0 < gap_after < len(rows) else 0
    heights = [images.shape[1] for images in shown]
    canvas = _paper(
        sum(heights) + GAP * (len(rows) - 1) + wide, _length(max(map(len, rows)), width)
    )
    top = 0
    for i, images in enumerate(shown):
        top += wide if i == gap_after else 0
        for j, image in enumerate(images):
            left = j * (width + GAP)
            _place(canvas[top : top + heights[i], left : left + width], image)
        top += heights[i] + GAP
    return canvas


def rows_of_draws(draws: Sequence[Tensor], above: Sequence[Tensor] = ()) -> np.ndarray:
    """Draws below what was given, at most MOST samples and MOST draws of each, as one image.

    Args:
        draws: n draws, each (B, 3, H, W).
        above: what was given, (B, 3, H', W') each; nothing: the first of each draw, in a square of
            at most MOST^2.
    """
    if above:
        given, rows = [x[:MOST] for x in above], [x[:MOST] for x in draws[:MOST]]
        return mosaic([*given, *rows], gap_after=len(given))
    images = torch.cat([x[:1] for x in draws[: MOST * MOST]])
    return mosaic(images.split(math.ceil(math.sqrt(len(images)))))


def _length(count: int, size: int) -> int:
    """The length of `count` images of this size with gaps between them."""
    return count * (size + GAP) - GAP


def _paper(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), PAPER, np.uint8)


def _pixels(images: Tensor, scale: int) -> np.ndarray:
    """Images (n, C, H, W) in [0, 1] as bytes (n, scale H, scale W, 3)."""
    colour = images.detach().float().cpu().clamp(0, 1).expand(-1, 3, -1, -1)
    values = (colour.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    return values.repeat(scale, 1).repeat(scale, 2)


def _place(place: np.ndarray, image: np.ndarray) -> None:
    """Copies an image into the middle of its place."""
    height, width = image.shape[:2]
    top, left = (place.shape[0] - height) // 2, (place.shape[1] - width) // 2
    place[top : top + height, left : left + width] = image


def png(image: np.ndarray, scale: int = 1) -> bytes:
    """The bytes of a PNG file of an image (H, W, 3), every pixel `scale` times as large."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image.repeat(scale, 0).repeat(scale, 1)).save(content, "png", optimize=True)
    return content.getvalue()


def colour(hue: float, saturation: float, value: float) -> Tensor:
    """(3,) red, green, blue in [0, 1], float64; a hue of 1 is that of 0."""
    import colorsys

    return torch.tensor(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=torch.float64)
