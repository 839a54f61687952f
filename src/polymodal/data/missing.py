"""Laying a pattern of missing values over complete data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from polymodal.data.dataset import Dataset


def mcar(data: Dataset, rate: float | Mapping[str, float], seed: int = 0) -> Dataset:
    """`data` with modalities missing completely at random, each with probability `rate` (one for all, or by name).

    Every sample keeps at least one modality: one that would lose all keeps one of those it had, chosen evenly (so the
    share missing is a little below `rate`: rate - rate^M / M of M modalities). What was missing stays missing.

    Raises ValueError for a rate outside [0, 1) or of an unknown modality.
    """
    rates = {m: rate.get(m, 0.0) if isinstance(rate, Mapping) else float(rate) for m in data.names}
    if isinstance(rate, Mapping) and (unknown := [m for m in rate if m not in rates]):
        raise ValueError(f"missing.rate names {unknown}, but the modalities are {data.names}.")
    if not all(0 <= r < 1 for r in rates.values()):
        raise ValueError(f"missing.rate must be at least 0 and below 1, got {rate}.")
    generator = torch.Generator().manual_seed(seed)
    uniform = lambda: torch.rand(len(data), len(rates), generator=generator)
    had = torch.stack([data.present.get(m, torch.ones(len(data), dtype=torch.bool)) for m in data.names], 1)
    keep = had & (uniform() >= torch.tensor([rates[m] for m in data.names]))
    spared = (uniform() * had).argmax(1)
    keep |= ~keep.any(1, keepdim=True) & (torch.arange(len(rates)) == spared[:, None]) & had
    return replace(data, present=dict(zip(data.names, keep.unbind(1), strict=True)))


PATTERNS = {"mcar": mcar}
