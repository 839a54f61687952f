"""Fitting the coordinates of a diffusion prior: blocks standardised, or reduced by score ratio
matching.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from polymodal.analysis import score_ratio
from polymodal.analysis.score_ratio import blocks
from polymodal.batch import Batch
from polymodal.diffusion.whitening import LatentWhitening

log = logging.getLogger("polymodal")

REFERENCES = ("normal", "marginals")  # of score ratio matching
# a smaller share of a block's largest deviation counts as this share: an unused dimension is not
# blown up
LEAST = 0.1
FEWEST = 20  # samples for a standard error that can be trusted
NOTHING_FOUND = (
    "Score ratio matching found nothing: on held-out samples no direction of the latents differs"
    " from N(0, I) beyond chance (gain %.2g, error %.2g nats). No dimension is kept, and the prior"
    " is N(0, I) in whitened coordinates. Take more data or a smaller latent, or epsilon=null."
)


def whole(batch: Batch, whitening: LatentWhitening) -> tuple[Tensor, Tensor]:
    """The blocks of a batch side by side (B, d), 0 where missing, and which are present (B, M)."""
    z, present = zip(*(_block(batch, m, d) for m, d in whitening.sizes.items()), strict=True)
    return torch.cat(z, -1), torch.stack(present, -1)


def _block(batch: Batch, m: str, d: int) -> tuple[Tensor, Tensor]:
    """One block of a batch (B, d) and where it is present (B,); zeros where the batch has none."""
    if m in batch.x:
        return batch.x[m], batch.mask([m])
    zero = next(iter(batch.x.values())).new_zeros(len(batch), d)
    return zero, torch.zeros(len(batch), dtype=torch.bool, device=zero.device)


@torch.no_grad()
def fit_whitening(
    whitening: LatentWhitening,
    epsilon: float | None,
    reference: str,
    train: Iterable[Batch],
    val: Iterable[Batch],
) -> dict[str, Any]:
    """Sets the whitening from batches of latents: every block standardised; with `epsilon` rotated
    and cut (`reduced`, whose figures this returns).
    """
    z, present = collected(train, whitening)
    seen = {m: v[present[:, i]] for i, (m, v) in enumerate(z.items())}
    if epsilon is None:
        standardise(whitening, seen)
        return {}
    held_out, held_out_present = collected(val, whitening)
    train_z, val_z = _complete(z, present), _complete(held_out, held_out_present)
    return reduced(whitening, seen, train_z, val_z, epsilon, reference)


def _complete(z: Mapping[str, Tensor], present: Tensor) -> dict[str, Tensor]:
    """z of the samples that have every block, {block: (K, d_m)}."""
    every = present.all(-1)
    return {m: v[every] for m, v in z.items()}


def standardise(whitening: LatentWhitening, z: Mapping[str, Tensor]) -> None:
    """Sets the whitening to mean 0 and variance 1 of every coordinate of z, {block: (N_m, d_m)}.

    Raises ValueError for a block that is constant.
    """
    deviations = [v.std(0) for v in z.values()]
    for m, deviation in zip(z, deviations, strict=True):
        if not deviation.max() > 0:
            raise ValueError(
                f"The latent of {m!r} is the same for every sample; train its autoencoder anew."
            )
    wide = [torch.maximum(v, LEAST * v.max()) for v in deviations]
    whitening.set_(torch.cat([v.mean(0) for v in z.values()]), torch.diag(1 / torch.cat(wide)))


def collected(
    batches: Iterable[Batch], whitening: LatentWhitening
) -> tuple[dict[str, Tensor], Tensor]:
    """All of the latents, {block: (N, d_m)}, and which are present, (N, M)."""
    z, present = zip(*(whole(batch, whitening) for batch in batches), strict=True)
    return blocks(torch.cat(z), whitening.sizes), torch.cat(present)


def reduced(
    whitening: LatentWhitening,
    seen: Mapping[str, Tensor],
    train: Mapping[str, Tensor],
    held_out: Mapping[str, Tensor],
    epsilon: float,
    reference: str = "normal",
    steps: int = 2000,
) -> dict[str, Any]:
    """Score ratio matching on latents whitened block by block; each block then keeps its leading
    eigenvectors.

    How many each keeps follows from one epsilon: the fewest over all blocks together for which the
    bound, 1/2 sum of the eigenvalues left out, is below it.

    Args:
        whitening: is set to the result.
        seen: what whitens each block.
        train, held_out: complete samples, for the score, and for what judges it.
        epsilon: nats.
        reference: "normal": what differs from N(0, I), within a modality or between; "marginals":
            only what is shared, since each modality's own law is the reference. The bound is then
            no bound but a score to choose by (only for N(0, I) is its constant known to be 1), and
            what is left out is still drawn from N(0, I).
        steps: of training each score.

    Returns: figures for the log: spectra, sizes, the bound, the held-out gain over N(0, I) and its
        error. Where held-out samples show no direction beyond chance, no block keeps any, and a
        warning says so.
    Raises: ValueError for an unknown reference, or too few samples.
    """
    _check_reduction(reference, train, held_out)
    whitening.set_(*score_ratio.whitening_of(seen))
    noised = (score_ratio.ridged(z, seen) for z in (train, held_out))
    x, test = (whitening(torch.cat([*z.values()], -1)) for z in noised)
    with torch.enable_grad():
        score = score_ratio.fit(x, test, steps=steps)
        is_shared = reference == "marginals"
        marginals = _marginal_scores(x, test, whitening.sizes, steps) if is_shared else {}
    reduction = score_ratio.reduce(score, x, test, whitening.sizes, marginals)
    kept = reduction.choose(epsilon)
    if not reduction.found:
        log.warning(NOTHING_FOUND, reduction.gain, reduction.error)
    rotation = torch.block_diag(*reduction.vectors.values())
    whitening.set_(whitening.mean, whitening.matrix @ rotation, kept)
    return {"kept": kept, "of": dict(whitening.sizes), **_figures(reduction, kept)}


def _figures(reduction: score_ratio.Reduction, kept: Mapping[str, int]) -> dict[str, Any]:
    return {
        "bound": reduction.bound(kept),
        "found": reduction.found,
        "trace": reduction.trace,
        "gain": reduction.gain,
        "gain_error": reduction.error,
        "spectra": {m: v.tolist() for m, v in reduction.values.items()},
    }


def _check_reduction(reference: str, *samples: Mapping[str, Tensor]) -> None:
    if reference not in REFERENCES:
        raise ValueError(f"The reference is one of {', '.join(REFERENCES)}, not {reference!r}.")
    if (least := min(len(next(iter(z.values()))) for z in samples)) < FEWEST:
        raise ValueError(
            f"Score ratio matching needs at least {FEWEST} samples with every modality, for"
            f" training and for validation, got {least}; take more data, or epsilon=null."
        )


def _marginal_scores(
    x: Tensor, held_out: Tensor, sizes: Mapping[str, int], steps: int
) -> dict[str, score_ratio.RatioScore]:
    """The score of each block of x (N, d) by itself."""
    train, test = blocks(x, sizes), blocks(held_out, sizes)
    return {m: score_ratio.fit(train[m], test[m], steps=steps) for m in sizes}
