"""Likelihoods p(x | z), made of a decoder network's output; `LIKELIHOODS` names them.

Each has batch_shape (..., B) and event_shape `modality.shape`, so that log_prob(x) is (..., B), in
nats, summed over the event.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    OneHotCategorical,
)

from polymodal.batch import Modality
from polymodal.checks import check_name
from polymodal.distributions.counts import (
    NegativeBinomialCounts,
    PoissonCounts,
    negative_binomial_start,
    poisson_start,
)
from polymodal.distributions.tokens import TokenSequence


class Isotropic(Distribution):
    """Independent values of any shape around `loc` with one fixed scale, computed in few passes
    over memory. Abstract.
    """

    arg_constraints: dict = {}

    def __init__(self, loc: Tensor, scale: float, event_dim: int) -> None:
        self.loc, self.scale = loc, scale
        batch_dim = loc.dim() - event_dim
        super().__init__(loc.shape[:batch_dim], loc.shape[batch_dim:], validate_args=False)

    def _summed(self, x: Tensor) -> Tensor:
        return x.sum(tuple(range(-len(self.event_shape), 0)))

    def _noise(self, like: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        return self.loc

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:
        with torch.no_grad():
            loc = self.loc.expand(self._extended_shape(sample_shape))
            return loc + self.scale * self._noise(loc)


class IsotropicNormal(Isotropic):
    """N(loc, scale^2 I)."""

    def log_prob(self, x: Tensor) -> Tensor:
        constant = self.event_shape.numel() * (math.log(self.scale) + 0.5 * math.log(2 * math.pi))
        return self._summed((x - self.loc).square()) * (-0.5 / self.scale**2) - constant

    def _noise(self, like: Tensor) -> Tensor:
        return torch.randn_like(like)


class IsotropicLaplace(Isotropic):
    """Laplace(loc, scale): -|x - loc| / scale - log(2 scale), summed over the event.

    # -2 (1 / .5 + log 1)
    >>> IsotropicLaplace(torch.zeros(5, 2), 0.5, event_dim=1).log_prob(torch.ones(2))[0]
    tensor(-4.)
    """

    def log_prob(self, x: Tensor) -> Tensor:
        constant = self.event_shape.numel() * math.log(2 * self.scale)
        return self._summed((x - self.loc).abs()) * (-1 / self.scale) - constant

    def _noise(self, like: Tensor) -> Tensor:
        size = torch.empty_like(like).exponential_()
        sign = torch.empty_like(like).bernoulli_(0.5).mul_(2).sub_(1)
        return size * sign


@dataclass(frozen=True)
class Values:
    """The values that a likelihood admits: in words, and as a test of x (N, *shape).

    The test gives bool of the shape of x, or a shape that broadcasts to it.
    """

    words: str
    admits: Callable[[Tensor], Tensor]


def _unit(x: Tensor) -> Tensor:
    return (x >= 0) & (x <= 1)


def _counts(x: Tensor) -> Tensor:
    return (x >= 0) & (x == x.round())


def _ids(count: int, x: Tensor) -> Tensor:
    return _counts(x) & (x < count)


def _one_hot(x: Tensor) -> Tensor:
    return ((x == 0) | (x == 1)) & (x.sum(-1, keepdim=True) == 1)


UNIT = Values("in [0, 1]", _unit)
COUNTS = Values("counts", _counts)
ONE_HOT = Values("one-hot", _one_hot)


@dataclass(frozen=True)
class Likelihood:
    """A density p(x | z) that a decoder's output parametrises.

    Args:
        make: `make(raw, modality)`, the distribution of x; raw is (..., B, params, *shape), without
            the axis of `params` when that is 1.
        params: how many numbers a decoder gives for each number of x.
        values: the values that x can have; None: any number, or [0, 1] under the link "sigmoid".
        start: `start(mean, variance)`, the output at which x has these moments; a decoder then
            starts there. None: it starts as it is.
        words: whether values are ids of words; a decoder then gives as many numbers for each of
            them as the modality's vocabulary has words.
    """

    make: Callable[[Tensor, Modality], Distribution]
    params: int = 1
    values: Values | None = None
    start: Callable[[Tensor, Tensor], Tensor] | None = None
    words: bool = False

    def output_shape(self, modality: Modality) -> tuple[int, ...]:
        """The shape of a decoder's output for one value."""
        if self.words:
            return (*modality.shape, len(modality.vocabulary))
        return modality.shape if self.params == 1 else (self.params, *modality.shape)

    @property
    def counts(self) -> bool:
        """Whether the values are counts."""
        return self.values is COUNTS


def _identity(x: Tensor) -> Tensor:
    return x


LINKS: dict[str, Callable[[Tensor], Tensor]] = {"identity": _identity, "sigmoid": torch.sigmoid}


def _normal(raw: Tensor, m: Modality) -> Distribution:
    return IsotropicNormal(LINKS[m.link](raw), m.scale, len(m.shape))


def _laplace(raw: Tensor, m: Modality) -> Distribution:
    return IsotropicLaplace(LINKS[m.link](raw), m.scale, len(m.shape))


def _independent(values: Distribution, event_dim: int) -> Distribution:
    """The joint distribution of independent values, the last `event_dim` axes being one event."""
    return Independent(values, event_dim, validate_args=False)


def _bernoulli(raw: Tensor, m: Modality) -> Distribution:
    return _independent(Bernoulli(logits=raw, validate_args=False), len(m.shape))


def _categorical(raw: Tensor, m: Modality) -> Distribution:
    """One-hot over the last dimension of the shape (tokens x vocabulary, or classes)."""
    return _independent(OneHotCategorical(logits=raw, validate_args=False), len(m.shape) - 1)


def _poisson(raw: Tensor, m: Modality) -> Distribution:
    return PoissonCounts(raw, len(m.shape))


def _negative_binomial(raw: Tensor, m: Modality) -> Distribution:
    """Mean exp(a) and inverse dispersion exp(b), from raw = (a, b)."""
    log_mean, log_inverse_dispersion = raw.unbind(-1 - len(m.shape))
    return NegativeBinomialCounts(log_mean, log_inverse_dispersion, len(m.shape))


def _tokens(raw: Tensor, m: Modality) -> Distribution:
    return TokenSequence(raw)


LIKELIHOODS: dict[str, Likelihood] = {
    "normal": Likelihood(_normal),
    "laplace": Likelihood(_laplace),
    "bernoulli": Likelihood(_bernoulli, values=UNIT),
    "categorical": Likelihood(_categorical, values=ONE_HOT),
    "poisson": Likelihood(_poisson, values=COUNTS, start=poisson_start),
    "negative_binomial": Likelihood(
        _negative_binomial, params=2, values=COUNTS, start=negative_binomial_start
    ),
    "tokens": Likelihood(_tokens, words=True),
}


def likelihood_of(modality: Modality) -> Likelihood:
    """The likelihood that `modality` names.

    Raises ValueError for an unknown likelihood or link, and for one of words without a vocabulary.
    """
    of = f" for modality {modality.name!r}"
    check_name(modality.likelihood, LIKELIHOODS, "likelihood", of)
    check_name(modality.link, LINKS, "link", of)
    likelihood = LIKELIHOODS[modality.likelihood]
    if likelihood.words and not (modality.vocabulary and len(modality.shape) == 1):
        raise ValueError(
            f"The likelihood {modality.likelihood!r} of {modality.name!r} needs a vocabulary and a"
            f" shape (L,), got {len(modality.vocabulary)} words and shape {modality.shape}."
        )
    return likelihood


def values_of(modality: Modality) -> Values | None:
    """The values that a modality can have; None: any finite number."""
    likelihood = likelihood_of(modality)
    if likelihood.words:
        count = len(modality.vocabulary)
        return Values(f"ids 0 to {count - 1} of its words", partial(_ids, count))
    if likelihood.values:
        return likelihood.values
    return UNIT if modality.link == "sigmoid" else None
