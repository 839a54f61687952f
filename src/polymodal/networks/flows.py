"""Conditional normalising flows on a Gaussian base: the door to zuko.

Importing zuko switches off the validation of torch's distributions for the whole process; this
restores the flag.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from polymodal.distributions.normal import DiagNormal
from polymodal.networks.masked_affine import STEEPEST, MaskedAffine

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
):
    return zuko.flows.NICE(
        features, context, transforms=transforms, hidden_features=hidden_features, randmask=randmask
    )


FLOWS: dict[str, Callable[..., nn.Module]] = {
    "maf": zuko.flows.MAF,  # densities in one pass, samples in D passes
    "coupling": _coupling,  # densities and samples in one pass
    "spline": zuko.flows.NSF,  # autoregressive rational-quadratic splines
}


class Flow(nn.Module):
    """q(z | h): N(loc(h), scale(h)) sent through invertible maps (Senellart et al. 2023, eq. (8)).

    The first 2 D numbers of h are the base's location and log-variance, as in the paper, where the
    maps do not see h otherwise; with `conditional` they see all of h besides.

    Args:
        dim: D.
        features: size of h, at least 2 D.
        kind: a key of FLOWS: "maf", "coupling" or "spline".
        transforms: how many maps (the paper: 2 MADE blocks).
        hidden: hidden layers of each map's network (the paper: 3 x 128).
        conditional: whether the maps see h.
        max_scale: of "maf": every map's scales lie between this and its inverse. Below zuko's 1000,
            densities are smoother far from the data, where products of several experts look.
        tail_variance: of "maf": far from the data the density falls at least as fast as that of
            N(0, tail_variance I). The products prod q_m / p^(n-1) over p = N(0, I) then have a
            finite integral for tail_variance < n / (n - 1); without a bound many have none, and
            chains get lost in the tails. Scales then lie between 1 and `max_scale`. None: no bound.

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
        max_scale: float = STEEPEST,
        tail_variance: float | None = None,
    ) -> None:
        super().__init__()
        if kind not in FLOWS:
            raise ValueError(f"There is no flow {kind!r}; there are {list(FLOWS)}.")
        if features < 2 * dim:
            raise ValueError(
                f"A flow in {dim} dimensions needs at least {2 * dim} features for its base, got"
                f" {features}."
            )
        if not max_scale > 1:
            raise ValueError(f"max_scale of a flow must be above 1, got {max_scale}.")
        if tail_variance is not None and not (tail_variance > 0 and kind == "maf" and dim > 1):
            raise ValueError(
                "The bound `tail_variance` is a positive variance, for flows of kind 'maf' in 2"
                f" and more dimensions; got tail_variance={tail_variance}, kind={kind!r}, {dim}"
                " dimensions."
            )
        self.dim, self.conditional, self.max_scale, self.tail_variance = (
            dim,
            conditional,
            max_scale,
            tail_variance,
        )
        context = features if conditional else 0
        self.maps = FLOWS[kind](
            dim, context, transforms=transforms, hidden_features=tuple(hidden)
        ).transform

    def forward(self, h: Tensor) -> Distribution:
        loc, log_variance = h[..., : 2 * self.dim].chunk(2, -1)
        if self.tail_variance is not None:
            log_variance = math.log(self.tail_variance) - softplus(-log_variance)
        return self.push(
            DiagNormal(loc, (0.5 * log_variance).exp()), h if self.conditional else None
        )

    def push(self, base: Distribution, seen: Tensor | None = None) -> Distribution:
        """The law of what `base`, of event_shape (D,), becomes; `seen`: h, for conditional maps."""
        modules = list(self.maps.transforms)
        affine = all(
            isinstance(m, MaskedAutoregressiveTransform) and m.univariate is Affine for m in modules
        )
        bounds = self.max_scale, self.tail_variance is not None
        maps = MaskedAffine(modules, seen, self.dim, *bounds) if affine else self.maps(seen)
        return zuko.distributions.NormalizingFlow(maps, base)
