"""log p(x) and log p(x_i | x_S), in nats: estimates over many latents of many samples at once,
without the modalities' weights.

Latents are drawn first, all samples of the batch together. Decoding, which costs most, then runs in
pieces whose size follows from the memory, so that the pieces change the rounding only, and memory
does not grow with the number of latents K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from itertools import islice

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.checks import keep_heap
from polymodal.distributions import stratified, weighable
from polymodal.metrics.decoding import DECODING, Decoding, pieces
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import UnavailableError, Value, metric
from polymodal.metrics.places import Given, every, once, others
from polymodal.metrics.statistics import mean_of
from polymodal.model import MultimodalVAE

LATENTS = 2**23  # numbers that one block of latents may hold: it, and its densities, exist at once


class NoDensityError(UnavailableError):
    """A posterior has no density, so that it cannot be the proposal of importance sampling."""


@torch.no_grad()
def importance_log_likelihood(
    model: MultimodalVAE,
    batch: Batch,
    samples: int = 1000,
    *,
    targets: Sequence[str] | None = None,
    given: Sequence[str] | None = None,
    decoding: Decoding = DECODING,
) -> Tensor:
    """Estimate of log p(x_T) by importance sampling from q(z | x_S), shape (B,), nats.

    log 1/K sum_k p(z_k) prod_{m in T} p(x_m|z_k) / q(z_k|x_S), z_k ~ q(z|x_S). In expectation it is
    below log p(x_T), by about Var[p(x,z)/q] / 2K; it is the k-sample bound of Burda et al. (2016).

    T and S are what each sample has: Senellart et al. (2023), appendix H, first equation. T = {i}:
    the synergy of Shi et al. (2019), section 4, is log p(x_m) from {m, n} >= from {m} > from {n}.
    All estimate the same number from below; the more S tells about z, the closer they are.

    A mixture q is charged its whole density, and its components draw exactly their shares
    (`stratified`), which lowers the variance.

    Args:
        samples: K.
        targets: T; None: all modalities that the batch holds.
        given: S; None: all modalities that the batch holds.

    Raises:
        NoDensityError: if the density of q is not normalised.
        ValueError: for K < 1, or a name that the batch does not hold.

    >>> # importance_log_likelihood(model, data.test.batch(rows)).mean()
    """
    q = model.posterior(batch if given is None else batch.only(given))
    prior = model.prior()
    if not weighable(q, prior):
        raise NoDensityError(
            "Importance sampling needs a posterior with a normalised density. This posterior is a"
            " product that only a sampler draws, or is deterministic, or its density is known from"
            " random traces only. Use monte_carlo_log_likelihood, which needs draws only."
        )

    def log_ratio(z: Tensor) -> Tensor:
        return prior.log_prob(z) - q.log_prob(z)

    wanted = batch if targets is None else batch.only(targets)
    return _log_mean(model, wanted, q, log_ratio, samples, decoding)


@torch.no_grad()
def monte_carlo_log_likelihood(
    model: MultimodalVAE,
    batch: Batch,
    target: str,
    given: Sequence[str],
    samples: int = 1000,
    decoding: Decoding = DECODING,
) -> Tensor:
    """Monte Carlo estimate of log p(x_i | x_S) = log of the integral of p(x_i|z) q(z|x_S), shape
    (B,), nats.

    log 1/K sum_k p(x_i|z_k), z_k ~ q(z|x_S): Senellart et al. (2023), eq. (22), the likelihood of
    what the model generates from x_S. For |S| = 1, q is the unimodal posterior; for more, whatever
    the model draws from. NaN where the sample lacks x_i or a part of x_S. A sampler's draws are
    correlated, which leaves the estimate consistent.

    Args:
        target: i; may be one of `given`.
        given: S, one or more names.
        samples: K.

    Raises ValueError for K < 1, or a name that the batch does not hold.
    """

    def estimate(observed: Batch) -> Tensor:
        q = model.posterior(observed.only(given))
        return _log_mean(model, observed.only([target]), q, None, samples, decoding)

    return where_complete(batch, [target, *given], estimate)


@torch.no_grad()
def importance_conditional_log_likelihood(
    model: MultimodalVAE,
    batch: Batch,
    target: str,
    given: Sequence[str],
    samples: int = 1000,
    decoding: Decoding = DECODING,
) -> Tensor:
    """Estimate of log p(x_i | x_S) = log p(x_i, x_S) - log p(x_S) of the model itself, (B,), nats.

    Both terms by importance sampling: the first from q(z | x_i, x_S), the second from q(z | x_S)
    (Suzuki et al. 2016; Wu and Goodman 2018; Shi et al. 2019). Each is below its limit in
    expectation, so that their difference is no bound. Senellart et al. (2023), section 5.4: it says
    how well the model explains x_i, not how well it generates x_i from x_S, which is
    `monte_carlo_log_likelihood`. NaN where the sample lacks x_i or a part of x_S.

    Args:
        target: i, not one of `given`.
        given: S, one or more names.
        samples: K, for each of the two terms.

    Raises:
        NoDensityError: if the density of either posterior is not normalised.
        ValueError: for K < 1, a name that the batch does not hold, or a target that is given.
    """
    if target in given:
        raise ValueError(
            f"The target must not be given, got target {target!r} given {list(given)}; leave it out"
            " of `given`."
        )

    def estimate(observed: Batch) -> Tensor:
        joint, marginal = (
            importance_log_likelihood(model, observed.only(names), samples, decoding=decoding)
            for names in ([target, *given], given)
        )
        return joint - marginal

    return where_complete(batch, [target, *given], estimate)


def where_complete(
    batch: Batch, names: Sequence[str], estimate: Callable[[Batch], Tensor]
) -> Tensor:
    """`estimate` (n,) of the n samples that have all of `names`, NaN for the others: (B,).

    The estimate is given the values without masks: absent samples must not change the encoding.
    """
    present = batch.only(names).mask(names)
    value = next(iter(batch.x.values())).new_full((len(batch),), torch.nan)
    if not present.any():
        return value
    complete = batch if present.all() else batch.rows(present.nonzero().squeeze(1))
    value[present] = estimate(Batch(complete.x, covariates=complete.covariates)).to(value.dtype)
    return value


def _log_mean(
    model: MultimodalVAE,
    batch: Batch,
    q: Distribution,
    log_ratio: Callable[[Tensor], Tensor] | None,
    samples: int,
    decoding: Decoding,
) -> Tensor:
    """log 1/K sum_k exp(log p(x|z_k) + log_ratio(z_k)), z_k ~ q, over the modalities that the batch
    holds, (B,).
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")
    rows = decoding.rows(model, batch.x, batch.device)
    keep_heap()
    blocks = []
    for block in pieces(samples, LATENTS // (len(batch) * q.event_shape.numel())):
        z = stratified(q, block.stop - block.start)
        log_w = decoded_log_likelihood(model, batch, z, rows, decoding)
        if log_ratio is not None:
            log_w += log_ratio(z)
        blocks.append(log_w.logsumexp(0))
    return reduce(torch.logaddexp, blocks) - math.log(samples)


def decoded_log_likelihood(
    model: MultimodalVAE, batch: Batch, z: Tensor, rows: int, decoding: Decoding
) -> Tensor:
    """log p(x|z), (K, B), from z (K, B, D), `rows` latents at a time: all of one sample, then of
    the next.
    """
    log_p = z.new_empty(z.shape[:-1])
    with decoding.autocast(z.device):
        for samples in pieces(len(batch), rows // len(z)):
            part = batch.rows(samples)
            for k in pieces(len(z), rows // (samples.stop - samples.start)):
                log_p[k, samples] = model.log_likelihood(part, z[k, samples]).to(log_p.dtype)
    return log_p


def _importance(
    m: Measurement,
    batches: Iterable[Batch],
    samples: int,
    targets: Sequence[str] | None = None,
    given: Sequence[str] | None = None,
) -> Tensor:
    """`importance_log_likelihood` of all samples, (N,)."""
    estimate = partial(
        importance_log_likelihood,
        targets=targets,
        given=given,
        samples=samples,
        decoding=m.options.decoding,
    )
    return torch.cat([estimate(m.model, batch) for batch in batches])


def joint_log_likelihoods(m: Measurement, count: int | None = None) -> Tensor:
    """log p(x) of each sample by importance sampling, (N,); of the first `count` only, to the same
    bits.
    """
    key = "joint log-likelihoods"
    whole = count is None or m.is_cached(key)
    batches = None if whole else math.ceil((count or 0) / m.options.batch)

    def compute() -> Tensor:
        with m.stream("joint"):
            parts = islice(m.data.batches(m.options.batch), batches)
            return _importance(m, parts, m.options.samples)

    return m.cached(key if whole else (key, count), compute)[:count]


@metric(places=once, direction="higher", unit="nats")
def joint_log_likelihood(m: Measurement, given: Given, target: str) -> Value:
    """log p(x) by importance sampling."""
    return mean_of(joint_log_likelihoods(m))


@metric(places=others, direction="higher", unit="nats")
def conditional_log_likelihood(m: Measurement, given: Given, target: str) -> Value:
    """log p(x_i | x_S) of what the model generates, by Monte Carlo."""
    return _conditional_mean(m, monte_carlo_log_likelihood, given, target)


@metric(places=others, direction="higher", unit="nats", default=False)
def conditional_log_likelihood_ratio(m: Measurement, given: Given, target: str) -> Value:
    """log p(x_i, x_S) - log p(x_S) of the model, by importance sampling of both."""
    return _conditional_mean(m, importance_conditional_log_likelihood, given, target)


def _conditional_mean(
    m: Measurement, estimate: Callable[..., Tensor], given: Given, target: str
) -> Value:
    """The mean of an estimate of log p(x_i | x_S) over the samples that have both."""
    options = m.options
    with m.stream("conditional", given, target):
        values = [
            estimate(m.model, x, target, given, options.samples, options.decoding)
            for x in m.batches([*given, target])
        ]
        return mean_of(torch.cat(values))


@metric(places=every, direction="higher", unit="nats", default=False)
def synergy(m: Measurement, given: Given, target: str) -> Value:
    """log p(x_m) by importance sampling from q(z | x_S), for every S: what S tells about x_m.

    Every expert has the same number of draws, as in Shi et al. (2019).
    """
    batches = m.batches(dict.fromkeys([*given, target]))
    with m.stream("marginal", given, target):
        return mean_of(_importance(m, batches, m.options.samples * len(given), [target], given))
