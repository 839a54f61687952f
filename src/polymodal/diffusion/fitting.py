"""Fitting the coordinates of a diffusion prior: standardised blocks, or reduced by score ratio
matching.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from polymodal.analysis import score_ratio
from polymodal.batch import Batch
from polymodal.diffusion.whitening import LatentWhitening

REFERENCES = ("normal", "marginals")  # of score ratio matching
LEAST = (
    0.1  # of the largest deviation of a block counts as one: an unused dimension is not blown up
)


def whole(batch: Batch, frame: LatentWhitening) -> tuple[Tensor, Tensor]:
    """The blocks of a batch side by side (B, d), 0 where they are missing, and which are there (B,
    M).
    """
    size, like = len(batch), next(iter(batch.x.values()))
    y = [batch.x[m] if m in batch.x else like.new_zeros(size, d) for m, d in frame.sizes.items()]
    none = torch.zeros(size, dtype=torch.bool, device=like.device)
    here = [batch.mask([m]) if m in batch.x else none for m in frame.sizes]
    return torch.cat(y, -1), torch.stack(here, -1)


@torch.no_grad()
def fit_frame(
    frame: LatentWhitening,
    epsilon: float | None,
    reference: str,
    train: Iterable[Batch],
    val: Iterable[Batch],
) -> dict[str, Any]:
    """Sets the frame from batches of latents: every block standardised; with `epsilon` turned and
    cut (`reduced`).
    """
    z, here = collected(train, frame)
    seen = {m: v[here[:, i]] for i, (m, v) in enumerate(z.items())}
    if epsilon is not None:
        held, held_here = collected(val, frame)
        every = lambda x, mask: {m: v[mask.all(-1)] for m, v in x.items()}
        return reduced(frame, seen, every(z, here), every(held, held_here), epsilon, reference)
    mean = torch.cat([v.mean(0) for v in seen.values()])
    deviations = [v.std(0) for v in seen.values()]
    for m, v in zip(seen, deviations, strict=True):
        if not v.max() > 0:
            raise ValueError(
                f"The latent of {m!r} is the same for every sample; train its autoencoder anew."
            )
    wide = torch.cat([torch.maximum(v, LEAST * v.max()) for v in deviations])
    frame.set_(mean, torch.diag(1 / wide))
    return {}


def collected(batches: Iterable[Batch], frame: LatentWhitening) -> tuple[dict[str, Tensor], Tensor]:
    """All of the latents, {block: (N, d_m)}, and which are there, (N, M)."""
    z, here = (
        torch.cat(parts) for parts in zip(*(whole(batch, frame) for batch in batches), strict=True)
    )
    return dict(zip(frame.sizes, z.split(list(frame.sizes.values()), -1), strict=True)), here


def reduced(
    frame: LatentWhitening,
    seen: Mapping[str, Tensor],
    train: Mapping[str, Tensor],
    held: Mapping[str, Tensor],
    epsilon: float,
    reference: str = "normal",
    steps: int = 2000,
) -> dict[str, Any]:
    """Score ratio matching on latents whitened block by block; each block then keeps its leading
    eigenvectors.

    How many each keeps follows from one epsilon: the least over all blocks whose bound 1/2 sum of
        the eigenvalues left
    out is below it. The figures for the log: spectra, sizes, the bound and what it may be off by.

    Args:
        seen: what whitens each block; train, held: complete samples, for the score and for its
            early stop and H.
        epsilon: nats.
        reference: "normal": what differs from N(0, I), within a modality or between; "marginals":
            what is shared alone, since each modality's own law is the reference. The bound is then
            no bound but a score to choose by (only N(0, I) is known to have the constant 1 in it),
            and what is left out is still drawn from N(0, I).
        steps: of training each score.

    Raises ValueError for an unknown reference, or fewer complete samples than dimensions.
    """
    if reference not in REFERENCES:
        raise ValueError(f"The reference is one of {', '.join(REFERENCES)}, not {reference!r}.")
    total = sum(frame.sizes.values())
    if min(len(next(iter(x.values()))) for x in (train, held)) <= total:
        raise ValueError(
            f"Score ratio matching needs more complete samples than its {total} dimensions, for"
            " training and for validation; take more data, a smaller latent, or epsilon=null."
        )
    white = score_ratio.Whitening.of_blocks(seen)
    x, test = white(train), white(held)
    with torch.enable_grad():
        score = score_ratio.fit(x, test, steps=steps)
        parts = zip(
            frame.sizes,
            x.split(list(frame.sizes.values()), -1),
            test.split(list(frame.sizes.values()), -1),
            strict=True,
        )
        base = (
            {m: score_ratio.fit(a, b, steps=steps) for m, a, b in parts}
            if reference == "marginals"
            else {}
        )
    found = score_ratio.reduce(score, test, frame.sizes, base)
    kept = found.choose(epsilon)
    frame.set_(white.mean, white.matrix @ torch.block_diag(*found.vectors.values()), kept)
    return {
        "kept": kept,
        "of": dict(frame.sizes),
        "bound": found.bound(kept),
        "trace": found.trace,
        "check": found.check,
        "trace_error": found.error,
        "spectra": {m: v.tolist() for m, v in found.values.items()},
    }
