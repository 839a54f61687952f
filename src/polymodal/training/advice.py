"""Warnings about training that runs and teaches nothing, each with what to try."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset, gather

log = logging.getLogger("polymodal")

COLLAPSED = 0.1  # nats: a posterior so near the prior says nothing about the data
SPREADS = (0.1, 10.0)  # standard deviations of data to which a scale of 1 is suited
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
