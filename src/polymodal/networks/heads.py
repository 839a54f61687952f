"""Heads: map a network's features to a distribution of the latent."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from polymodal.distributions.normal import DiagLaplace, DiagNormal, Point

MAX_LOG_VARIANCE = 20.0  # largest logarithm of a variance


def normal_head(h: Tensor) -> DiagNormal:
    """The features' two halves as location and log-variance, the latter within +-MAX_LOG_VARIANCE.

    In a product, the variance of an expert without information grows until it is infinite and its
    gradient NaN. The gradient passes the bound, so that a log-variance beyond it can return.
    """
    loc, log_variance = h.chunk(2, -1)
    clamped = log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)
    bounded = log_variance + (clamped - log_variance).detach()
    return DiagNormal(loc, (0.5 * bounded).exp())


class NormalHead(nn.Module):
    """`normal_head` as a module: the head of Gaussian experts."""

    def forward(self, h: Tensor) -> DiagNormal:
        return normal_head(h)


class LaplaceHead(nn.Module):
    """Laplace with MMVAE's scales D softmax(raw) + 1e-6, whose mean is 1 (Shi et al. 2019)."""

    def forward(self, h: Tensor) -> DiagLaplace:
        loc, raw = h.chunk(2, -1)
        return DiagLaplace(loc, raw.softmax(-1) * raw.shape[-1] + 1e-6)


class PointHead(nn.Module):
    """A point mass at the features' first half."""

    def forward(self, h: Tensor) -> Point:
        return Point(h.chunk(2, -1)[0])


HEADS: dict[str, Callable[[], nn.Module]] = {
    "normal": NormalHead,
    "laplace": LaplaceHead,
    "point": PointHead,
}
