"""Posteriors with a joint encoder, which keep the patterns of present modalities that occurred in
training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import choose
from polymodal.networks.named import Named
from polymodal.posteriors.masks import presence
from polymodal.posteriors.posterior import Posterior

CAPACITY = 1024  # how many patterns are kept, the most frequent ones


class JointEncoderPosterior(Posterior):
    """A joint encoder on the patterns of modalities that it was trained on, surrogates on the
    others. Abstract: subclasses define `surrogate`.

    Before training, the pattern of complete samples counts as trained.

    Args:
        joint: joint(batch) -> DiagNormal; reads batches with missing modalities too.
        experts: experts[m](x_m), one for each modality.
    """

    joint: nn.Module
    trained_patterns: Tensor

    def __init__(self, joint: nn.Module, experts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.joint, self.experts = joint, Named(experts)
        table = torch.zeros(CAPACITY, len(self.experts), dtype=torch.bool)
        table[0] = True
        self.register_buffer("trained_patterns", table)

    def surrogate(self, batch: Batch) -> Distribution:
        """q(z | x_S) without the joint encoder."""
        raise NotImplementedError(f"{type(self).__name__} must define surrogate(batch).")

    def forward(self, batch: Batch) -> Distribution:
        trained = self.is_trained(batch)
        if bool(trained.all()):
            return self.joint(batch)
        if not bool(trained.any()):
            return self.surrogate(batch)
        return choose(trained, self.joint(batch), self.surrogate(batch))

    def is_trained(self, batch: Batch) -> Tensor:
        """Whether the joint encoder was trained on each sample's pattern, (B,)."""
        pattern = presence(batch, self.experts)
        same = (pattern.unsqueeze(1) == self.trained_patterns).all(-1).any(-1)
        return same & pattern.any(-1)

    @torch.no_grad()
    def remember(self, batches: Iterable[Batch]) -> int:
        """Keeps the patterns of the batches, the most frequent ones first; returns their number."""
        counts: Counter[tuple[bool, ...]] = Counter()
        for batch in batches:
            rows = presence(batch, self.experts)
            found, count = rows[rows.any(-1)].unique(dim=0, return_counts=True)
            counts.update(dict(zip(map(tuple, found.tolist()), count.tolist(), strict=True)))
        order = sorted(counts, key=lambda pattern: (-counts[pattern], pattern))[:CAPACITY]
        patterns = torch.tensor(order, dtype=torch.bool, device=self.trained_patterns.device)
        self.trained_patterns.zero_()
        self.trained_patterns[: len(patterns)] = patterns.reshape(-1, len(self.experts))
        return len(patterns)


def remember_patterns(model: Any, train: Iterable[Batch], val: Iterable[Batch]) -> dict[str, int]:
    """A stage's `finish`: the joint encoder answers for the patterns of the training data only."""
    return {"patterns": model.posterior.remember(train)}
