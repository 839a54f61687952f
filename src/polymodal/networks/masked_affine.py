"""Masked autoregressive affine maps, computed faster than by the library that holds their weights:
the same numbers.

What does not depend on z is computed once for a distribution: the masked weights, and h's share of
the first layer. Draws that need no gradient compute every hidden unit once, where D passes compute
all of them D times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.nn.functional import linear, softsign

STEEPEST = 1000.0  # zuko's bound on a scale
REACH = 5.0  # of what expanding maps see of z: beyond the prior's mass
START = 2.0  # expanding maps begin near the identity
ROWS = 8192  # that are inverted at once, so that their units stay in the cache


class Map:
    """z -> exp(a(z)) z + b(z), where a_i and b_i see the values before z_i, for given h (B,
    features) or None.

    Args:
        module: zuko's MaskedAutoregressiveTransform, which holds the weights.
        h: what the map sees besides z.
        dim: D.
        limit: largest logarithm of a scale.
        expanding: whether a >= 0, and b is bounded, so that |exp(a) z + b| >= |z| - constant: what
            is sent back from there to z has tails no wider than before.
    """

    def __init__(
        self, module: Any, h: Tensor | None, dim: int, limit: float, expanding: bool = False
    ) -> None:
        self.limit, self.expanding = limit, expanding
        layers: list[Any] = [layer for layer in module.hyper if isinstance(layer, nn.Linear)]
        self.order: Tensor = module.order
        self.masks: list[Tensor] = [layer.mask for layer in layers]
        first, *middle, last = [
            layer.weight * mask for layer, mask in zip(layers, self.masks, strict=True)
        ]
        bias = [layer.bias for layer in layers]
        self.first, self.start = (
            first[:, :dim],
            bias[0] if h is None else linear(h, first[:, dim:], bias[0]),
        )
        self.middle = list(zip(middle, bias[1:-1], strict=True))
        # The module's last layer gives b and a in turn, and its a is limit softsign(a / limit).
        self.last, self.end = (torch.cat([p[0::2], p[1::2] / limit]) for p in (last, bias[-1]))

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """b and a, each (..., B, D), for z (..., B, D)."""
        # Biases are added afterwards: the backward of a fused product and sum is a tenth slower.
        units = linear(self.seen(z), self.first).add_(self.start).relu_()
        for weight, bias in self.middle:
            units = linear(units, weight).add_(bias).relu_()
        shift, scale = linear(units, self.last).add_(self.end).chunk(2, -1)
        return shift, self.log_scale(scale)

    def seen(self, z: Tensor) -> Tensor:
        """What the networks see of z."""
        return REACH * (z / REACH).tanh() if self.expanding else z

    def log_scale(self, raw: Tensor) -> Tensor:
        """a, from what the last layer gives over the limit."""
        return self.limit * (
            (self.limit * raw - START).sigmoid() if self.expanding else softsign(raw)
        )

    def inverse(self, y: Tensor) -> Tensor:
        """z from y (..., B, D), in D passes, with a gradient."""
        z = torch.zeros_like(y)
        for _ in range(y.shape[-1]):
            shift, log_scale = self(z)
            z = (y - shift) * (-log_scale).exp()
        return z


class MaskedAffine(Transform):
    """Affine maps with masked networks, one after the other, for given h: z (..., B, D) to the
    base's coordinates.

    Args:
        modules: zuko's MaskedAutoregressiveTransforms, fully autoregressive.
        h: (B, features), what the maps see besides z; None: nothing.
        dim: D.
        max_scale: every map's scales lie between this and its inverse.
        expanding: or between this and 1, see `Map`.
    """

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(
        self,
        modules: Sequence[nn.Module],
        h: Tensor | None,
        dim: int,
        max_scale: float = STEEPEST,
        expanding: bool = False,
    ) -> None:
        super().__init__()
        self.maps = [Map(module, h, dim, math.log(max_scale), expanding) for module in modules]

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Where z goes, and log |det| (..., B)."""
        total = z.new_zeros(())
        for m in self.maps:
            shift, log_scale = m(z)
            z, total = torch.addcmul(shift, z, log_scale.exp()), total + log_scale.sum(-1)
        return z, total

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.call_and_ladj(x)[1]

    def _inverse(self, y: Tensor) -> Tensor:
        for m in reversed(self.maps):
            y = m.inverse(y) if torch.is_grad_enabled() else Solver(m)(y)
        return y


class Solver:
    """The inverse of a map without a gradient: value by value in the map's order, every hidden unit
    once.

    With units sorted by the number of values that they need, those of step k are the same slice of
    every layer.
    """

    def __init__(self, m: Map) -> None:
        self.map, dim = m, m.first.shape[1]
        rank = m.order + 1
        self.features = columns = rank.argsort()
        self.layers, needs = [], rank
        for weight, bias, mask in zip(
            [m.first, *(w for w, _ in m.middle)],
            [m.start, *(b for _, b in m.middle)],
            m.masks,
            strict=False,
        ):
            needs = torch.where(mask[:, : len(needs)], needs, 0).amax(1)
            rows = needs.argsort()
            ends = torch.searchsorted(
                needs[rows], torch.arange(-1, dim, device=rows.device), right=True
            ).tolist()
            self.layers.append(
                (weight[rows][:, columns], bias.reshape(-1, len(rows)).T[rows].unsqueeze(1), ends)
            )
            columns = rows
        last, end = (
            p.unflatten(0, (2, dim)).transpose(0, 1)[self.features] for p in (m.last, m.end)
        )
        self.last, self.end = last[..., columns], end.unsqueeze(-1)

    def __call__(self, y: Tensor) -> Tensor:
        """y (..., B, D) -> z."""
        flat = y.reshape(-1, *y.shape[-2:])
        return torch.cat(
            [self._solved(part) for part in flat.split(max(1, ROWS // flat.shape[1]))]
        ).reshape(y.shape)

    def _solved(self, y: Tensor) -> Tensor:
        """y (n, B, D) -> z. Values and units lie in rows, so that a slice of them is one block of
        memory.
        """
        count = y.shape[:2]
        y = y.flatten(0, 1).T[self.features]
        z = torch.empty_like(y)
        units = [y.new_empty(len(weight), y.shape[1]) for weight, *_ in self.layers]
        for k in range(len(y)):
            known = self.map.seen(z[:k])
            for (weight, bias, ends), layer in zip(self.layers, units, strict=True):
                new = slice(ends[k], ends[k + 1])
                made = torch.mm(weight[new, : len(known)], known, out=layer[new])
                made.unflatten(1, count).add_(bias[new]).relu_()
                known = layer[: new.stop]
            shift, scale = self.last[k, :, : len(known)] @ known + self.end[k]
            z[k] = (y[k] - shift) * (-self.map.log_scale(scale)).exp()
        return z[self.features.argsort()].T.unflatten(0, count)
