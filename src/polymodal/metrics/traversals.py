"""Which modalities each dimension of a model's latent moves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from polymodal.analysis.traversals import Attribution, attribute, traversal_values
from polymodal.checks import Count, checked
from polymodal.data.dataset import Dataset
from polymodal.metrics.decoding import DECODING
from polymodal.metrics.measurement import complete_rows
from polymodal.model import MultimodalVAE
from polymodal.rng import own_random_state, seed_all

MOST, LATENTS = 64, 20_000  # samples from which dimensions are moved, and latents decoded, at most


@checked
def attribute_latents(
    model: MultimodalVAE,
    data: Dataset,
    samples: Count | None = None,
    steps: Count = 9,
    seed: int = 0,
) -> Attribution:
    """Which modalities each dimension of the latent moves: numbers for the latent traversals that
    Shi et al. (2019) show.

    Draws z ~ q(z|x) for the first samples that have all modalities (any, if at most one has), moves
    one dimension of z at a time, decodes, and compares the variance of the means with that of the
    data: `polymodal.analysis.traversals.attribute`.

    Args:
        model: in evaluation mode.
        data: test data, on the model's device.
        samples: how many z; None: up to 64, fewer for large latents, so that about 20,000 latents
            are decoded.
        steps: values of each dimension, at least 2.
        seed: of the draws of z.

    Raises ValueError for fewer than two steps or samples.

    >>> # found = attribute_latents(run.model, data.test)
    >>> # found.moved(), found.shares["mnist"]
    """
    rows = complete_rows(data, data.names)
    rows = rows if len(rows) > 1 else torch.arange(len(data), device=data.device)
    size = model.prior().event_shape.numel()
    count = max(2, min(MOST, LATENTS // (size * steps))) if samples is None else samples
    with own_random_state(data.device):
        seed_all(data.device, seed, "traversal")
        z = model.latents(data.batch(rows[:count])).squeeze(0)
    decoders = {m: _mean_of(decoder) for m, decoder in model.decoders.items()}
    variance = {m: float(data.moments(m)[1].sum()) for m in decoders}
    chunk = max(1, DECODING.rows(model, decoders, data.device) // steps)
    return attribute(decoders, z, variance, traversal_values(z, steps), chunk)


def _mean_of(decoder: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda z: decoder(z).mean
