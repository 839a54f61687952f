"""Likelihoods p(x | z), made of a decoder network's output; `LIKELIHOODS` names them.

Each has batch_shape (..., B) and event_shape `modality.shape`, so that log_prob(x) is (..., B), in
nats, summed over the event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal, OneHotCategorical

from polymodal.batch import Modality
from polymodal.checks import check_name
from polymodal.distributions.counts import (
    NegativeBinomialCounts,
    PoissonCounts,
    negative_binomial_start,
    poisson_start,
)
from polymodal.distributions.library import (
    LOG_DISPERSIONS,
    LibraryCounts,
    library_start,
    outputs,
    usual_shares,
)
from polymodal.distributions.scaled import IsotropicLaplace, IsotropicNormal
from polymodal.distributions.table import TableValues, admits_cells, layout_of
from polymodal.distributions.tokens import TokenSequence


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


Scale = float | Tensor | None


@dataclass(frozen=True)
class Likelihood:
    """A density p(x | z) that a decoder's output parametrises.

    Args:
        make: `make(raw, modality, scale)`, the distribution of x; raw is (..., B, params, *shape),
            without the axis of `params` when that is 1; scale broadcasts to the shape; of tables it
            is Student's degrees of freedom, of counts with a library size (d + 1,) numbers of
            `LearnedDispersion`. None: the likelihood has none, or its default.
        params: how many numbers a decoder gives for each number of x.
        values: the values that x can have; None: any number, or [0, 1] under the link "sigmoid".
        start: `start(mean, variance)`, the output at which x has these moments; a decoder then
            starts there. None: it starts as it is.
        words: whether values are ids of words; a decoder then gives as many numbers for each of
            them as the modality's vocabulary has words.
        scaled: whether it has a scale.
        columns: whether values are rows of a table, whose columns have distributions of their own.
        library: whether values are counts of cells that have a library size.
    """

    make: Callable[..., Distribution]
    params: int = 1
    values: Values | None = None
    start: Callable[[Tensor, Tensor], Tensor] | None = None
    words: bool = False
    scaled: bool = False
    columns: bool = False
    library: bool = False

    def output_shape(self, modality: Modality) -> tuple[int, ...]:
        """The shape of a decoder's output for one value."""
        if self.words:
            return (*modality.shape, len(modality.vocabulary))
        if self.columns:
            return (layout_of(modality.columns).size,)
        if self.library:
            return (outputs(modality.shape[0]),)
        return modality.shape if self.params == 1 else (self.params, *modality.shape)

    @property
    def counts(self) -> bool:
        """Whether the values are counts."""
        return self.values is COUNTS


def _identity(x: Tensor) -> Tensor:
    return x


LINKS: dict[str, Callable[[Tensor], Tensor]] = {"identity": _identity, "sigmoid": torch.sigmoid}


def _around(raw: Tensor, m: Modality, scale: Scale) -> tuple[Tensor, float | Tensor]:
    """Location and scale of x in the user's units."""
    loc, width = LINKS[m.link](raw), 1.0 if scale is None else scale
    if not m.spread:
        return loc, width
    location, spread = (entries(v, m.shape, raw) for v in (m.location, m.spread))
    return location + spread * loc, spread * width


def entries(values: Sequence[float], shape: Sequence[int], like: Tensor) -> Tensor:
    """One number for each entry of the shape, or one for all, as a tensor."""
    tensor = like.new_tensor(values)
    return tensor.reshape(shape) if len(values) > 1 else tensor.squeeze()


def _normal(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    return IsotropicNormal(*_around(raw, m, scale), len(m.shape))


def _laplace(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    return IsotropicLaplace(*_around(raw, m, scale), len(m.shape))


class Entries(Independent):
    """Independent values, the last `event_dim` axes of which are one event."""

    def __init__(self, values: Distribution, event_dim: int) -> None:
        super().__init__(values, event_dim, validate_args=False)

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """The log-density of each value, (..., B, *values), nats."""
        return self.base_dist.log_prob(x)


def _bernoulli(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    return Entries(Bernoulli(logits=raw, validate_args=False), len(m.shape))


def _categorical(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    """One-hot over the last dimension of the shape (tokens x vocabulary, or classes)."""
    return Entries(OneHotCategorical(logits=raw, validate_args=False), len(m.shape) - 1)


def _poisson(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    return PoissonCounts(raw, len(m.shape))


def _negative_binomial(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    """Mean exp(a) and inverse dispersion exp(b), from raw = (a, b)."""
    log_mean, log_inverse_dispersion = raw.unbind(-1 - len(m.shape))
    return NegativeBinomialCounts(log_mean, log_inverse_dispersion, len(m.shape))


def _tokens(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    return TokenSequence(raw)


def _table(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    location, spread = (entries(v, m.shape, raw) for v in (m.location or (0,), m.spread or (1,)))
    return TableValues(raw, layout_of(m.columns), location, spread, scale)


def _library_counts(raw: Tensor, m: Modality, scale: Scale = None) -> Distribution:
    """Shares, dispersions and a log-normal library size, from raw and the learned (d + 1,)."""
    d = m.shape[0]
    learned = raw.new_zeros(d + 1) if scale is None else torch.as_tensor(scale)
    log_r, log_spread = learned.split([d, 1])
    if raw.shape[-1] > d + 1:
        log_r = (log_r + raw[..., d:-1]).clamp(*LOG_DISPERSIONS)
    library = Normal(raw[..., -1], log_spread.exp(), validate_args=False)
    shares = usual_shares(raw.new_tensor(m.location), d)
    return LibraryCounts(raw[..., :d], library, log_r, shares)


LIKELIHOODS: dict[str, Likelihood] = {
    "normal": Likelihood(_normal, scaled=True),
    "laplace": Likelihood(_laplace, scaled=True),
    "bernoulli": Likelihood(_bernoulli, values=UNIT),
    "categorical": Likelihood(_categorical, values=ONE_HOT),
    "poisson": Likelihood(_poisson, values=COUNTS, start=poisson_start),
    "negative_binomial": Likelihood(
        _negative_binomial, params=2, values=COUNTS, start=negative_binomial_start
    ),
    "library_counts": Likelihood(_library_counts, values=COUNTS, start=library_start, library=True),
    "tokens": Likelihood(_tokens, words=True),
    "table": Likelihood(_table, columns=True),
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
    if likelihood.columns and not modality.columns:
        raise ValueError(
            f"The likelihood {modality.likelihood!r} of {modality.name!r} needs `columns`, one for"
            " each entry of a shape (d,); use another likelihood for values without columns."
        )
    if likelihood.library and len(modality.shape) != 1:
        raise ValueError(
            f"The likelihood {modality.likelihood!r} of {modality.name!r} is of vectors of counts,"
            f" got shape {modality.shape}; take negative_binomial."
        )
    return likelihood


def values_of(modality: Modality) -> Values | None:
    """The values that a modality can have; None: any finite number."""
    likelihood = likelihood_of(modality)
    if likelihood.words:
        count = len(modality.vocabulary)
        return Values(f"ids 0 to {count - 1} of its words", partial(_ids, count))
    if likelihood.columns:
        return Values("cells of their columns' types", partial(admits_cells, modality.columns))
    if likelihood.values:
        return likelihood.values
    return UNIT if modality.link == "sigmoid" else None
