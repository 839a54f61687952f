"""log p(x) by annealed importance sampling from the prior, which needs no posterior: a check of
importance sampling from q(z|x), for few samples.

Wu et al. (2017). Its estimate is below log p(x) in expectation, as that of importance sampling is,
but comes close for any model that HMC can follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.distributions import weighable
from polymodal.metrics.decoding import DECODING, Decoding, pieces
from polymodal.metrics.likelihood import NoDensityError, joint_log_likelihoods
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, once, others
from polymodal.metrics.statistics import mean_of
from polymodal.model import MultimodalVAE
from polymodal.sampling import AIS, Annealed

DEFAULT = AIS()
WITH_GRADIENTS = 2  # how much more memory a decoding with gradients takes


def annealed_log_likelihood(
    model: MultimodalVAE, batch: Batch, sampler: AIS = DEFAULT, decoding: Decoding = DECODING
) -> Annealed:
    """log p(x_S) of the modalities that the batch holds, as `log_normalizer` (B,), nats, with its
    standard error `error` (B,).

    Chains start at draws of p(z) and end at p(z|x_S); samples run together, as many as fit into the
    memory. Modalities' weights are not used; absent ones count 0.

    Args:
        sampler: the numbers of chains and temperatures, and how chains move.

    Raises NoDensityError if the density of the prior is not normalised.

    >>> # annealed_log_likelihood(model, data.test.batch(rows[:20])).log_normalizer.mean()
    """
    prior = model.prior()
    if not weighable(prior, prior):
        raise NoDensityError(
            "Annealed importance sampling needs a prior with a density; this one can only be drawn."
        )
    most = decoding.rows(model, batch.x, batch.device) // (WITH_GRADIENTS * sampler.chains)
    parts = [
        _annealed(model, batch.rows(rows), sampler, decoding) for rows in pieces(len(batch), most)
    ]
    weights, accepted = zip(*parts, strict=True)
    return Annealed(torch.cat(weights, 1), torch.cat(accepted))


def _annealed(model: MultimodalVAE, batch: Batch, sampler: AIS, decoding: Decoding) -> Annealed:
    prior = model.prior()

    def log_joint(z: Tensor) -> Tensor:
        with decoding.autocast(z.device):
            log_p = model.log_likelihood(batch, z)
        return log_p.to(z.dtype) + prior.log_prob(z)

    return sampler(log_joint, lambda n: prior.sample((n, len(batch))), prior.log_prob)


def _measured(m: Measurement, rows: Tensor, names: Sequence[str]) -> Annealed:
    """Of the modalities `names` of these samples, kept for all metrics."""
    options = m.options
    sampler = AIS(chains=options.ais_chains, temperatures=options.ais_temperatures)

    def compute() -> Annealed:
        with m.stream("ais", *names):
            batch = m.data.batch(rows).only(names)
            return annealed_log_likelihood(m.model, batch, sampler, options.decoding)

    return m.cached(("ais", tuple(names), tuple(rows.tolist())), compute)


def _joint(m: Measurement) -> Annealed:
    rows = torch.arange(min(m.options.ais_items, len(m.data)), device=m.data.device)
    return _measured(m, rows, m.data.names)


@metric(places=once, direction="higher", unit="nats", default=False)
def ais_joint_log_likelihood(m: Measurement, given: Given, target: str) -> Value:
    """log p(x) of the first samples, by annealed importance sampling from the prior."""
    return mean_of(_joint(m).log_normalizer)


@metric(places=once, direction="lower", unit="nats", default=False)
def ais_error(m: Measurement, given: Given, target: str) -> Value:
    """Standard error of `ais_joint_log_likelihood` that comes from its chains only: root of the
    mean square over samples.
    """
    squares = _joint(m).error.square()
    mean, error, n = mean_of(squares)
    return math.sqrt(mean), error / (2 * math.sqrt(mean)) if mean else 0.0, n


@metric(places=once, direction="none", unit="nats", default=False)
def ais_gap(m: Measurement, given: Given, target: str) -> Value:
    """By how much `joint_log_likelihood` falls short of annealed importance sampling, on the same
    samples.
    """
    annealed = _joint(m).log_normalizer
    return mean_of(annealed - joint_log_likelihoods(m, len(annealed)))


@metric(places=others, direction="higher", unit="nats", default=False)
def ais_conditional_log_likelihood(m: Measurement, given: Given, target: str) -> Value:
    """log p(x_i, x_S) - log p(x_S) of the model, both by annealed importance sampling, of the first
    samples.
    """
    ordered = tuple(name for name in m.data.names if name in (*given, target))
    rows = m.rows(ordered)[: m.options.ais_items]
    joint, marginal = (_measured(m, rows, names).log_normalizer for names in (ordered, given))
    return mean_of(joint - marginal)
