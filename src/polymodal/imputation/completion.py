"""The samples of a data set that lack something, completed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data import Dataset, gather
from polymodal.imputation.conformal import Calibration, held, quantiles_of, widened
from polymodal.imputation.fill import PROPOSALS, Filled, fill
from polymodal.model import MultimodalVAE

FEW_DRAWS = 20  # effective draws below which intervals and draws are rough


@dataclass(frozen=True)
class Completion:
    """What stands in the place of what N samples lack.

    Args:
        rows: (R,), the samples that lack something.
        filled: {modality: what is known of it in those samples}.
        whole: {modality: (R,) bool, which of them lack it as a whole}.
        nothing: (N,) bool, the samples of which nothing is observed.
        level: of the intervals.
    """

    rows: Tensor
    filled: Mapping[str, Filled]
    whole: Mapping[str, Tensor]
    nothing: Tensor
    level: float

    @property
    def ess(self) -> float | None:
        """The median effective number of draws behind a sample of which something is observed;
        None if no such sample lacks anything.
        """
        some = next(iter(self.filled.values()), None)
        if some is None:
            return None
        ess = some.ess[~self.nothing[self.rows]]
        return float(ess.median()) if len(ess) else None

    def warning(self, remedy: str = "more proposals") -> str | None:
        """A sentence if the effective draws are few."""
        if self.ess is None or self.ess >= FEW_DRAWS:
            return None
        return (
            f"The median effective number of draws is {self.ess:.0f}, fewer than {FEW_DRAWS}:"
            f" intervals and draws are rough; try {remedy}, or train longer."
        )

    def moved(self, modalities: Sequence[Modality], calibration: Calibration | None) -> Completion:
        """The same with numbers moved towards their column's mean by a calibration."""
        if calibration is None:
            return self
        named = {m.name: m for m in modalities}
        filled = {
            m: calibration.moved(known, named[m], self.whole[m]) for m, known in self.filled.items()
        }
        return replace(self, filled=filled)

    def bounds(self, modality: Modality, calibration: Calibration | None) -> Tensor:
        """Lower and upper bounds (2, R, *shape) of the intervals, stretched by a calibration."""
        m = modality.name
        found = widened(self.filled[m], calibration, self.level, modality, self.whole[m])
        return torch.stack(found)

    def probabilities(
        self, modality: Modality, calibration: Calibration | None
    ) -> dict[int, Tensor]:
        """{place of a coded column: its probabilities (R, K), tempered by a calibration}."""
        m = modality.name
        return held(self.filled[m], calibration, modality, self.whole[m])

    def all_rows(self, values: Tensor) -> Tensor:
        """Values (R, *shape) of the samples that lack something as values (N, *shape), NaN in the
        other samples.
        """
        whole = values.new_full((len(self.nothing), *values.shape[1:]), torch.nan)
        whole[self.rows] = values
        return whole


@torch.no_grad()
def complete(
    model: MultimodalVAE,
    data: Dataset,
    targets: Sequence[str] | None = None,
    *,
    level: float = 0.9,
    draws: int = 0,
    proposals: int = PROPOSALS,
    seed: int = 0,
) -> Completion:
    """What the model puts in the place of what samples lack; see `fill`.

    Args:
        targets: names of modalities; None: all.
        level: of the intervals; each `Filled` has the quantiles that bound them, and the median.
        draws: completions of each sample.
        seed: of all noise; torch's random stream stays as it was.
    """
    names = data.names if targets is None else targets
    lacking = {m: missing(data, m).flatten(1).any(1) for m in names}
    nothing = ~torch.stack([data.is_present(m) for m in data.names]).any(0)
    rows = torch.stack(list(lacking.values())).any(0).nonzero().squeeze(1)
    wanted = [m for m, lacks in lacking.items() if lacks.any()]
    filled: Mapping[str, Filled] = {}
    if wanted:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            filled = fill(
                model,
                data.take(rows),
                wanted,
                levels=quantiles_of(level),
                draws=draws,
                proposals=proposals,
                lacking={m: lacking[m][rows] for m in wanted},
            )
    whole = {m: ~data.is_present(m)[rows] for m in wanted}
    return Completion(rows, filled, whole, nothing, level)


def missing(data: Dataset, m: str) -> Tensor:
    """Which entries of modality m were not observed, (N, *shape) bool."""
    absent = ~data.is_present(m)
    x = gather(data.tables[m], data.rows_of(m))
    return x.isnan() | absent.reshape(-1, *[1] * (x.dim() - 1))


def single_values(center: Tensor, modality: Modality) -> Tensor:
    """The best single values (R, *shape) of a `Filled` as the modality has them: probabilities of
    zeros and ones become the more probable one.
    """
    if modality.likelihood == "bernoulli":
        return (center > 0.5).to(center.dtype)
    if modality.likelihood == "categorical":
        best = center.argmax(-1, keepdim=True)
        return torch.zeros_like(center).scatter(-1, best, 1.0)
    return center
