"""What a model says of the modalities that were not given: draws, and how sure it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.sampling import SamplerReport

FEW_DRAWS = 20  # effective draws below which an interval is rough
NAMES = {"rhat": "R-hat", "ess": "effective sample size", "log_normalizer": "log normaliser"}
FIGURES = ("acceptance", "divergent", "rhat", "ess", "unique")


@dataclass(frozen=True)
class Cell:
    """One cell of a row.

    Args:
        column: its name.
        value: what was given, or the best single value; in the user's units.
        low, high: between which the value lies with the probability of the interval; "" if none.
        probability: of the category; None: it is a number, or was given.
        is_given: whether it was given.
    """

    column: str
    value: str
    low: str = ""
    high: str = ""
    probability: float | None = None
    is_given: bool = False


@dataclass(frozen=True)
class Row:
    """A row with its holes filled.

    Args:
        cells: one for each column.
        text: how far to trust it.
    """

    cells: Sequence[Cell]
    text: str = ""


@dataclass(frozen=True)
class Answer:
    """What a model says given some modalities.

    Args:
        batch: what was given, as the model reads it; None: nothing.
        draws: of every modality that was not given whole, each (n, 1, *shape); the k-th values of
            all modalities belong together. Entries that were given are as they were given.
        rows: of those that are rows, filled.
        sure: a sentence for each modality that was drawn: how far the draws agree.
        sampler: how the latents were drawn, in a sentence.
        warning: what is wrong with that; None: nothing.
        notes: how what was given was read.
    """

    batch: Batch | None
    draws: Mapping[str, Tensor]
    rows: Mapping[str, Row] = field(default_factory=dict)
    sure: Mapping[str, str] = field(default_factory=dict)
    sampler: str = ""
    warning: str | None = None
    notes: Sequence[str] = ()

    @property
    def given(self) -> list[str]:
        """The modalities of which something was given."""
        return [] if self.batch is None else list(self.batch.x)


def agreement(x: Tensor, spread: Tensor) -> float:
    """How far draws x (n, *shape) agree: 1 - their variance over that of values drawn with nothing
    given, `spread` (*shape), both summed over the entries; at least 0. NaN for one draw, and where
    nothing varies.

    >>> agreement(torch.tensor([[1.0], [3.0]]), torch.tensor([8.0]))
    0.75
    """
    total = float(spread.double().sum())
    if len(x) < 2 or total <= 0:
        return math.nan
    return max(0.0, 1 - float(x.double().var(0).sum()) / total)


def agreement_text(share: float, n: int) -> str:
    """How far n draws agree, in words."""
    if math.isnan(share):
        return ""
    return (
        f"The {n} draws agree by {share:.0%} (100%: all are equal; 0%: they vary as much as with"
        " nothing given)."
    )


def texts_agree(texts: Sequence[str]) -> str:
    """How often the most frequent of several texts comes.

    >>> texts_agree(["a bird", "a nest", "a bird"])
    '2 of 3 draws say “a bird”.'
    """
    (text, count), *_ = Counter(texts).most_common(1)
    if count == 1 and len(texts) > 1:
        return f"The {len(texts)} draws all differ."
    return f"{count} of {len(texts)} draws say “{text}”."


def sampler_text(name: str, report: SamplerReport | None) -> str:
    """How latents were drawn, with the sampler's figures; "" if in closed form."""
    if report is None:
        return ""
    summary = report.summary()
    figures = [f"{NAMES.get(k, k)} {summary[k]:.3g}" for k in FIGURES if k in summary]
    said = f": {', '.join(figures)}" if figures else ""
    return f"What is not given was drawn by a sampler, {name}{said}."


def effective_text(ess: float) -> str:
    """How many effective draws are behind an interval."""
    rough = "; intervals are rough" if ess < FEW_DRAWS else ""
    return f"Effective draws behind the intervals: {ess:.0f}{rough}."


def with_given(draws: Tensor, batch: Batch | None, m: str) -> Tensor:
    """Draws (n, 1, *shape) with the entries that were given as they were."""
    if batch is None or m not in batch.x:
        return draws
    x = batch.x[m].to(draws)
    present = batch.mask([m]).view(-1, *[1] * (x.dim() - 1))
    return torch.where(present & ~x.isnan(), x, draws)
