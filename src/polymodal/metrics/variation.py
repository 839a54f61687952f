"""The variation of information of two modalities, and the bound that surrogates are trained on.

Suzuki et al. (2016); Senellart et al. (2023), appendix A.1, eqs. (14) and (15), here the mean over
samples where the paper writes the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from polymodal.batch import Batch
from polymodal.checks import keep_heap
from polymodal.distributions import divergence, stratified, weighable
from polymodal.metrics.decoding import DECODING, Decoding, pieces
from polymodal.metrics.likelihood import (
    NoDensityError,
    decoded_log_likelihood,
    monte_carlo_log_likelihood,
    where_complete,
)
from polymodal.metrics.measurement import Measurement
from polymodal.metrics.metric import Value, metric
from polymodal.metrics.places import Given, couples
from polymodal.metrics.statistics import mean_of
from polymodal.model import MultimodalVAE

DRAWS = 64  # latents whose divergences are computed at once


@torch.no_grad()
def monte_carlo_variation(
    model: MultimodalVAE,
    batch: Batch,
    names: Sequence[str],
    samples: int = 1000,
    decoding: Decoding = DECODING,
) -> Tensor:
    """-log p(x_1 | x_2) - log p(x_2 | x_1) of what the model generates, (B,), nats.

    Its mean over samples estimates the variation of information H(x_1|x_2) + H(x_2|x_1), which is
    small where each modality predicts the other; of continuous values it can be below 0. Both
    terms are `monte_carlo_log_likelihood`. NaN where the sample lacks one of the two.

    Args:
        names: the two modalities.
        samples: K, latents for each term.

    Raises ValueError unless there are two different names that the batch holds, or for K < 1.
    """
    first, second = _two(names)
    logs = [
        monte_carlo_log_likelihood(model, batch, target, [given], samples, decoding)
        for target, given in ((first, second), (second, first))
    ]
    return -(logs[0] + logs[1])


@torch.no_grad()
def variation_bound(
    model: MultimodalVAE,
    batch: Batch,
    names: Sequence[str],
    samples: int = 1000,
    decoding: Decoding = DECODING,
) -> Tensor:
    """-ELBO(x_1, x_2) + KL(q || q_1) + KL(q || q_2) with q = q(z | x_1, x_2) and q_m = q(z | x_m):
    eq. (15), (B,), nats.

    In expectation at least `monte_carlo_variation`, by KL(q || p) and the gaps of Jensen's
    inequality, so that training surrogates on the two divergences lowers a bound of the variation.
    NaN where the sample lacks one of the two.

    Args:
        names: the two modalities.
        samples: K, draws of q for the terms without a closed form.

    Raises:
        NoDensityError: if q, q_1 or q_2 has no normalised density.
        ValueError: as `monte_carlo_variation`.
    """
    _two(names)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")

    def estimate(observed: Batch) -> Tensor:
        both = observed.only(names)
        q, experts = model.posterior(both), [model.posterior(both.only([m])) for m in names]
        others = [model.prior(), *experts]
        if not all(weighable(q, p) for p in others):
            raise NoDensityError(
                "The bound on the variation of information needs posteriors with a normalised"
                " density, given both modalities and given each; here one is a product that only a"
                " sampler draws, or is deterministic. variation_of_information needs draws only."
            )
        return _bound(model, both, q, others, samples, decoding)

    return where_complete(batch, names, estimate)


def _bound(
    model: MultimodalVAE,
    batch: Batch,
    q: Distribution,
    others: Sequence[Distribution],
    samples: int,
    decoding: Decoding,
) -> Tensor:
    """-E_q log p(x|z) + sum of KL(q || p) over p in `others`, (B,)."""
    rows = decoding.rows(model, batch.x, batch.device)
    keep_heap()
    total = torch.zeros(len(batch), device=batch.device)
    for block in pieces(samples, DRAWS):
        z = stratified(q, block.stop - block.start)
        value = -decoded_log_likelihood(model, batch, z, rows, decoding)
        for p in others:
            value = value + divergence(q, p, z)
        total = total.to(value) + value.sum(0)
    return total / samples


def _two(names: Sequence[str]) -> tuple[str, str]:
    """The two names. Raises ValueError for others than two different ones."""
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(
            f"The variation of information is that of two modalities, got {list(names)}; name two"
            " different ones."
        )
    first, second = names
    return first, second


def _mean(m: Measurement, estimate: Callable[..., Tensor], target: str) -> Value:
    """The mean of an estimate over the samples that have both modalities of the target "a+b"."""
    names, options = target.split("+"), m.options
    with m.stream("variation", target):
        values = [
            estimate(m.model, x, names, options.samples, options.decoding) for x in m.batches(names)
        ]
        return mean_of(torch.cat(values))


@metric(places=couples, direction="lower", unit="nats", default=False)
def variation_of_information(m: Measurement, given: Given, target: str) -> Value:
    """-log p(x_1 | x_2) - log p(x_2 | x_1) of what the model generates, by Monte Carlo."""
    return _mean(m, monte_carlo_variation, target)


@metric(places=couples, direction="lower", unit="nats", default=False)
def variation_of_information_bound(m: Measurement, given: Given, target: str) -> Value:
    """The bound on the variation of information that JNF's and JMVAE's surrogates are trained on.

    Senellart et al. (2023), eq. (15).
    """
    return _mean(m, variation_bound, target)
