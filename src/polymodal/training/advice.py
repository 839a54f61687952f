"""Warnings about training that runs and teaches nothing, each with what to try."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset
from polymodal.data.rows import gather
from polymodal.distributions import weighable
from polymodal.model import MultimodalVAE

log = logging.getLogger("polymodal")

COLLAPSED = 0.1  # nats: a posterior so near the prior says nothing about the data
SPREADS = (0.1, 10.0)  # standard deviations of data to which a scale of 1 is suited
IGNORED = 0.1  # nats by which a likelihood falls at least at the latents of other samples
SHIFTED, FEWEST = 256, 16  # samples whose latents are exchanged, at most and at least
ROWS = 1000  # of a modality whose spread is looked at
SCALED = ("normal", "laplace")  # likelihoods with a scale


def warn_of_spread(data: Dataset) -> None:
    """Warns of modalities with a scale of 1 whose values spread far less or far more."""
    for m in data.modalities:
        if m.likelihood not in SCALED or m.scale != 1:
            continue
        spread = _spread(data, m)
        if not SPREADS[0] <= spread <= SPREADS[1]:
            log.warning(
                "The values of %r have a standard deviation of %.3g, and its likelihood a scale of"
                " 1: the model will %s. Standardise the values, or set modalities.%s.scale=%.2g.",
                m.name,
                spread,
                "hardly see them" if spread < 1 else "see nothing else",
                m.name,
                min(max(spread, 1e-6), 1e6),
            )


def _spread(data: Dataset, m: Modality) -> float:
    """The mean over the coordinates of the standard deviation over samples."""
    rows = data.rows_of(m.name, data.is_present(m.name).nonzero().squeeze(1)[:ROWS])
    values = gather(data.tables[m.name], rows).flatten(1)
    return float(values.std(0).mean()) if len(rows) > 1 else 1.0


def warn_of_collapse(stage: str, row: Mapping[str, Any]) -> None:
    """Warns if the divergence from the prior is near 0 at the end of a stage.

    Args:
        row: of the log, with the means over the epoch and the validation data.
    """
    ours = {k: v for k, v in row.items() if k.startswith(("val_kl", "train_kl"))}
    near = [k for k, v in ours.items() if _is_from_prior(k) and 0 < v < COLLAPSED]
    if near:
        log.warning(
            "Stage %r: the posterior has collapsed onto the prior (%s nats), so that the latent"
            " says nothing about the data. Try a smaller beta or a longer warm-up of it"
            " (method.beta, method.warmup), a smaller scale of the likelihoods"
            " (modalities.<name>.scale), standardised values, or more epochs.",
            stage,
            ", ".join(f"{k} {ours[k]:.2g}" for k in near),
        )


@torch.no_grad()
def warn_of_ignored(model: MultimodalVAE, data: Dataset) -> None:
    """Warns of modalities whose likelihood hardly falls at the latents of other samples, while that
    of other modalities does: their decoders give every sample the same. (If all do, the posterior
    has collapsed.)

    Args:
        data: held-out samples, of which at most SHIFTED that have every modality are used. With
            fewer than FEWEST of them, or a posterior without a density, nothing is said.
    """
    rows = torch.stack([data.is_present(m) for m in data.names]).all(0).nonzero().squeeze(1)
    if len(rows) < FEWEST:
        return
    batch = model.readable(data.batch(rows[:SHIFTED]).to(next(model.parameters()).device))
    q = model.posterior(batch)
    if not weighable(q, model.prior()):
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        z = q.sample()
    own, others = (model.log_likelihoods(batch, each) for each in (z, z.roll(1, 0)))
    gains = {m: float((log - others[m]).mean()) for m, log in own.items()}
    used = [m for m, gain in gains.items() if gain >= IGNORED]
    for m in gains if used else ():
        if m not in used:
            log.warning(
                "The decoder of %r ignores the latent: at the latents of other samples its"
                " likelihood is %.2g nats lower (%s). Try modalities.%s.weight=%g, more epochs, or"
                " another network.",
                m,
                gains[m],
                ", ".join(f"that of {k} {gains[k]:.3g}" for k in used),
                m,
                10 * model.weights[m],
            )


def warn_of_product(stage: str, figures: Mapping[str, Any]) -> None:
    """Warns if products of surrogates over the prior have no finite integral, see
    `polymodal.methods.joint.product_figures`.

    Args:
        figures: of the end of the stage.
    """
    n, variance = figures.get("most_experts", 0), figures.get("largest_variance", 0.0)
    if not n or variance <= n / (n - 1):
        return
    limit, tail = n / (n - 1), figures.get("tail_variance")
    likelihoods = "method.product=likelihoods (jnf_dcca)"
    if tail is not None and tail < limit:
        fault = f"is held near the data only by method.flow.tail_variance={tail:g}"
        remedy = likelihoods
    else:
        fault = "has no finite integral where they say little of it, and its draws leave the data"
        remedy = f"{likelihoods}, or method.flow.tail_variance below {limit:.3g}"
    log.warning(
        "Stage %r: the joint posteriors have a variance of %.3g in one direction, above n / (n - 1)"
        " = %.3g, so that the product of the surrogates of n = %d modalities over the prior (eq."
        " 12) %s; set %s.",
        stage,
        variance,
        limit,
        n,
        fault,
        remedy,
    )


def _is_from_prior(term: str) -> bool:
    """Whether a term is a divergence from the prior; others are between posteriors. (It is exactly
    0 where the encoder is deterministic.)
    """
    return term.partition("_")[2] == "kl" or "_kl_prior" in term
