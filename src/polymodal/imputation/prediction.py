"""What a model says of entries that were hidden from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import CODED, Batch, Modality
from polymodal.imputation.columns import columns_of
from polymodal.imputation.conformal import Calibration
from polymodal.imputation.fill import PROPOSALS, Filled, batches_of, joined, summarised
from polymodal.imputation.hiding import WHOLE, Hidden, Pattern
from polymodal.imputation.weighted import Weighted, weighted_latents
from polymodal.metrics.scoring import crps, log_score, pit
from polymodal.model import MultimodalVAE
from polymodal.rng import own_random_state, seed_all


@dataclass(frozen=True)
class Predicted:
    """What is said of the entries of one modality of N samples, and how well it fits the truth.

    Args:
        filled: as `fill` gives it, without draws.
        log_score: (N, d), the log-density of the true entry, nats.
        crps: (N, d), in the user's units; of coded columns it means nothing.
        pit: (N, d), P(X <= truth).
    """

    filled: Filled
    log_score: Tensor
    crps: Tensor
    pit: Tensor

    def moved(self, calibration: Calibration, modality: Modality, pattern: Pattern) -> Predicted:
        """The same with the single values that are given to a user, all of one pattern."""
        whole = torch.full((len(self.filled.center),), pattern == WHOLE)
        return replace(self, filled=calibration.moved(self.filled, modality, whole))


@torch.no_grad()
def predict(
    model: MultimodalVAE,
    hidden: Hidden,
    levels: Sequence[float],
    *,
    proposals: int = PROPOSALS,
    seed: int = 0,
) -> dict[str, Predicted]:
    """{modality: what the model says of all of its entries, given what is not hidden}.

    Figures of entries that have no truth are those of the value 0.

    Args:
        levels: of the quantiles.
        proposals: latents behind each sample.
        seed: of the latents.
    """
    modalities = {m.name: m for m in model.modalities}
    found: dict[str, list[Predicted]] = {m: [] for m in hidden.targets}
    start, device = 0, next(model.parameters()).device
    with own_random_state(device):
        seed_all(device, "hidden", hidden.pattern, *hidden.targets, seed)
        for batch in batches_of(model, hidden.data.to(device), hidden.targets, proposals):
            rows = slice(start, start + len(batch))
            read = _read(model, _with_hidden(batch, hidden, rows))
            latents = weighted_latents(model, read, proposals, hidden.targets)
            for m in hidden.targets:
                truth = hidden.truth[m][rows].nan_to_num().to(device)
                p = latents.under(model, read, m)
                found[m].append(_predicted(p, modalities[m], latents, truth, levels))
            start += len(batch)
    return {m: _joined(parts) for m, parts in found.items()}


def _with_hidden(batch: Batch, hidden: Hidden, rows: slice) -> Batch:
    """The batch, with which of its holes are hidden: it is those rows."""
    return replace(
        batch, hidden={m: mask[rows].to(batch.device) for m, mask in hidden.mask.items()}
    )


def _read(model: MultimodalVAE, batch: Batch) -> Batch:
    """The batch without modalities that none of its samples has."""
    return model.readable(batch.only([m for m in batch.x if bool(batch.mask([m]).any())]))


def _predicted(
    p: Any,
    modality: Modality,
    latents: Weighted,
    truth: Tensor,
    levels: Sequence[float],
) -> Predicted:
    x = p.sample()
    filled = summarised(p, x, modality, latents, None, levels)
    weight = latents.weight.unsqueeze(-1)
    truth = truth.to(x.dtype)
    return Predicted(
        _with_probabilities(filled, modality),
        log_score(p.entry_log_prob(truth), weight),
        crps(x, weight, truth),
        pit(x, weight, truth, torch.rand_like(truth)),
    )


def _with_probabilities(filled: Filled, modality: Modality) -> Filled:
    """Of vectors of two values the mean is a probability, and the center the likelier value."""
    places = [i for i, c in enumerate(columns_of(modality)) if c.type in CODED]
    if filled.probabilities or not places:
        return filled
    share = filled.center
    probabilities = {i: torch.stack([1 - share[:, i], share[:, i]], -1) for i in places}
    center = (share > 0.5).to(share.dtype)
    return Filled(center, filled.quantiles, filled.draws, probabilities, filled.ess)


def _joined(parts: Sequence[Predicted]) -> Predicted:
    figures = [f.name for f in fields(Predicted) if f.name != "filled"]
    return Predicted(
        _on_cpu(joined([p.filled for p in parts])),
        **{name: torch.cat([getattr(p, name) for p in parts]).cpu() for name in figures},
    )


def _on_cpu(filled: Filled) -> Filled:
    probabilities = {i: share.cpu() for i, share in filled.probabilities.items()}
    whole = (filled.center, filled.quantiles, filled.draws)
    center, quantiles, draws = (x.cpu() for x in whole)
    return Filled(center, quantiles, draws, probabilities, filled.ess.cpu())
