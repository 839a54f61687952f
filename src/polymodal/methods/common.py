"""What several methods share: defaults, stages, losses, and random subsets of modalities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.methods.settings import EmbeddingSettings
from polymodal.model import Loss, MultimodalVAE, Stage, Step
from polymodal.objectives import variational_bound
from polymodal.posteriors import PooledExperts
from polymodal.posteriors.masks import presence
from polymodal.rng import noise

Pooled = MultimodalVAE[PooledExperts]
Objective = Literal["elbo", "iwae", "dreg"]
EMBEDDING = EmbeddingSettings()
HIDDEN = 512  # width of a joint encoder's hidden layer (Senellart et al. 2023, table 4)


def warmed_up(progress: float, warmup: float) -> float:
    """The factor of a warm-up: linear from 0 to 1 over the share `warmup` of a stage."""
    return min(1.0, progress / warmup) if warmup else 1.0


def whole_model(loss: Step) -> list[Stage]:
    """One stage, "all", which trains every part of the model."""
    return [Stage("all", loss, [""])]


def random_subset(batch: Batch, names: Sequence[str], smallest: int = 2) -> dict[str, Tensor]:
    """Draws for each sample a uniformly random proper subset of its modalities of `smallest` and
    more, as presence masks.

    A sample that has no such subset keeps nothing; with smallest = 1 the only modality that it has.
    """
    like, count = next(iter(batch.x.values())).float().flatten(1), len(names)
    present = presence(batch, names)
    ways = [[_ways(n, size, smallest) for size in range(1, count + 1)] for n in range(count + 1)]
    cumulative = like.new_tensor(ways).cumsum(-1)[present.sum(-1)]
    uniform = (1 - noise(like, [len(batch), 1], torch.rand)) * cumulative[:, -1:]
    size = torch.where(cumulative[:, -1] > 0, 1 + (cumulative < uniform).sum(-1), 0)
    order = torch.where(present, noise(like, [len(batch), count], torch.rand), 2)
    rank = order.argsort(-1).argsort(-1)
    return {m: rank[:, i] < size for i, m in enumerate(names)}


def _ways(n: int, size: int, smallest: int) -> int:
    """How many subsets of `size` a sample with n modalities may keep."""
    proper = smallest <= size < n
    only = n == size == smallest == 1
    return math.comb(n, size) if proper or only else 0


def present_count(batch: Batch, names: Sequence[str]) -> Tensor:
    """How many of `names` each sample has, (B,), at least 1."""
    return presence(batch, names).sum(-1).clamp_min(1)


def bound_loss(
    model: MultimodalVAE,
    batch: Batch,
    progress: float,
    beta: float = 1.0,
    warmup: float = 0.0,
    **bound: Any,
) -> Loss:
    """`polymodal.objectives.variational_bound`, with a warm-up of the divergence.

    Args:
        bound: objective, k and log_mean.
    """
    weight = beta * warmed_up(progress, warmup)
    return variational_bound(model, batch, beta=weight, **bound)
