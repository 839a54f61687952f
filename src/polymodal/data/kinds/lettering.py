"""Texts as small pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

WIDTH, LINES = 120, 6  # pixels, and lines of a text of words
LETTER = 7  # pixels of a character
HEIGHT, FONT, MARGIN = 12, 10, 2  # pixels: of a line, of its letters, around the text
PAPER, INK = 245, 20
SPACE = "  "  # between words: one of the font is too narrow at this size


def lettered(texts: Sequence[str], length: int | None = None) -> Tensor:
    """Texts as pictures (n, 3, H, W) in [0, 1], all of one size; what does not fit is cut.

    Args:
        length: characters of a text that stands in one line; None: several lines of words.

    >>> lettered(["a bird", "a small bird"]).shape
    torch.Size([2, 3, 76, 120])
    """
    from PIL import Image, ImageDraw, ImageFont

    width = WIDTH if length is None else min(WIDTH, LETTER * length + 2 * MARGIN)
    size = (width, HEIGHT * (LINES if length is None else 1) + 2 * MARGIN)
    font = ImageFont.load_default(FONT)
    pictures = np.empty((len(texts), size[1], size[0]), np.uint8)
    for picture, text in zip(pictures, texts, strict=True):
        image = Image.new("L", size, PAPER)
        lines = [text] if length is not None else _wrapped(text, font, width - 2 * MARGIN)
        for i, line in enumerate(lines[:LINES]):
            place = (MARGIN, MARGIN + i * HEIGHT - 1)
            ImageDraw.Draw(image).text(place, line, INK, font)
        picture[:] = np.asarray(image)
    grey = torch.from_numpy(pictures).float() / 255
    return grey[:, None].expand(-1, 3, -1, -1)


def _wrapped(text: str, font: Any, width: int) -> list[str]:
    """The words of a text in lines of at most `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]}{SPACE}{word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
