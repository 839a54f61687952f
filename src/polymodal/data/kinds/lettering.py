"""Texts as small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

WIDTH = 120  # pixels of a text of words
LINES, MOST_LINES = 6, 16  # of a text of words, at least and at most
CUT = "..."  # ends a text that does not fit
LETTER = 7  # pixels of a character
HEIGHT, FONT, MARGIN = 12, 10, 2  # pixels: of a line, of its letters, around the text
PAPER, INK = 245, 20
SPACE = "  "  # between words: one of the font is too narrow at this size


def lettered(texts: Sequence[str], length: int | None = None) -> Tensor:
    """Texts as pictures (n, 3, H, W) in [0, 1], all of one size: that of the longest text, with
    at most MOST_LINES lines. A text of words that does not fit ends in "...".

    Args:
        length: characters of a text that stands in one line; None: several lines of words.

    >>> lettered(["a bird", "a small bird"]).shape
    torch.Size([2, 3, 76, 120])
    """
    if length is not None:
        width = min(WIDTH, LETTER * length + 2 * MARGIN)
        return written([[(text, INK)] for text in texts], width, 1)
    lines = [_wrapped(text, _font(), WIDTH - 2 * MARGIN) for text in texts]
    count = min(MOST_LINES, max(LINES, *map(len, lines)))
    shown = [_cut(each, count) for each in lines]
    return written([[(line, INK) for line in each] for each in shown], WIDTH, count)


def _cut(lines: Sequence[str], count: int) -> Sequence[str]:
    """At most `count` lines, the last of which says that more are left out."""
    if len(lines) <= count:
        return lines
    return [*lines[: count - 1], f"{lines[count - 1][: -len(CUT)]}{CUT}"]


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
