"""Texts as small pictures."""

from __future__ import annotations

import math
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
    if length is not None:
        width = min(WIDTH, LETTER * length + 2 * MARGIN)
        return written([[(text, INK)] for text in texts], width, 1)
    lines = [_wrapped(text, _font(), WIDTH - 2 * MARGIN) for text in texts]
    return written([[(line, INK) for line in each] for each in lines], WIDTH, LINES)


def written(texts: Sequence[Sequence[tuple[str, int]]], width: int, lines: int) -> Tensor:
    """Lines of letters, each with its ink (0 is black), as pictures (n, 3, H, W) in [0, 1] with
    room for so many lines; further ones are left out.
    """
    from PIL import Image, ImageDraw

    font, size = _font(), (width, HEIGHT * lines + 2 * MARGIN)
    pictures = np.empty((len(texts), size[1], size[0]), np.uint8)
    for picture, text in zip(pictures, texts, strict=True):
        image = Image.new("L", size, PAPER)
        for i, (line, ink) in enumerate(text[:lines]):
            place = (MARGIN, MARGIN + i * HEIGHT - 1)
            ImageDraw.Draw(image).text(place, line, ink, font)
        picture[:] = np.asarray(image)
    grey = torch.from_numpy(pictures).float() / 255
    return grey[:, None].expand(-1, 3, -1, -1)


def width_of(lines: Sequence[str]) -> int:
    """The pixels of a picture in which each of these lines fits."""
    font = _font()
    return math.ceil(max(map(font.getlength, lines))) + 2 * MARGIN


def _font() -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(FONT)


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
