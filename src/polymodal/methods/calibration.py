"""The exponent t of a product of likelihoods q_t(z) = a(z) prod_m p(g_m | z)^t / Z_t.

At held-out latents the likelihoods may be exact and their product still too sure: draws of q_1 have
likelihoods above those of the latents that they stand for, where these do not lie among what a and
the likelihoods together call typical. The exponent is the one under which held-out latents have the
highest density. It is 1 where the likelihoods and a are exact; where a normal likelihood claims a
variance v in place of w, it is v / w.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from polymodal.batch import Batch
from polymodal.distributions import LikelihoodProduct
from polymodal.methods.joint import kept_joint
from polymodal.model import MultimodalVAE
from polymodal.posteriors import JointWithLikelihoods
from polymodal.posteriors.masks import presence
from polymodal.sampling import HMC, Sampler

ITEMS = 128  # held-out samples
ROUNDS, FACTOR, CLOSE = 4, 2.0, 0.05  # of draws; the largest change of t in one; the last change
DRAWS, HALVINGS = 200, 40
SAMPLER = HMC(warmup=60, draws=50)


class Calibration(NamedTuple):
    """An exponent, its standard error over the samples, and the mean gain of the held-out
    log q(z | x_S) over exponent 1, nats.
    """

    exponent: float
    error: float
    gain: float


def fit_exponent(
    product: Callable[[float], LikelihoodProduct], z: Tensor, sampler: Sampler = SAMPLER
) -> Calibration:
    """The exponent t with the largest mean of log q_t(z_i | x_i) over held-out samples.

    Draws at one exponent serve all candidates t': with L the log-likelihood of what is given,

        log q_t'(z) - log q_t(z) = (t' - t) L(z) - log E_t exp((t' - t) L),

    the mean by self-normalised importance. It is concave in t', so that its maximum is where its
    derivative, L(z) less the mean of L under q_t', is 0. Then q_t' is drawn, and so on.

    Args:
        product: of the samples, by exponent; its batch_shape is (B,).
        z: one draw of the posterior given all modalities, (B, D).
        sampler: whose draws stand for the product.
    """
    t, total = 1.0, 0.0
    for _ in range(ROUNDS):
        drawn, observed = _log_likelihoods(product(t), z, sampler)
        step = _best_step(t, drawn, observed)
        total += float(_gain(step, drawn, observed).mean())
        error = _error(step, drawn, observed)
        t += step
        if abs(math.log(t / (t - step))) < CLOSE:
            break
    return Calibration(t, error, total)


def _log_likelihoods(q: LikelihoodProduct, z: Tensor, sampler: Sampler) -> tuple[Tensor, Tensor]:
    """L of draws of q, (n, B), and of z, (B,)."""
    start = q.start()
    draws, _ = sampler(q.log_prob, lambda n: start.sample((n,)), start.log_prob, DRAWS)
    return q.log_likelihood(draws).double(), q.log_likelihood(z).double()


def _gain(step: float, drawn: Tensor, observed: Tensor) -> Tensor:
    """log q_t'(z) - log q_t(z) of each sample, (B,), for t' = t + step."""
    mean = (step * drawn).logsumexp(0) - math.log(len(drawn))
    return step * observed - mean


def _score(step: float, drawn: Tensor, observed: Tensor) -> Tensor:
    """The derivative of `_gain` by the step, (B,)."""
    weight = (step * drawn).softmax(0)
    return observed - (weight * drawn).sum(0)


def _best_step(t: float, drawn: Tensor, observed: Tensor) -> float:
    """The root of the mean score, which falls, for t' between t / FACTOR and t FACTOR."""
    low, high = t / FACTOR - t, t * FACTOR - t
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rises = float(_score(middle, drawn, observed).mean()) > 0
        low, high = (middle, high) if rises else (low, middle)
    return (low + high) / 2


def _error(step: float, drawn: Tensor, observed: Tensor) -> float:
    """The standard error of the root: that of the mean score by its slope, the variance of L."""
    weight, score = (step * drawn).softmax(0), _score(step, drawn, observed)
    mean = (weight * drawn).sum(0)
    slope = (weight * (drawn - mean).square()).sum(0).mean()
    return float(score.std() / (slope * math.sqrt(len(score))))


def fit_product(
    model: MultimodalVAE[JointWithLikelihoods], val: Iterable[Batch]
) -> dict[str, float]:
    """Sets `posterior.exponent` by `fit_exponent`, each held-out sample given a random subset of
    two or more of its modalities; figures.

    Args:
        val: batches that `keep_joint` made, with embeddings.
    """
    posterior = model.posterior
    batch = _some(val)
    joint, present = kept_joint(batch), _subsets(batch)
    experts = [joint] * len(batch.x)  # only their shape counts

    def product(t: float) -> LikelihoodProduct:
        return posterior.product_of(batch.x, experts, [*present.T], t)

    found = fit_exponent(product, joint.sample())
    posterior.exponent.fill_(found.exponent)
    return {
        "exponent": found.exponent,
        "exponent_error": found.error,
        "gain_by_exponent": found.gain,
    }


def _some(batches: Iterable[Batch]) -> Batch:
    """About ITEMS samples, spread evenly over the batches."""
    parts = [*batches]
    every = max(1, sum(map(len, parts)) // ITEMS)
    parts = [part.rows(torch.arange(0, len(part), every, device=part.device)) for part in parts]

    def joined(name: str) -> dict[str, Any]:
        values = [getattr(part, name) for part in parts]
        return {key: torch.cat([v[key] for v in values]) for key in values[0]}

    return Batch(joined("x"), joined("present"), None, joined("kept"))


def _subsets(batch: Batch) -> Tensor:
    """For each sample a random subset of its modalities, of 2 or more where it has so many,
    (B, M) bool; all sizes are equally frequent.
    """
    there = presence(batch, batch.x)
    count = there.shape[1]
    order = torch.rand(there.shape, device=there.device).masked_fill(~there, 2).argsort(1)
    rank = order.argsort(1)
    size = torch.randint(2, count + 1, (len(there), 1), device=there.device)
    return there & (rank < size)
