"""Hiding what was observed, so that a model can be asked for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data import Dataset
from polymodal.data.grid import values_of
from polymodal.rng import stream

Pattern = Literal["entries", "whole"]  # of what is hidden
ENTRIES: Pattern = "entries"
WHOLE: Pattern = "whole"
SHARE = 0.3  # of the entries


@dataclass(frozen=True)
class Hidden:
    """Samples of which a part is hidden.

    Args:
        pattern: "entries", or "whole": a modality, given the others.
        data: N samples with holes in place of what is hidden.
        truth: {modality: (N, d)}, the values before; NaN where there was none.
        mask: {modality: (N, d) bool}, what is hidden: all of it was observed.
        times: how often each sample is among the N.
    """

    pattern: Pattern
    data: Dataset
    truth: Mapping[str, Tensor]
    mask: Mapping[str, Tensor]
    times: int = 1

    @property
    def targets(self) -> list[str]:
        """The modalities of which something is hidden."""
        return list(self.mask)


def hide_entries(
    data: Dataset, names: Sequence[str], share: float = SHARE, seed: int = 0, times: int = 1
) -> Hidden:
    """Hides each observed entry of the modalities `names` with probability `share`, completely at
    random; a sample that would lose all that it has keeps one entry.

    Args:
        times: how often each sample is taken, each time with other entries hidden.

    Raises ValueError for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, such as {SHARE}, got {share}.")
    data = data.take(torch.arange(len(data)).repeat(times)) if times > 1 else data
    truth = {m: values_of(data, _modality(data, m)) for m in names}
    sizes = [x.shape[1] for x in truth.values()]
    observed = ~torch.cat(list(truth.values()), 1).isnan()
    generator = torch.Generator().manual_seed(stream("hide entries", seed) % 2**63)
    draws = torch.rand(observed.shape, generator=generator).to(observed.device)
    kept = observed & (draws >= share)
    last = observed & (draws == torch.where(observed, draws, -1.0).amax(1, keepdim=True))
    is_bare = ~(kept.any(1) | _present(data, [m for m in data.names if m not in truth]))
    kept = kept | (last & is_bare[:, None])
    mask = dict(zip(truth, (observed & ~kept).split(sizes, 1), strict=True))
    return Hidden(ENTRIES, _without(data, truth, mask), truth, mask, times)


def hide_modality(data: Dataset, m: str) -> Hidden | None:
    """Hides modality m of all samples that have it and another one; None if there is none."""
    others = _present(data, [name for name in data.names if name != m])
    rows = (data.is_present(m) & others).nonzero().squeeze(1)
    if not len(rows):
        return None
    part = data.take(rows)
    truth = {m: values_of(part, _modality(data, m))}
    mask = {m: ~truth[m].isnan()}
    return Hidden(WHOLE, _without(part, truth, mask), truth, mask)


def _modality(data: Dataset, m: str) -> Modality:
    return next(each for each in data.modalities if each.name == m)


def _present(data: Dataset, names: Sequence[str]) -> Tensor:
    """Which samples have any of the modalities, (N,) bool."""
    present = torch.zeros(len(data), dtype=torch.bool, device=data.device)
    for m in names:
        present = present | data.is_present(m)
    return present


def _without(data: Dataset, truth: Mapping[str, Tensor], mask: Mapping[str, Tensor]) -> Dataset:
    """The data with holes where the masks are true."""
    tables = {m: torch.where(mask[m], torch.nan, x) for m, x in truth.items()}
    present = {m: ~x.isnan().all(1) for m, x in tables.items()}
    return replace(
        data,
        tables={**data.tables, **tables},
        index={m: rows for m, rows in data.index.items() if m not in tables},
        present={**data.present, **present},
        holes=(data.holes or frozenset()) | {*tables},
    )
