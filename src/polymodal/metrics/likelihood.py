"""log p(x) and log p(x_i | x_S), in nats: estimates over many latents of many samples at once,
weights off.

Latents are drawn first, all samples of the batch together; decoding, which is what costs, then goes
in pieces whose size follows from `memory`, so that the pieces change nothing but the rounding, and
memory does not grow with K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.diffusion.prior import DiffusionPosterior, FirstBlock
from polymodal.distributions.mixture import Joint, Mixture
from polymodal.distributions.normal import Point
from polymodal.distributions.products import Product
from polymodal.model import MultimodalVAE
from polymodal.networks.layers import keep_heap

LATENTS = 2**23  # numbers that one block of latents may hold: it, and its densities, exist at once
# Bytes that one decoding may use. On a CPU more is slower: its activations then leave the cache,
# and buffers beyond 32 MB are mapped afresh by the allocator every time (12,800 SVHN images/s at
# 500 a call, 4,600 at 2,000).
MEMORY = {"cpu": 48 * 2**20}
MEMORY_ELSEWHERE = 2**31
HIDDEN, ACTIVATIONS = (
    512,
    8,
)  # a decoder holds, for a latent, 8 times the largest modality, at least 8 x 512 numbers
PRECISIONS = (None, "bf16")


class NoDensityError(ValueError):
    """Importance sampling was asked of a posterior that has no density to weigh by."""


@torch.no_grad()
def joint_log_likelihood(
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
    appendix H, first equation. In expectation below log p(x_S), by about Var[p(x,z)/q] / 2K; it is
    the k-sample bound of Burda et al. (2016). A mixture q is charged whole and its components draw
    exactly their shares (`stratified`), which lowers the variance.

    Args:
        samples: K.
        memory: bytes that one decoding may use, about; default 48 MiB on a CPU, 2 GiB elsewhere.
        precision: "bf16" decodes in bfloat16 (densities and sums stay in float32): on CPUs with
            AVX512-BF16 about 1.5 times faster, within .01 nats for likelihoods of scale 1; an
            image's log-density moves as scale^-2.

    Raises:
        ValueError: for K < 1, an unknown precision, or a q whose density is not normalised.

    >>> # joint_log_likelihood(model, data.test.batch(rows)).mean()
    """
    q, weight = _weighed(model, batch)
    return _log_mean(model, batch, q, weight, samples, memory, precision)


def _weighed(model: MultimodalVAE, batch: Batch) -> tuple[Distribution, Callable[[Tensor], Tensor]]:
    """q(z|x_S) and z -> log p(z) / q(z|x_S). Raises ValueError for a q whose density is not
    normalised.
    """
    q, prior = model.posterior(batch), model.prior()
    if not weighable(q, prior):
        raise NoDensityError(
            "Importance sampling needs a posterior with a normalised density; this one is a product"
            " that is only drawn by a sampler, or has no randomness, or a score prior's that is"
            " known by random traces alone. Use conditional_log_likelihood, which needs draws"
            " alone."
        )
    return q, lambda z: prior.log_prob(z) - q.log_prob(z)


def weighable(q: Distribution, p: Distribution) -> bool:
    """Whether p / q is a ratio of densities: q is normalised, and both or neither are points, part
    by part.
    """
    if isinstance(q, Joint):
        theirs = p.parts if isinstance(p, Joint) else [p] * len(q.parts)
        return all(weighable(a, b) for a, b in zip(q.parts, theirs, strict=True))
    if isinstance(q, Mixture):
        return all(weighable(c, p) for c in q.components)
    if isinstance(q, DiffusionPosterior) or isinstance(p, DiffusionPosterior):
        whole = all(f.score.weighable(f.q) for f in (q, p) if isinstance(f, DiffusionPosterior))
        return whole and not isinstance(q, Product | FirstBlock | Point)
    return not isinstance(q, Product | FirstBlock) and isinstance(q, Point) == isinstance(p, Point)


@torch.no_grad()
def marginal_log_likelihood(
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
    says of x_i.

    log 1/K sum_k p(x_i|z_k) p(z_k) / q(z_k|x_S), z_k ~ q(z|x_S): the synergy of Shi et al. (2019),
    section 4, is log p(x_m) from {m, n} >= from {m} > from {n}. All estimate one number from below;
    the better S knows which z may have made x_i, the closer. For samples that have x_i and x_S.

    Args:
        target: i; given: S; samples, memory, precision: see `joint_log_likelihood`.

    Raises:
        ValueError: as `joint_log_likelihood`, or for a name that the batch does not hold.
    """
    q, weight = _weighed(model, batch.only(given))
    return _log_mean(model, batch.only([target]), q, weight, samples, memory, precision)


@torch.no_grad()
def conditional_log_likelihood(
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
    what the model generates from x_S. For |S| = 1, q is the unimodal posterior; for more, whatever
    the model draws from. NaN where the sample lacks x_i or a part of x_S. A sampler's draws are
    correlated, which leaves the estimate consistent.

    Args:
        target: i; may be one of `given`.
        given: S, one or more names.
        samples, memory, precision: see `joint_log_likelihood`.

    Raises:
        ValueError: for K < 1, an unknown precision, or a name that the batch does not hold.
    """
    seen, wanted = batch.only(given), batch.only([target])
    here = batch.mask([target, *given])
    if here.all():
        seen, wanted = (Batch(b.x) for b in (seen, wanted))
    else:  # what is missing for some samples must not change how the others are encoded
        rows = here.nonzero().squeeze(1)
        seen, wanted = (Batch({m: x[rows] for m, x in b.x.items()}) for b in (seen, wanted))
    value = next(iter(batch.x.values())).new_full((len(batch),), torch.nan)
    if here.any():
        value[here] = _log_mean(
            model, wanted, model.posterior(seen), None, samples, memory, precision
        ).to(value.dtype)
    return value


def stratified(q: Distribution, n: int) -> Tensor:
    """n draws of q, (n, B, D), in which a mixture's components have their exact shares, up to one
    draw.

    Systematic sampling: draw k of a random order takes the component at the quantile (k + u) / n, u
    ~ U(0, 1), so that each draw alone has the law of q and averages are unbiased with less
    variance.

    >>> from polymodal.distributions.normal import DiagNormal
    >>> apart = Mixture([DiagNormal(torch.full((1, 1), m), torch.ones(1, 1)) for m in (-50.0, 50.0)])
    >>> (stratified(apart, 10) > 0).sum()
    tensor(5)
    """
    if isinstance(q, Joint):
        return torch.cat([stratified(p, n) for p in q.parts], dim=-1)
    if not isinstance(q, Mixture):
        return q.sample(torch.Size((n,)))
    draws = torch.stack([c.sample(torch.Size((n,))) for c in q.components], dim=-2)
    share = q.weights.to(draws.device, torch.float64).expand(*q.batch_shape, -1).cumsum(-1)
    order = torch.randperm(n, device=draws.device).unsqueeze(-1)
    place = (order + torch.rand(n, *q.batch_shape, device=draws.device, dtype=torch.float64)) / n
    pick = (place.unsqueeze(-1) * share[..., -1:] >= share[..., :-1]).sum(-1)
    return torch.take_along_dim(draws, pick[..., None, None], dim=-2).squeeze(-2)


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
    memory = MEMORY.get(device.type, MEMORY_ELSEWHERE) if memory is None else memory
    largest = max(math.prod(m.shape) for m in model.modalities if m.name in set(names))
    return max(1, memory // (4 * ACTIVATIONS * max(HIDDEN, largest)))


def autocast(precision: str | None, device: torch.device) -> AbstractContextManager:
    """The context in which networks run in `precision`. Raises ValueError for an unknown one."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got {precision!r}.")
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _log_mean(
    model: MultimodalVAE,
    batch: Batch,
    q: Distribution,
    weight: Callable[[Tensor], Tensor] | None,
    samples: int,
    memory: int | None,
    precision: str | None,
) -> Tensor:
    """log 1/K sum_k exp(log p(x|z_k) + weight(z_k)), z_k ~ q, over the modalities that the batch
    holds, (B,).
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")
    rows = rows_for(model, batch.x, batch.device, memory)
    keep_heap()
    total: Tensor | None = None
    for block in pieces(samples, LATENTS // (len(batch) * q.event_shape.numel())):
        z = stratified(q, block.stop - block.start)
        log_w = _decoded(model, batch, z, rows, precision)
        if weight is not None:
            log_w += weight(z)
        part = log_w.logsumexp(0)
        total = part if total is None else torch.logaddexp(total, part)
    if total is None:
        raise ValueError(f"samples must be at least 1, got {samples}.")
    return total - math.log(samples)


def _decoded(
    model: MultimodalVAE, batch: Batch, z: Tensor, rows: int, precision: str | None
) -> Tensor:
    """log p(x|z), (K, B), from z (K, B, D), `rows` latents at a time: all of one sample, then of
    the next.
    """
    out = z.new_empty(z.shape[:-1])
    with autocast(precision, z.device):
        for item in pieces(len(batch), rows // len(z)):
            part = _sliced(batch, item)
            for k in pieces(len(z), rows // (item.stop - item.start)):
                out[k, item] = model.log_likelihood(part, z[k, item]).to(out.dtype)
    return out


def _sliced(batch: Batch, rows: slice) -> Batch:
    return Batch(
        {m: x[rows] for m, x in batch.x.items()}, {m: v[rows] for m, v in batch.present.items()}
    )
