"""Presence masks of experts, and the prior where a modality is absent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions.mixture import choose


def masks(present: Mapping[str, Tensor], names: Sequence[str]) -> list[Tensor] | None:
    """One presence mask (B,) for each of `names`; None if none of them has a mask."""
    if not (partial := [present[m] for m in names if m in present]):
        return None
    everywhere = torch.ones_like(partial[0])
    return [present.get(m, everywhere) for m in names]


def presence(batch: Batch, names: Iterable[str]) -> Tensor:
    """Which of `names` each sample has, (B, M) bool."""
    return torch.stack([batch.mask([m]) for m in names], dim=-1)


def observed(q: Any, p: Any, batch: Batch, m: str) -> Distribution:
    """q where modality m is present, the prior p where it is absent; both of one family.

    Args:
        q: None if the batch has no values of m.
    """
    p = p.expand((len(batch),))
    if q is None:
        return p
    return choose(batch.present[m], q, p) if m in batch.present else q
