"""Latent traversals: which modalities each dimension of a latent moves, and by how much."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Decode = Callable[[Tensor], Tensor]  # latents (..., D) -> means of one modality (..., *shape)
MOVES = 0.01  # share of a modality's variance from which on a dimension moves it


@dataclass(frozen=True)
class Attribution:
    """What `attribute` found.

    Args:
        shares: shares[m] (D,), the share of the variance of modality m that each dimension moves.
        errors: errors[m] (D,), their standard errors over the samples.
        z: (N, D), the latents from which dimensions were moved.
        values: (T, D), the values that each dimension was given.
    """

    shares: dict[str, Tensor]
    errors: dict[str, Tensor]
    z: Tensor
    values: Tensor

    def order(self, m: str | None = None) -> list[int]:
        """The dimensions by their share of modality m, largest first; of all modalities together if
        m is None.
        """
        every = torch.stack(list(self.shares.values())).sum(0)
        share = every if m is None else self.shares[m]
        return share.argsort(descending=True, stable=True).tolist()

    def moved(self, least: float = MOVES) -> list[tuple[str, ...]]:
        """For each dimension, in the latent's order, the modalities of which it moves a share of at
        least `least`: several, one, or none.
        """
        count = self.z.shape[1]
        return [
            tuple(m for m, share in self.shares.items() if share[d] >= least) for d in range(count)
        ]


def traversal_values(z: Tensor, steps: int = 9) -> Tensor:
    """For every dimension `steps` evenly spaced values with the mean and variance that it has over
    the latents z (N, D): (T, D), rising.

    They reach up to sqrt(3 (T - 1) / (T + 1)) standard deviations from the mean, 1.55 for nine.

    Raises ValueError for fewer than two values or latents.

    >>> traversal_values(torch.tensor([[-2.0], [0.0]]), steps=2).flatten()
    tensor([-2.,  0.])
    """
    if steps < 2 or len(z) < 2:
        raise ValueError(
            f"A traversal needs at least two values and two latents, got {steps} and {len(z)}."
        )
    reach = math.sqrt(3 * (steps - 1) / (steps + 1))
    path = torch.linspace(-reach, reach, steps).to(z)
    return z.mean(0) + path.unsqueeze(-1) * z.std(0, correction=0)


def traverse(z: Tensor, values: Tensor, dims: Tensor) -> Tensor:
    """Latents in which one dimension takes each of its values: (P, T, D).

    Args:
        z: (P, D).
        values: (T, D), see `traversal_values`.
        dims: (P,), the dimension that is moved in each row of z.
    """
    moved = z.unsqueeze(1).repeat(1, len(values), 1)
    place = dims.view(-1, 1, 1).expand(-1, len(values), 1)
    return moved.scatter(-1, place, values[:, dims].T.unsqueeze(-1).to(z))


@torch.no_grad()
def attribute(
    decoders: Mapping[str, Decode],
    z: Tensor,
    variance: Mapping[str, float],
    values: Tensor | None = None,
    chunk: int = 64,
) -> Attribution:
    """Moves each dimension by itself and says how far the decoded means of each modality go.

    share_m(d) = 1/N sum_n sum_j Var_t[mu_mj(z_n with z_nd = v_td)] / V_m, with mu_mj the j-th value
    of the mean of p(x_m|z), Var_t the variance over the values v_1d .. v_Td, and V_m the variance
    of x_m over the data, summed over its values. It estimates the total-effect index of
    z_d relative to the variance of x_m (Homma and Saltelli 1996; of several outputs: Gamboa et
    al. 2014), if dimensions are independent and v_d has the variance of z_d. For a linear mean
    A z + b it is |A_d|^2 Var(v_d) / V_m.

    Args:
        decoders: decoders[m]: z (..., D) -> the mean of p(x_m|z), (..., *shape).
        z: (N, D), from which dimensions are moved.
        variance: V_m > 0 of each modality; one that does not vary (0) is moved by nothing.
        values: (T, D); None: `traversal_values` of z.
        chunk: pairs of a sample and a dimension that are decoded at once, T latents each.

    Raises ValueError for fewer than two latents if there are no `values`.

    >>> decode = lambda z: z @ torch.tensor([[2.0], [0.0]])  # only the first dimension is read
    >>> found = attribute({"a": decode}, torch.tensor([[-1.0, 3.0], [1.0, 0.0]]), {"a": 8.0})
    >>> found.shares["a"], found.moved()
    (tensor([0.5000, 0.0000]), [('a',), ()])
    """
    values = traversal_values(z) if values is None else values
    samples, size = z.shape
    row = torch.arange(samples, device=z.device).repeat(size)
    dim = torch.arange(size, device=z.device).repeat_interleave(samples)
    parts: dict[str, list[Tensor]] = {m: [] for m in decoders}
    for rows, dims in zip(row.split(chunk), dim.split(chunk), strict=True):
        moved = traverse(z[rows], values, dims)
        for m, decode in decoders.items():
            parts[m].append(decode(moved).var(1, correction=0).flatten(1).sum(1))
    each = {
        m: torch.cat(part).view(size, samples).double() / (variance[m] or math.inf)
        for m, part in parts.items()
    }
    shares = {m: share.mean(1).to(z) for m, share in each.items()}
    errors = {m: (share.std(1) / math.sqrt(samples)).to(z) for m, share in each.items()}
    return Attribution(shares, errors, z, values)
