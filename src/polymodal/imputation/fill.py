"""Values in place of what was not observed, with their uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polymodal.batch import CODED, LOGARITHMIC, Batch, Column, Modality
from polymodal.data import Dataset, kind_of
from polymodal.distributions.table import TableValues
from polymodal.distributions.tokens import TokenSequence
from polymodal.imputation.weighted import (
    Weighted,
    is_large,
    weighted_latents,
    weighted_quantiles,
)
from polymodal.model import MultimodalVAE, decoded_size

PROPOSALS = 1000  # latents of a sample, before they are weighted
FEW = 100  # latents of a sample that are decoded into pictures and texts, at most
LATENTS = 100_000  # latents that are decoded at a time
VALUES = 20_000_000  # numbers that are decoded at a time
GRID = 39  # quantiles that a trimmed mean averages


@dataclass(frozen=True)
class Filled:
    """What is known of one modality of N samples.

    Args:
        center: (N, *shape), the best single value: the mean of numbers, the category that is most
            probable, or of ordered ones nearest to the mean.
        quantiles: (Q, N, *shape) of single numbers, the likelihood's own noise included; of coded
            columns they mean nothing.
        draws: (n, N, *shape), completions that belong together, row by row; of pictures the
            decoders' means.
        probabilities: {place of a coded column: (N, K)}.
        ess: (N,), the effective number of draws behind each sample.
    """

    center: Tensor
    quantiles: Tensor
    draws: Tensor
    probabilities: dict[int, Tensor]
    ess: Tensor


@torch.no_grad()
def fill(
    model: MultimodalVAE,
    data: Dataset | Batch,
    targets: Sequence[str],
    *,
    levels: Sequence[float] = (0.05, 0.5, 0.95),
    draws: int = 0,
    proposals: int = PROPOSALS,
    lacking: Mapping[str, Tensor] | None = None,
) -> dict[str, Filled]:
    """What the model knows of the modalities `targets` given everything that was observed.

    Args:
        levels: of the quantiles.
        draws: completions of each sample.
        proposals: latents behind each sample, see `weighted_latents`.
        lacking: {modality: (N,) bool}, the samples of which pictures and texts are wanted; of the
            others they are zeros. None: of all.

    Returns {modality: Filled}, observed entries included, as the model would draw them anew.
    """
    modalities = {m.name: m for m in model.modalities}
    found: dict[str, list[Filled]] = {m: [] for m in targets}
    start = 0
    for batch in batches_of(model, data, targets, proposals):
        read = model.readable(batch)
        latents = weighted_latents(model, read, proposals, targets)
        chosen = _chosen(latents.weight, draws)
        for m in targets:
            if is_large(modalities[m]):
                rows = torch.ones(len(batch), dtype=torch.bool)
                if lacking is not None:
                    rows = lacking[m][start : start + len(batch)]
                found[m].append(_of_rows(model, modalities[m], latents, chosen, levels, rows))
                continue
            p = latents.under(model, read, m)
            found[m].append(summarised(p, p.sample(), modalities[m], latents, chosen, levels))
        start += len(batch)
    return {m: joined(parts) for m, parts in found.items()}


def _of_rows(
    model: MultimodalVAE,
    modality: Modality,
    latents: Weighted,
    chosen: Tensor | None,
    levels: Sequence[float],
    rows: Tensor,
) -> Filled:
    """What the draws say of a picture or a text of the samples `rows` (B,); zeros of the others."""
    index, (n, shape) = rows.nonzero().squeeze(1), (len(rows), modality.shape)
    count = 0 if chosen is None else len(chosen)
    z = latents.z
    center, quantiles = z.new_zeros(n, *shape), z.new_zeros(len(levels), n, *shape)
    draws = z.new_zeros(count, n, *shape)
    if len(index):
        part = Weighted(z[:, index], latents.weight[:, index], latents.ess[index])
        of_part = None if chosen is None else chosen[:, index]
        some = _by_few(model, modality, part, of_part, levels)
        center[index], quantiles[:, index] = some.center, some.quantiles
        draws[:, index] = some.draws
    return Filled(center, quantiles, draws, {}, latents.ess)


def _by_few(
    model: MultimodalVAE,
    modality: Modality,
    latents: Weighted,
    chosen: Tensor | None,
    levels: Sequence[float],
) -> Filled:
    """What the draws say of a picture or a text, by at most FEW of them."""
    decoder, every = model.decoders[modality.name], torch.arange(latents.z.shape[1])
    some = latents
    if len(latents.z) > FEW:
        few = torch.multinomial(latents.weight.T, FEW, replacement=True).T
        z = latents.z[few, every]
        some = Weighted(z, z.new_full(z.shape[:-1], 1 / FEW), latents.ess)
    p: Any = decoder(some.z)
    filled = summarised(p, p.sample(), modality, some, None, levels)
    if chosen is None:
        return filled
    drawn: Any = decoder(latents.z[chosen, every])
    return replace(filled, draws=drawn.mean if kind_of(modality).visual else drawn.sample())


def _chosen(weight: Tensor, draws: int) -> Tensor | None:
    """Indices (draws, B) in proportion to weights (K, B)."""
    return torch.multinomial(weight.T, draws, replacement=True).T if draws else None


def batches_of(
    model: MultimodalVAE, data: Dataset | Batch, targets: Sequence[str], proposals: int
) -> Iterable[Batch]:
    """The samples in order, as many at a time as can be decoded at once, and kept."""
    wanted = [m for m in model.modalities if m.name in targets or not is_large(m)]
    numbers = sum(_decoded(m, proposals) for m in wanted)
    size = max(1, min(LATENTS // proposals, VALUES // numbers))
    if isinstance(data, Dataset):
        return data.batches(size)
    return (data.rows(rows) for rows in torch.arange(len(data)).split(size))


def _decoded(modality: Modality, proposals: int) -> int:
    """How many numbers are decoded for one sample."""
    draws = min(proposals, FEW) if is_large(modality) else proposals
    return decoded_size(modality) * draws


def summarised(
    p: Any,
    x: Tensor,
    modality: Modality,
    latents: Weighted,
    chosen: Tensor | None,
    levels: Sequence[float],
) -> Filled:
    """What weighted draws say of one modality.

    Args:
        p: p(x|z) of the latents, batch_shape (K, B).
        x: (K, B, *shape), a draw from each.
        chosen: (draws, B), the draws that become completions; None: none.
        levels: of the quantiles.
    """
    weight = latents.weight
    quantiles = weighted_quantiles(x, weight, x.new_tensor(list(levels)))
    means = p.mean
    center = _along(weight, means).mul(means).sum(0)
    probabilities: dict[int, Tensor] = {}
    if isinstance(p, TableValues):
        probabilities = {
            i: (weight.unsqueeze(-1) * share).sum(0) for i, share in p.probabilities().items()
        }
        center = _of_table(center, x, weight, modality.columns, probabilities)
    if isinstance(p, TokenSequence):
        center = _most_probable(p, weight)
    rows = x[:0] if chosen is None else x[chosen, torch.arange(x.shape[1])]
    return Filled(center, quantiles, rows, probabilities, latents.ess)


def _along(weight: Tensor, x: Tensor) -> Tensor:
    """Weights (K, B), shaped to broadcast to x (K, B, *shape)."""
    return weight.reshape(*weight.shape, *[1] * (x.dim() - 2))


def _most_probable(p: TokenSequence, weight: Tensor) -> Tensor:
    """The most probable word of each place, (B, L), by the weighted mean of probabilities."""
    shares = (weight[..., None, None] * p.logits.softmax(-1)).sum(0)
    return TokenSequence(shares.log()).mean


def _of_table(
    mean: Tensor,
    x: Tensor,
    weight: Tensor,
    columns: Sequence[Column],
    probabilities: dict[int, Tensor],
) -> Tensor:
    """The best single value of each column: of positive numbers and counts that of `_limited`, of
    coded ones a category, of others the mean.

    Args:
        mean: (B, d).
        x: (K, B, d), a draw from each latent.
    """
    center = mean.clone()
    for i, column in enumerate(columns):
        if column.type in LOGARITHMIC:
            center[:, i] = _limited(x[..., i], weight, column.largest)
        if column.type in CODED:
            center[:, i] = _category(probabilities[i], column.type == "ordinal").to(center.dtype)
    return center


def _limited(x: Tensor, weight: Tensor, largest: float | None) -> Tensor:
    """The mean (B,) of draws (K, B) of which none is taken for more than the largest value of
    training, since few draws of an error in the logarithm would decide it; without that value, the
    trimmed mean.
    """
    if largest is not None:
        return (weight * x.clamp(max=largest)).sum(0)
    levels = (torch.arange(GRID, device=x.device) + 0.5) / GRID
    return weighted_quantiles(x, weight, levels).mean(0)


def _category(probability: Tensor, ordered: bool) -> Tensor:
    """The most probable category, or, of ordered ones, that nearest to the mean place: (B,)."""
    if not ordered:
        return probability.argmax(-1)
    places = torch.arange(probability.shape[-1], device=probability.device)
    return (probability * places).sum(-1).round()


def joined(parts: Sequence[Filled]) -> Filled:
    """The samples of several parts, one after another."""
    first = parts[0]
    return Filled(
        torch.cat([p.center for p in parts]),
        torch.cat([p.quantiles for p in parts], 1),
        torch.cat([p.draws for p in parts], 1),
        {i: torch.cat([p.probabilities[i] for p in parts]) for i in first.probabilities},
        torch.cat([p.ess for p in parts]),
    )
