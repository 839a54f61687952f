"""Why entries are missing: p(missing | x), learned beside the decoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from polymodal.batch import Modality
from polymodal.distributions.likelihoods import entries
from polymodal.distributions.self_masking import MASKABLE, LogOdds, given_mask, mask_log_prob
from polymodal.distributions.table import Layout, layout_of
from polymodal.networks.learned import FASTER

START = -1.0  # log-odds of being missing
STEEPEST = 10.0  # slope of the log-odds, by standard deviation of the column


class SelfMasking(nn.Module):
    """p(missing | x) of each entry by its own value, see `LogOdds`.

    Args:
        modality: a table, or a vector of normal or Laplace numbers.
        direction: the sign of the slopes, 1 if high values are missing, -1 if low ones are; 0: not
            known, and the slopes begin at 0.
    """

    location: Tensor
    spread: Tensor
    logarithmic: Tensor
    modelled: Tensor

    def __init__(self, modality: Modality, direction: int = 0) -> None:
        super().__init__()
        self.direction = direction
        d = modality.shape[0]
        self.layout: Layout | None = layout_of(modality.columns) if modality.columns else None
        types = [c.type for c in modality.columns] or ["real"] * d
        coded = sum(len(c.categories) for c in modality.columns)
        self.intercept = nn.Parameter(torch.full((d,), START / FASTER))
        self.slope = nn.Parameter(torch.zeros(d))
        self.categories = nn.Parameter(torch.full((coded,), START / FASTER))
        like = torch.zeros(())
        kept = {
            "location": entries(modality.location or (0.0,), (d,), like).expand(d).clone(),
            "spread": entries(modality.spread or (1.0,), (d,), like).expand(d).clone(),
            "logarithmic": torch.tensor([t == "positive" for t in types]),
            "modelled": torch.tensor([t != "count" for t in types]),
        }
        for name, value in kept.items():
            self.register_buffer(name, value, persistent=False)

    def odds(self) -> LogOdds:
        """The log-odds that entries are missing."""
        coded = {} if self.layout is None else dict(self.layout.coded)
        sizes = [part.stop - part.start for part in coded.values()]
        logits = dict(zip(coded, (FASTER * self.categories).split(sizes), strict=True))
        return LogOdds(
            FASTER * self.intercept,
            self._slopes(),
            logits,
            self.location,
            self.spread,
            self.logarithmic,
            self.modelled,
        )

    def _slopes(self) -> Tensor:
        slope = FASTER * self.slope
        if self.direction:
            slope = self.direction * softplus(slope)
        return slope.clamp(-STEEPEST, STEEPEST)

    def log_prob(self, p: Any, x: Tensor, hidden: Tensor | None) -> Tensor:
        """The log-probability of which entries are missing, (..., B), nats, see `mask_log_prob`.

        Args:
            p: p(x|z).
            x: (B, d), NaN in holes.
            hidden: (B, d) bool, holes of which the value was observed; None: none.
        """
        return mask_log_prob(p, x, self._sign(x, hidden), self.odds())

    def given(self, p: Any, x: Tensor | None, hidden: Tensor | None) -> Any:
        """p(x|z) of entries that are not observed, given whether they are missing or hidden; as it
        is of entries that are observed.

        Args:
            x: None: the modality is absent.
        """
        if x is None:
            if hidden is None:
                return p
            x = torch.zeros_like(hidden, dtype=self.spread.dtype)
        return given_mask(p, self._sign(x, hidden), self.odds())

    def _sign(self, x: Tensor, hidden: Tensor | None) -> Tensor:
        """1 of holes, -1 of hidden entries, 0 of others and of columns without log-odds: (B, d)."""
        sign = x.isnan().to(self.spread.dtype)
        if hidden is not None:
            sign = torch.where(hidden, -1, sign)
        return sign * self.modelled


DIRECTIONS = {"self_masking": 0, "high_missing": 1, "low_missing": -1}


def mechanisms_of(modalities: Sequence[Modality], mechanism: str) -> dict[str, SelfMasking]:
    """The mechanism of each table, and of each vector of numbers, of which entries are missing;
    none if it is "ignorable".

    Args:
        mechanism: ignorable, or a key of DIRECTIONS.

    Raises ValueError if there are no such entries.
    """
    if mechanism == "ignorable":
        return {}
    found = {m.name: SelfMasking(m, DIRECTIONS[mechanism]) for m in modalities if _can_be_masked(m)}
    if not found:
        raise ValueError(
            f"mechanism={mechanism} needs a table, or a vector of normal or Laplace numbers, with"
            f" several entries of which some are missing in training; {_names(modalities)} have"
            " none. Leave mechanism out."
        )
    return found


def _can_be_masked(m: Modality) -> bool:
    """Whether single entries of vectors are missing for reasons that can be modelled."""
    return m.holes and m.likelihood in MASKABLE and len(m.shape) == 1 and m.shape[0] > 1


def _names(modalities: Sequence[Modality]) -> str:
    return ", ".join(m.name for m in modalities)
