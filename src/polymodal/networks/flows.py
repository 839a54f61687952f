"""Conditional normalising flows on a Gaussian base, made of zuko's maps.

Importing zuko switches off the validation of torch's distributions for the whole process; this
module restores the flag.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from polymodal.checks import check_memory, check_name
from polymodal.distributions.normal import DiagNormal
from polymodal.networks.masked_affine import MAX_SCALE, MaskedAffine

_validate = Distribution._validate_args

import zuko  # noqa: E402
from zuko.flows import MaskedAutoregressiveTransform  # noqa: E402
from zuko.transforms import MonotonicAffineTransform as Affine  # noqa: E402

Distribution.set_default_validate_args(_validate)


def _coupling(
    features: int,
    context: int,
    transforms: int,
    hidden_features: Sequence[int],
    randmask: bool = False,
) -> nn.Module:
    return zuko.flows.NICE(
        features, context, transforms=transforms, hidden_features=hidden_features, randmask=randmask
    )


FLOWS: dict[str, Callable[..., nn.Module]] = {
    "maf": zuko.flows.MAF,  # densities in one pass, samples in D passes
    "coupling": _coupling,  # densities and samples in one pass
    "spline": zuko.flows.NSF,  # autoregressive rational-quadratic splines
}


class Flow(nn.Module):
    """q(z | h): N(loc(h), scale(h)) mapped by invertible maps (Senellart et al. 2023, eq. (8)).

    The first 2 D numbers of h are the base's location and log-variance. With `conditional` the maps
    also depend on h; in the paper they do not.

    Args:
        dim: D.
        features: size of h, at least 2 D.
        kind: a key of FLOWS: "maf", "coupling" or "spline".
        transforms: how many maps (the paper: 2 MADE blocks); 0: the base alone.
        hidden: hidden layers of each map's network (the paper: 3 x 128).
        conditional: whether the maps depend on h.
        max_scale: of "maf" in two or more dimensions: every map's scales lie between this and its
            inverse. Below zuko's 1000, densities are smoother far from the data, where products of
            several experts need them.
        tail_variance: of "maf": far from the data the density falls at least as fast as that of
            N(0, tail_variance I). The products prod q_m / p^(n-1) over p = N(0, I) then have a
            finite integral for tail_variance < n / (n - 1); without a bound many have none, and
            chains diverge in the tails. Scales then lie between 1 and `max_scale`. None: no bound.

    `forward(h)`: h (B, features) -> a normalised distribution of batch_shape (B,), with rsample.
    Raises ValueError for an unknown kind, too few features, or bounds that cannot be kept.
    """

    maps: Any

    def __init__(
        self,
        dim: int,
        features: int,
        kind: str = "maf",
        transforms: int = 2,
        hidden: Sequence[int] = (128, 128, 128),
        conditional: bool = True,
        max_scale: float = MAX_SCALE,
        tail_variance: float | None = None,
    ) -> None:
        super().__init__()
        _check(dim, features, kind, max_scale, tail_variance)
        self.dim = dim
        self.conditional = conditional
        self.max_scale = max_scale
        self.tail_variance = tail_variance
        context = features if conditional else 0
        layers = tuple(hidden)
        pairs = zip((dim + context, *layers), (*layers, 2 * dim), strict=True)
        values = transforms * (dim**2 + sum(a * b for a, b in pairs))
        check_memory(16 * values, f"A flow in {dim:,} dimensions needs", "lower its sizes")
        with torch.device("cpu"):  # its masks are computed, which a device without values cannot
            flow: Any = FLOWS[kind](dim, context, transforms=transforms, hidden_features=layers)
        self.maps = flow.transform

    def forward(self, h: Tensor) -> Distribution:
        loc, log_variance = h[..., : 2 * self.dim].chunk(2, -1)
        if self.tail_variance is not None:
            log_variance = math.log(self.tail_variance) - softplus(-log_variance)
        base = DiagNormal(loc, (0.5 * log_variance).exp())
        return self.push(base, h if self.conditional else None)

    def push(self, base: Distribution, h: Tensor | None = None) -> Distribution:
        """The distribution of what `base`, of event_shape (D,), is mapped to.

        `h` (B, features) is needed by conditional maps.
        """
        modules = list(self.maps.transforms)
        if not modules:
            return base
        if all(_is_masked_affine(module) for module in modules):
            expanding = self.tail_variance is not None
            maps = MaskedAffine(modules, h, self.dim, self.max_scale, expanding)
        else:
            maps = self.maps(h)
        return zuko.distributions.NormalizingFlow(maps, base)


def _is_masked_affine(module: nn.Module) -> bool:
    return isinstance(module, MaskedAutoregressiveTransform) and module.univariate is Affine


def _check(
    dim: int, features: int, kind: str, max_scale: float, tail_variance: float | None
) -> None:
    """Raises ValueError for settings with which a flow cannot be made."""
    check_name(kind, FLOWS, "flow")
    if features < 2 * dim:
        raise ValueError(
            f"A flow in {dim} dimensions needs at least {2 * dim} features for its base, got"
            f" {features}."
        )
    if not max_scale > 1 or (tail_variance is not None and not tail_variance > 0):
        raise ValueError(
            f"A flow needs max_scale above 1 and a positive tail_variance, got {max_scale} and"
            f" {tail_variance}."
        )
    bounded = max_scale != MAX_SCALE or tail_variance is not None
    if bounded and (kind != "maf" or dim < 2):
        raise ValueError(
            "max_scale and tail_variance bound only flows of kind 'maf' in two or more dimensions;"
            f" got max_scale={max_scale}, tail_variance={tail_variance}, kind={kind!r}, {dim}"
            " dimensions."
        )
