"""Which neurons follow which band of frequency, by what a model expects of changed calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Rates = Callable[[Tensor], Tensor]  # calls (n, 1, rows, frames) -> expected counts (n, N)


@torch.no_grad()
def band_responses(
    rates: Rates, calls: Tensor, bands: Sequence[tuple[int, int]], change: float = 0.2
) -> Tensor:
    """How strongly the expected count of each neuron depends on the power in each band: (N, B).

    The mean over calls of d log r_n / d log(1 + c), where the values in the band are multiplied by
    1 + c: a response of 1 means that the count rises as fast as the values, in per cent. It is the
    quotient of the differences between c and -c.

    Args:
        rates: the model's expected counts given calls: decoded draws of q(z|call), averaged. Both
            changes of a call must be decoded with the same noise.
        calls: (n, 1, rows, frames), values in [0, 1].
        bands: (first row, row after the last) of each.
        change: c.

    Raises ValueError for a band outside the rows, or a change outside 0 to 1.

    >>> calls = torch.full((2, 1, 4, 3), 0.5)
    >>> low_squared = lambda x: (x[:, 0, :2].mean((1, 2)) ** 2)[:, None]
    >>> band_responses(low_squared, calls, [(0, 2), (2, 4)]).round(decimals=3)
    tensor([[2., 0.]])
    """
    rows = calls.shape[2]
    if not 0 < change < 1 or any(not 0 <= low < high <= rows for low, high in bands):
        raise ValueError(
            f"Bands must be (first row, row after the last) within {rows} rows, and the change a"
            f" number between 0 and 1, got {list(bands)} and {change}."
        )
    span = torch.tensor((1 + change) / (1 - change)).log()
    columns = []
    for low, high in bands:
        more, less = (_logs(rates, calls, low, high, 1 + c) for c in (change, -change))
        columns.append((more - less).mean(0) / span)
    return torch.stack(columns, 1)


def _logs(rates: Rates, calls: Tensor, low: int, high: int, factor: float) -> Tensor:
    """Logarithms of the expected counts of calls with a band multiplied by `factor`."""
    changed = calls.clone()
    changed[:, :, low:high] = (factor * changed[:, :, low:high]).clamp(0, 1)
    return rates(changed).clamp_min(1e-9).log()


def followers(responses: Tensor, band: int, share: float = 0.25) -> list[int]:
    """The neurons that follow a band: those that respond to it more than to any other, and at least
    `share` times as strongly as the strongest of them; the strongest first.

    Args:
        responses: (N, B), of `band_responses`.

    >>> followers(torch.tensor([[0.9, 0.1], [0.0, 0.8], [1.2, 0.3], [0.1, 0.0]]), 0)
    [2, 0]
    """
    response = responses[:, band]
    most = responses.argmax(1) == band
    least = share * response.max().clamp_min(0)
    chosen = (most & (response > 0) & (response >= least)).nonzero().squeeze(1)
    return chosen[response[chosen].argsort(descending=True)].tolist()


def band_auc(responses: Tensor, cluster: Tensor) -> Tensor:
    """Area under the ROC curve (B,), by which the response to a band tells the neurons planted for
    it from all others; .5 is chance.

    Args:
        responses: (N, B).
        cluster: (N,), the band of each neuron, -1 for none.
    """
    areas = []
    for band, response in enumerate(responses.T):
        own, other = response[cluster == band], response[cluster != band]
        above = (own[:, None] > other).double() + 0.5 * (own[:, None] == other)
        areas.append(above.mean())
    return torch.stack(areas)
