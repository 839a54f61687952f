"""Values that have names, such as attributes: read from words, written as a table, drawn as words.

A bernoulli value is a probability; it is present where that is above 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import check_name, shown
from polymodal.data.kinds.draws import draws_as_csv
from polymodal.data.kinds.lettering import width_of, written

LINES = 14  # names in a picture
NOTHING, WIDEST = "(none)", " -8.88e+88"
OTHERS = "-*"
FORM = "such as Smiling,-Male (- for 0) or height:1.8"


def value_of_words(
    text: str, modality: Modality, usual: Sequence[float] | None
) -> tuple[Tensor, str]:
    """A value (1, d) from named entries, and a sentence on the entries without a word.

    "Smiling" is 1, "-Male" 0, "height:1.8" a number, and "-*" sets all others to 0. Without it the
    others have their most frequent value in the training data (bernoulli), or their mean.

    Args:
        usual: means over the training data, (d,); None: not known.

    Raises ValueError for an unknown name, with the nearest, a name that comes twice, and what is no
    number.
    """
    names = modality.names or ()
    words = [word.strip() for word in text.split(",") if word.strip()]
    given = [_entry(word, modality) for word in words if word != OTHERS]
    values = dict(given)
    if len(values) < len(given) or not words:
        raise ValueError(f"{modality.name!r} takes names, each once, {FORM}; got {shown(text)}.")
    left = [name for name in names if name not in values]
    if OTHERS in words:
        others, how = dict.fromkeys(left, 0.0), "are 0"
    elif usual is None and left:
        raise ValueError(
            f"This run does not keep how frequent the values of {modality.name!r} are; name all of"
            f" them, or end with {OTHERS}: all others 0."
        )
    else:
        others, how = _usual(modality, usual or (), left)
    every = values | others
    said = f"{modality.name}: {', '.join(f'{name} {value:g}' for name, value in values.items())}"
    rest = f"; the other {len(left)} {how}" if left else ""
    return torch.tensor([[every[name] for name in names]]), f"{said}{rest}."


def _entry(word: str, modality: Modality) -> tuple[str, float]:
    """The name and the value that a word stands for."""
    name, colon, number = word.partition(":")
    negative = not colon and name.startswith("-")
    name = name.removeprefix("-") if negative else name
    check_name(name, modality.names or (), "name", f" in {modality.name!r}")
    if not colon:
        return name, 0.0 if negative else 1.0
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{modality.name!r} takes names, {FORM}; got {shown(word)}.")
    return name, value


def _usual(
    modality: Modality, usual: Sequence[float], left: Sequence[str]
) -> tuple[dict[str, float], str]:
    """The values of entries without a word, and how they were chosen."""
    means = dict(zip(modality.names or (), usual, strict=True))
    if modality.likelihood != "bernoulli":
        return {name: means[name] for name in left}, "have their mean in the training data"
    frequent = {name: float(means[name] > 0.5) for name in left}
    present = [name for name, value in frequent.items() if value]
    ones = f"1 for {', '.join(present)}" if present else "0 for all"
    return frequent, f"have their most frequent value in the training data, {ones}"


def as_csv(draws: Tensor, modality: Modality) -> bytes:
    """Draws (n, B, d) as a table with a column for each name."""

    def cells(sample: Tensor) -> list[list[str]]:
        return [[f"{v:.6g}" for v in draw] for draw in sample.tolist()]

    return draws_as_csv(draws, modality.names or (), cells)


def drawn(x: Tensor, modality: Modality) -> Tensor:
    """Values (n, d) as pictures (n, 3, H, W) of words, one below the other: the names of those that
    are present, darker the more probable, or (no bernoulli) names with their values; at most LINES.
    """
    values = x.detach().cpu().double().tolist()
    lines = [_lines(row, modality) or [(NOTHING, 0.5)] for row in values]
    names, number = modality.names or (), "" if modality.likelihood == "bernoulli" else WIDEST
    width = width_of([NOTHING, *(name + number for name in names)])
    inked = [[(word, round(190 * (1 - dark))) for word, dark in each] for each in lines]
    return written(inked, width, min(LINES, len(names)))


def _lines(values: Sequence[float], modality: Modality) -> list[tuple[str, float]]:
    """The words of one value, and how dark each is, from 0 to 1."""
    named = list(zip(modality.names or (), values, strict=True))
    if modality.likelihood != "bernoulli":
        return [(f"{name} {value:.3g}", 1.0) for name, value in named[:LINES]]
    likely = sorted(named, key=lambda entry: -entry[1])[:LINES]
    kept = {name for name, value in likely if value > 0.5}
    return [(name, min(1.0, 2 * value - 1)) for name, value in named if name in kept]
