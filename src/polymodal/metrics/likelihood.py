"""log p(x) and log p(x_i | x_S), in nats: estimates over many latents of many samples at once,
without the weights of modalities.

Latents are drawn first, all samples of the batch together. Decoding, which takes most of the time,
follows in pieces whose size depends on `memory`: the pieces change only the rounding, and memory
does not grow with K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.distributions import stratified, weighable
from polymodal.metrics.means import averaged
from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, every, once, others
from polymodal.model import MultimodalVAE
from polymodal.networks.layers import keep_heap

if TYPE_CHECKING:
    from polymodal.metrics.measurement import Measurement

LATENTS = 2**23  # numbers in one block of latents: it, and its densities, exist at once
# Bytes that one decoding may use. On a CPU more is slower: its activations then leave the cache,
# and the allocator maps buffers beyond 32 MB afresh every time.
MEMORY = {"cpu": 48 * 2**20}
MEMORY_ELSEWHERE = 2**31
# A decoder holds, for a latent, 8 times the largest modality, and at least 8 x 512 numbers.
HIDDEN, ACTIVATIONS = 512, 8
PRECISIONS = (None, "bf16")

LogWeight = Callable[[Tensor], Tensor]  # z (n, B, D) -> (n, B)


class NoDensityError(ValueError):
    """Importance sampling was asked of a posterior that has no density to weigh by."""


@dataclass(frozen=True)
class Sampling:
    """How much is drawn and decoded at once.

    Args:
        samples: K, the number of latents for each likelihood.
        seed: of all draws.
        batch: samples encoded at once.
        precision: None, or "bf16": decoders and classifiers run in bfloat16 (densities and sums
            stay in float32), which is faster on CPUs with AVX512-BF16 (`benchmarks/speed.py`).
            The error of an image's log-density grows as scale^-2.
        memory: bytes that one decoding may use, about; None: 48 MiB on a CPU, 2 GiB elsewhere.

    Raises:
        ValueError: for samples < 1 or an unknown precision.
    """

    samples: int = 1000
    seed: int = 0
    batch: int = 256
    precision: str | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}.")
        _check_precision(self.precision)


@metric(direction="higher", unit="nats", places=once)
def joint_log_likelihood(measurement: Measurement, given: Given, target: str) -> Value | None:
    """log p(x) of all modalities, by importance sampling from the posterior."""
    return averaged(measurement.joint())


@metric(direction="higher", unit="nats", places=others)
def conditional_log_likelihood(measurement: Measurement, given: Given, target: str) -> Value | None:
    """log p(x_i | x_S) of the values that the model generates from a subset, by Monte Carlo."""
    return averaged(measurement.conditional(given, target))


@metric(direction="higher", unit="nats", places=every, default=False)
def synergy(measurement: Measurement, given: Given, target: str) -> Value | None:
    """log p(x_m) by importance sampling from q(z | x_S), which shows how much S tells of x_m."""
    return averaged(measurement.marginal(given, target))


@torch.no_grad()
def joint_log_likelihoods(
    model: MultimodalVAE,
    batch: Batch,
    samples: int = 1000,
    *,
    memory: int | None = None,
    precision: str | None = None,
) -> Tensor:
    """Importance sampling estimate of log p(x_S) for the S that each sample holds, shape (B,),
    nats.

    log 1/K sum_k p(z_k) prod_m p(x_m|z_k) / q(z_k|x_S), z_k ~ q(z|x_S): Senellart et al. (2023),
    appendix H, first equation. It is the k-sample bound of Burda et al. (2016): its expectation is
    below log p(x_S), by about Var[p(x,z)/q] / 2K. The components of a mixture q draw exactly their
    shares (`stratified`), which lowers the variance; the weights hold the density of the mixture.

    Args:
        samples: K; memory, precision: see `Sampling`.

    Raises:
        ValueError: for K < 1, an unknown precision, or a q whose density is not normalised.

    >>> # joint_log_likelihoods(model, data.test.batch(rows)).mean()
    """
    sampling = Sampling(samples, precision=precision, memory=memory)
    q, log_weight = _weighed(model, batch)
    return _log_mean(model, batch, q, log_weight, sampling)


@torch.no_grad()
def marginal_log_likelihoods(
    model: MultimodalVAE,
    batch: Batch,
    target: str,
    given: Sequence[str],
    samples: int = 1000,
    *,
    memory: int | None = None,
    precision: str | None = None,
) -> Tensor:
    """Estimate of log p(x_i) by importance sampling from q(z|x_S), shape (B,), nats: how much x_S
    tells of x_i.

    log 1/K sum_k p(x_i|z_k) p(z_k) / q(z_k|x_S), z_k ~ q(z|x_S). The synergy of Shi et al. (2019),
    section 4, is log p(x_m) from {m, n} >= from {m} > from {n}. All of them estimate one number
    from below; they come the closer, the better S tells which z x_i has. Every sample of the batch
    must have x_i and x_S.

    Args:
        target: i; given: S; samples: K; memory, precision: see `Sampling`.

    Raises:
        ValueError: as `joint_log_likelihoods`, or for a name that the batch does not hold.
    """
    sampling = Sampling(samples, precision=precision, memory=memory)
    q, log_weight = _weighed(model, batch.only(given))
    return _log_mean(model, batch.only([target]), q, log_weight, sampling)


@torch.no_grad()
def conditional_log_likelihoods(
    model: MultimodalVAE,
    batch: Batch,
    target: str,
    given: Sequence[str],
    samples: int = 1000,
    *,
    memory: int | None = None,
    precision: str | None = None,
) -> Tensor:
    """Monte Carlo estimate of log p(x_i | x_S) = log of the integral of p(x_i|z) q(z|x_S), shape
    (B,), nats.

    log 1/K sum_k p(x_i|z_k), z_k ~ q(z|x_S): Senellart et al. (2023), eq. (22), the likelihood of
    the values that the model generates from x_S. NaN if the sample lacks x_i or a part of x_S. The
    draws of a sampler are correlated; the estimate is still consistent.

    Args:
        target: i; may be one of `given`.
        given: S, one or more names.
        samples: K; memory, precision: see `Sampling`.

    Raises:
        ValueError: for K < 1, an unknown precision, or a name that the batch does not hold.
    """
    sampling = Sampling(samples, precision=precision, memory=memory)
    complete = batch.mask([target, *given])
    source = _complete(batch.only(given), complete)
    wanted = _complete(batch.only([target]), complete)
    value = next(iter(batch.x.values())).new_full((len(batch),), torch.nan)
    if complete.any():
        logs = _log_mean(model, wanted, model.posterior(source), None, sampling)
        value[complete] = logs.to(value.dtype)
    return value


def _complete(batch: Batch, complete: Tensor) -> Batch:
    """The complete samples without masks: a sample that lacks values must not change how the others
    are encoded.
    """
    if complete.all():
        return Batch(batch.x)
    rows = complete.nonzero().squeeze(1)
    return Batch({m: x[rows] for m, x in batch.x.items()})


def _weighed(model: MultimodalVAE, batch: Batch) -> tuple[Distribution, LogWeight]:
    """q(z|x_S) and z -> log p(z) / q(z|x_S). Raises NoDensityError if there is no such ratio."""
    q, prior = model.posterior(batch), model.prior()
    if not weighable(q, prior):
        raise NoDensityError(
            "Importance sampling needs a posterior with a normalised density; this one is a product"
            " that is only drawn by a sampler, or deterministic, or a diffusion model's whose"
            " density is estimated by random traces. Use conditional_log_likelihood, which needs"
            " only draws."
        )
    return q, partial(_log_ratio, prior, q)


def _log_ratio(p: Distribution, q: Distribution, z: Tensor) -> Tensor:
    """log p(z) / q(z)."""
    return p.log_prob(z) - q.log_prob(z)


def pieces(total: int, most: int) -> Iterator[slice]:
    """range(total) cut evenly into the fewest slices of at most `most`.

    >>> list(pieces(10, 4))
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    size = math.ceil(total / math.ceil(total / max(1, most)))
    return (slice(i, min(i + size, total)) for i in range(0, total, size))


def rows_for(
    model: MultimodalVAE, names: Iterable[str], device: torch.device, memory: int | None = None
) -> int:
    """How many latents to decode at once into the modalities `names`, within `memory` bytes."""
    if memory is None:
        memory = MEMORY.get(device.type, MEMORY_ELSEWHERE)
    wanted = set(names)
    largest = max(math.prod(m.shape) for m in model.modalities if m.name in wanted)
    return max(1, memory // (4 * ACTIVATIONS * max(HIDDEN, largest)))


def autocast(precision: str | None, device: torch.device) -> AbstractContextManager:
    """The context in which networks run in `precision`. Raises ValueError for an unknown one."""
    _check_precision(precision)
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _check_precision(precision: str | None) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}.")


def _log_mean(
    model: MultimodalVAE,
    batch: Batch,
    q: Distribution,
    log_weight: LogWeight | None,
    sampling: Sampling,
) -> Tensor:
    """log 1/K sum_k exp(log p(x|z_k) + log_weight(z_k)), z_k ~ q, over the modalities of the
    batch, (B,).
    """
    keep_heap()
    sums = []
    for block in pieces(sampling.samples, LATENTS // (len(batch) * q.event_shape.numel())):
        z = stratified(q, block.stop - block.start)
        log_terms = _log_likelihood(model, batch, z, sampling)
        if log_weight is not None:
            log_terms += log_weight(z)
        sums.append(log_terms.logsumexp(0))
    return reduce(torch.logaddexp, sums) - math.log(sampling.samples)


def _log_likelihood(model: MultimodalVAE, batch: Batch, z: Tensor, sampling: Sampling) -> Tensor:
    """log p(x|z), (K, B), from z (K, B, D), in pieces, sample after sample."""
    rows = rows_for(model, batch.x, batch.device, sampling.memory)
    out = z.new_empty(z.shape[:-1])
    with autocast(sampling.precision, z.device):
        for item in pieces(len(batch), rows // len(z)):
            part = batch.rows(item)
            for k in pieces(len(z), rows // (item.stop - item.start)):
                out[k, item] = model.log_likelihood(part, z[k, item]).to(out.dtype)
    return out
