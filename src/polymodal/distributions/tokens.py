"""Texts: sequences of words with independent probabilities at each position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

END_ID = 0  # the id that ends a text, and fills the positions after its end
LONGEST = 128  # words or characters that the networks of text read


class TokenSequence(Distribution):
    """Texts of at most L words, given as ids (L,); the words are independent, given z.

    log p(x) = sum_{t <= e} log softmax(logits_t)[x_t], nats, where e is the first position with the
    id 0, or L. The positions after the end are 0 and count nothing, so that the probabilities of
    all texts add up to 1.

    Args:
        logits: (..., B, L, V).

    # log 1/4 for each of the two words, and for the end
    >>> TokenSequence(torch.zeros(1, 5, 4)).log_prob(torch.tensor([[3.0, 1.0, 0.0, 0.0, 0.0]]))
    tensor([-4.1589])
    """

    arg_constraints: dict = {}

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-2], logits.shape[-2:-1], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The most probable word of each position, up to the first end."""
        return _ended(self.logits.argmax(-1)).to(self.logits.dtype)

    def log_prob(self, x: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(x.shape, self.logits.shape[:-1])
        ids = x.round().long().clamp(0, self.logits.shape[-1] - 1).expand(shape)
        logits = self.logits.expand(*shape, -1)
        logs = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)
        return torch.where(after_end(ids), 0, logs).sum(-1)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            words = Categorical(logits=self.logits, validate_args=False).sample(sample_shape)
            return _ended(words).to(self.logits.dtype)


def after_end(ids: Tensor) -> Tensor:
    """Which positions (..., L) follow an end."""
    is_end = (ids == END_ID).long()
    return is_end.cumsum(-1) > is_end


def _ended(ids: Tensor) -> Tensor:
    """The ids with END_ID after the first end."""
    return ids.masked_fill(after_end(ids), END_ID)
