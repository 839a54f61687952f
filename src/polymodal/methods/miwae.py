"""MIWAE: one encoder for every pattern of missing modalities and missing entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from polymodal.batch import Batch, is_observed
from polymodal.checks import NonNegative, Share, Size
from polymodal.distributions import detach, divergence
from polymodal.methods.builder import Builder
from polymodal.methods.common import HIDDEN, Objective, whole_model
from polymodal.methods.method import method
from polymodal.model import Loss, Method, MultimodalVAE, Step
from polymodal.networks.mechanisms import mechanisms_of
from polymodal.objectives import elbo, iwae
from polymodal.posteriors import AnyPattern
from polymodal.posteriors.masks import presence
from polymodal.rng import noise

Mechanism = Literal["ignorable", "self_masking", "high_missing", "low_missing"]
KEPT = (0.2, 1.0)  # least and largest share of entries that a thinned sample keeps
ALL = 1 / 3  # share of thinned samples that lose entries and no modality


def miwae_loss(
    model: MultimodalVAE[AnyPattern],
    batch: Batch,
    progress: float,
    hide: float,
    entries: Sequence[str],
    objective: str,
    k: int,
    consensus: float = 0.0,
) -> Loss:
    """The negative bound of log p(x_S), S being what a sample has or (with probability `hide`) a
    random part of it. With `consensus` c, S is what a sample has, and c KL(q(z|x_S) || q(z|x_T)) is
    added, T being the part.
    """
    if consensus and hide:
        return _with_part(model, batch, thinned(batch, hide, entries), objective, k, consensus)
    part = thinned(batch, hide, entries) if model.training and hide else batch
    q = model.posterior(part)
    if objective == "elbo":
        return elbo(model, part, q)
    return iwae(model, part, q, k, estimator=objective)


def _with_part(
    model: MultimodalVAE[AnyPattern],
    batch: Batch,
    part: Batch,
    objective: str,
    k: int,
    consensus: float,
) -> Loss:
    """The negative bound of the whole batch, and the divergence of the posterior of a part."""
    q = model.posterior(batch)
    if objective == "elbo":
        loss = elbo(model, batch, q)
    else:
        loss = iwae(model, batch, q, k, estimator=objective)
    whole = detach(q)
    gap = divergence(whole, model.posterior(part), whole.mean)
    return Loss(loss.value + consensus * gap, loss.terms | {"kl_part": gap})


def thinned(batch: Batch, hide: float, entries: Sequence[str]) -> Batch:
    """The batch in which each sample is thinned with probability `hide`: it loses each modality
    with probability a half, or none (a third of them), and of the modalities `entries` a share of
    the entries, drawn for each sample. A sample that would lose everything stays whole.
    """
    names = list(batch.x)
    present = presence(batch, names)
    like = next(iter(batch.x.values())).float()
    chosen = noise(like, [len(batch), 1], torch.rand) < hide
    kept = present & (_some_modalities(present, like) | ~chosen)
    x = {m: _some_entries(v, chosen) if m in entries else v for m, v in batch.x.items()}
    left = torch.stack([is_observed(x[m]) for m in names], 1) & kept
    whole = ~left.any(1)
    values = {m: torch.where(_along(whole, v), batch.x[m], v) for m, v in x.items()}
    left = torch.where(whole.unsqueeze(1), present, left)
    holes = None if batch.holes is None else batch.holes | set(entries)
    masks = dict(zip(names, left.unbind(1), strict=True))
    hidden = {m: values[m].isnan() & ~batch.x[m].isnan() for m in entries if m in values}
    return Batch(values, masks, batch.label, batch.kept, holes, hidden, batch.covariates)


def _some_modalities(present: Tensor, like: Tensor) -> Tensor:
    """Which modalities (B, M) are kept, each with probability a half; all of some samples, and at
    least one that is present.
    """
    draws = torch.where(present, noise(like, list(present.shape), torch.rand), -1.0)
    best = draws == draws.max(1, keepdim=True).values
    everything = noise(like, [len(present), 1], torch.rand) < ALL
    return (draws > 0.5) | best | everything


def _some_entries(x: Tensor, chosen: Tensor) -> Tensor:
    """Values (B, *shape) with further holes in the samples that are chosen, (B, 1)."""
    low, high = KEPT
    share = low + (high - low) * noise(x, [len(x)], torch.rand)
    hidden = noise(x, list(x.shape), torch.rand) > _along(share, x)
    return torch.where(hidden & _along(chosen, x), torch.nan, x)


def _along(value: Tensor, x: Tensor) -> Tensor:
    """One value for each sample of x (B, *shape), shaped to broadcast to it."""
    return value.reshape(-1, *[1] * (x.dim() - 1))


@method(latent=16, hidden=HIDDEN)
def miwae(
    builder: Builder,
    *,
    k: Size = 20,
    objective: Objective = "dreg",
    hide: Share = 0.5,
    consensus: NonNegative = 0.0,
    mechanism: Mechanism = "ignorable",
) -> Method:
    """MIWAE (Mattei and Frellsen 2019) for several modalities: one encoder reads whatever is
    observed, and which entries are, and the bound on log p(x_S) has k samples.

    It is the method for filling in tables with holes. A part of every batch is thinned, so that the
    encoder knows patterns which the data do not have: whole modalities that are missing, and more
    holes in modalities that have holes.

    Args:
        k: samples of the bound.
        objective: dreg (the bound, with the doubly reparametrised gradient of Tucker et al. 2019),
            iwae, or elbo.
        hide: share of the samples of a batch that are thinned.
        consensus: weight of KL(q(z|x_S) || q(z|x_T)) for a thinned part T of what a sample has: the
            encoder learns from all that a sample has what a part says of it (as the conditional
            prior of Ivanov et al. 2019, eq. 7). For pictures, whose likelihood would else hardly
            say it.
        mechanism: ignorable, or self_masking: the probability that an entry of a table or a vector
            is missing depends on its own value, and is learned (Ipsen, Mattei and Frellsen 2021);
            high_missing or low_missing: it is known to rise, or to fall, with every number.
    """
    prior = builder.prior()
    posterior = AnyPattern(builder.joint(), prior)
    why = mechanisms_of(builder.modalities, mechanism)
    model = MultimodalVAE(prior, builder.decoders(), posterior, builder.modalities, why)
    entries = tuple(m.name for m in builder.modalities if m.holes)
    options = {"consensus": consensus} if consensus else {}
    loss = Step(miwae_loss, hide=hide, entries=entries, objective=objective, k=k, **options)
    return Method(model, whole_model(loss))
