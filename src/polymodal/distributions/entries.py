"""Log-densities of values with holes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.distributions.library import LibraryCounts


def observed_log_prob(p: Distribution, x: Tensor) -> Tensor:
    """log p of the entries of x that are no holes, (..., B), nats.

    An entry of a one-hot vector is a hole if any of the vector's numbers is.

    Args:
        p: a likelihood with `entry_log_prob`, of batch_shape (..., B).
        x: (B, *shape), NaN in holes.

    Raises ValueError for a likelihood whose values have no entries, such as texts.
    """
    if isinstance(p, LibraryCounts):  # whose entries share the library size
        return p.log_prob(x)
    if not hasattr(p, "entry_log_prob"):
        raise ValueError(
            f"Values under {type(p).__name__} are observed as a whole or not at all; mark such"
            " samples as absent instead of single entries."
        )
    likelihood: Any = p
    observed = ~x.isnan()
    logs = likelihood.entry_log_prob(torch.where(observed, x, 0))
    own = logs.dim() - len(p.batch_shape)
    inner = tuple(range(own + 1, x.dim()))
    if inner:
        observed = observed.all(inner)
    axes = tuple(range(-own, 0))
    return torch.where(observed, logs, 0).sum(axes).to(x.dtype)


def given_observed(p: Any, x: Tensor) -> Any:
    """p for the entries that are NaN in x (B, *shape): of counts, by the library size of those that
    are not, if there are any.
    """
    return p.given(x) if isinstance(p, LibraryCounts) else p
