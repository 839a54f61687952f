"""Masked autoregressive affine maps: zuko's weights and numbers, computed faster.

What does not depend on z is computed once for a distribution: the masked weights, and h's share of
the first layer. Draws that need no gradient compute every hidden unit once, where D passes compute
each of them D times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.nn.functional import linear, softsign

MAX_SCALE = 1000.0  # zuko's bound on a scale
INPUT_BOUND = 5.0  # bound on the values of z that expanding maps see: beyond the prior's mass
LOG_SCALE_OFFSET = 2.0  # expanding maps are near the identity when training begins
ROWS = 8192  # rows that are inverted at once, so that their hidden units stay in the cache


class MaskedAffineMap:
    """z -> exp(a(z)) z + b(z), where a_i and b_i see only the values before z_i, and h.

    Args:
        module: zuko's MaskedAutoregressiveTransform, which holds the weights.
        h: (B, features), on which a and b also depend; None: on nothing.
        dim: D.
        limit: largest logarithm of a scale.
        expanding: whether a >= 0 and b is bounded, so that |exp(a) z + b| >= |z| - constant: the
            inverse then makes no tails wider.
    """

    def __init__(
        self, module: Any, h: Tensor | None, dim: int, limit: float, expanding: bool = False
    ) -> None:
        self.limit, self.expanding = limit, expanding
        layers: list[Any] = [layer for layer in module.hyper if isinstance(layer, nn.Linear)]
        self.order: Tensor = module.order
        self.masks: list[Tensor] = [layer.mask for layer in layers]
        first, *middle, last = [layer.weight * layer.mask for layer in layers]
        bias = [layer.bias for layer in layers]
        self.first = first[:, :dim]
        self.start = bias[0] if h is None else linear(h, first[:, dim:], bias[0])
        self.middle = list(zip(middle, bias[1:-1], strict=True))
        # The module's last layer gives b and a in turn, and its a is limit softsign(a / limit).
        self.last, self.end = _sorted(last, limit), _sorted(bias[-1], limit)

    @property
    def hidden(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of every layer but the last."""
        return [(self.first, self.start), *self.middle]

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """b and a, each (..., B, D), for z (..., B, D)."""
        # Biases are added afterwards: the backward of a fused product and sum is a tenth slower.
        units = linear(self.seen(z), self.first).add_(self.start).relu_()
        for weight, bias in self.middle:
            units = linear(units, weight).add_(bias).relu_()
        shift, scale = linear(units, self.last).add_(self.end).chunk(2, -1)
        return shift, self.log_scale(scale)

    def seen(self, z: Tensor) -> Tensor:
        """The function of z that the networks read."""
        return INPUT_BOUND * (z / INPUT_BOUND).tanh() if self.expanding else z

    def log_scale(self, raw: Tensor) -> Tensor:
        """a, from the last layer's output over the limit."""
        if self.expanding:
            return self.limit * (self.limit * raw - LOG_SCALE_OFFSET).sigmoid()
        return self.limit * softsign(raw)

    def inverse(self, y: Tensor) -> Tensor:
        """z from y (..., B, D), in D passes, with a gradient."""
        z = torch.zeros_like(y)
        for _ in range(y.shape[-1]):
            shift, log_scale = self(z)
            z = (y - shift) * (-log_scale).exp()
        return z


def _sorted(p: Tensor, limit: float) -> Tensor:
    """A parameter of b and a in turn, (2 D, ...), as that of all b and then all a / limit."""
    return torch.cat([p[0::2], p[1::2] / limit])


class MaskedAffine(Transform):
    """Affine maps with masked networks, one after the other: z (..., B, D) to the base's
    coordinates.

    Args:
        modules: zuko's MaskedAutoregressiveTransforms, fully autoregressive.
        h: (B, features), on which the maps also depend; None: on nothing.
        dim: D.
        max_scale: every map's scales lie between this and its inverse; with `expanding` between
            this and 1.
        expanding: see `MaskedAffineMap`.
    """

    domain = codomain = constraints.real_vector
    bijective = True

    def __init__(
        self,
        modules: Sequence[nn.Module],
        h: Tensor | None,
        dim: int,
        max_scale: float = MAX_SCALE,
        expanding: bool = False,
    ) -> None:
        super().__init__()
        limit = math.log(max_scale)
        self.maps = [MaskedAffineMap(module, h, dim, limit, expanding) for module in modules]

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The image of z, and log |det| (..., B)."""
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
            y = m.inverse(y) if torch.is_grad_enabled() else MapInverse(m)(y)
        return y


class _Layer(NamedTuple):
    """A hidden layer whose units are sorted by the number of values of z that they need.

    `weight` is (units, inputs), `bias` (units, 1, B or 1); the units that need at most k - 1 values
    come before `ends[k]`.
    """

    weight: Tensor
    bias: Tensor
    ends: list[int]


class MapInverse:
    """The inverse of a map without a gradient: value by value in the map's order, every hidden unit
    once.

    With units sorted by the number of values that they need, those of step k are the same slice of
    every layer.
    """

    def __init__(self, m: MaskedAffineMap) -> None:
        self.map = m
        dim = m.first.shape[1]
        needs = m.order + 1
        self.features = columns = needs.argsort()
        self.layers = []
        for (weight, bias), mask in zip(m.hidden, m.masks, strict=False):
            needs = torch.where(mask[:, : len(needs)], needs, 0).amax(1)
            rows = needs.argsort()
            steps = torch.arange(-1, dim, device=rows.device)
            ends = torch.searchsorted(needs[rows], steps, right=True).tolist()
            bias = bias.reshape(-1, len(rows)).T[rows].unsqueeze(1)
            self.layers.append(_Layer(weight[rows][:, columns], bias, ends))
            columns = rows
        self.last = self._by_feature(m.last)[..., columns]
        self.end = self._by_feature(m.end).unsqueeze(-1)

    def _by_feature(self, p: Tensor) -> Tensor:
        """A parameter of b and a, (2 D, ...), as (D, 2, ...) in the map's order."""
        return p.unflatten(0, (2, len(self.features))).transpose(0, 1)[self.features]

    def __call__(self, y: Tensor) -> Tensor:
        """y (..., B, D), or (D,), -> z."""
        flat = y.reshape(-1, *torch.atleast_2d(y).shape[-2:])
        parts = flat.split(max(1, ROWS // flat.shape[1]))
        return torch.cat([self._solved(part) for part in parts]).reshape(y.shape)

    def _solved(self, y: Tensor) -> Tensor:
        """y (n, B, D) -> z. Values and units lie in rows, so that a slice of them is one block of
        memory.
        """
        count = y.shape[:2]
        y = y.flatten(0, 1).T[self.features]
        z = torch.empty_like(y)
        units = [y.new_empty(len(layer.weight), y.shape[1]) for layer in self.layers]
        for k in range(len(y)):
            inputs = self.map.seen(z[:k])
            for layer, out in zip(self.layers, units, strict=True):
                new = slice(layer.ends[k], layer.ends[k + 1])
                made = torch.mm(layer.weight[new, : len(inputs)], inputs, out=out[new])
                made.unflatten(1, count).add_(layer.bias[new]).relu_()
                inputs = out[: new.stop]
            shift, scale = self.last[k, :, : len(inputs)] @ inputs + self.end[k]
            z[k] = (y[k] - shift) * (-self.map.log_scale(scale)).exp()
        return z[self.features.argsort()].T.unflatten(0, count)
