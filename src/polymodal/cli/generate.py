"""`polymodal generate`: samples in files, given and generated."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from polymodal.batch import Batch, Modality
from polymodal.checks import suggest
from polymodal.data.kinds import kind_of
from polymodal.diffusion.prior import DiffusionPrior
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.model import MultimodalVAE
from polymodal.posteriors.concatenated import Concatenated
from polymodal.posteriors.diffusion import JointWithDiffusion
from polymodal.posteriors.joint import JointWithSurrogates, SampledProduct
from polymodal.priors import FittedPrior
from polymodal.runs.files import make_directory, write
from polymodal.runs.run import load
from polymodal.sampling import make_sampler


def generate_files(
    run: Path,
    given: Mapping[str, Path],
    want: Sequence[str],
    n: int,
    seed: int,
    sampler: str | None,
    out: Path,
    console: Console,
) -> None:
    """Writes OUT/generated.npz, x[m] of shape (n, B, *shape_m), and OUT/<m>.png for images.

    Raises ValueError, before anything is written, for names the model does not know and files that
    do not fit.
    """
    found = load(run)
    use_sampler(found.model, sampler)
    modalities = {m.name: m for m in found.modalities}
    for name in (*given, *want):
        if name not in modalities:
            near = suggest(name, modalities)
            raise ValueError(
                f"The run knows no modality {name!r}, but {', '.join(modalities)}.{near}"
            )
    samples = {m: kind_of(modalities[m]).read(file, modalities[m]) for m, file in given.items()}
    batch = _batch(samples)
    targets = list(want) or [m for m in modalities if m not in given] or list(modalities)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        x = found.model.generate(batch, n, targets)
    make_directory(out)
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {m: v.numpy() for m, v in x.items()}
    np.savez(buffer, **arrays)
    write(out / "generated.npz", buffer.getvalue())
    written = ["generated.npz"]
    above = _given_pictures(batch, modalities)
    for m, values in x.items():
        modality = modalities[m]
        for name, content in kind_of(modality).files(values, modality, above).items():
            write(out / name, content)
            written.append(name)
    shapes = ", ".join(f"{m} {tuple(v.shape)}" for m, v in x.items())
    console.print(
        f"Wrote {', '.join(written)} into {out}: {shapes}.", highlight=False, soft_wrap=True
    )
    if (diagnostics := found.model.diagnostics) is not None and (warning := diagnostics.warning()):
        console.print(f"Warning: {warning}", highlight=False, soft_wrap=True)


def use_sampler(model: MultimodalVAE, name: str | None) -> None:
    """Draws subsets of two and more with the sampler `name`; None leaves the model as it is.

    Raises ValueError for an unknown sampler, or a model that needs none.
    """
    if name is None:
        return
    posterior, score = (
        model.posterior,
        model.prior.fitted if isinstance(model.prior, FittedPrior) else None,
    )
    if isinstance(posterior, JointWithDiffusion):
        score = posterior.prior.fitted
    if isinstance(score, DiffusionPrior) and isinstance(
        posterior, JointWithDiffusion | Concatenated
    ):
        score.sampler = make_sampler(name, DIFFUSIONS)
        return
    sampler = make_sampler(name)
    if not (
        isinstance(posterior, JointWithSurrogates) and isinstance(posterior.combine, SampledProduct)
    ):
        raise ValueError("This run's subsets are drawn in closed form; leave --sampler out.")
    posterior.combine.sampler = sampler


def _batch(x: Mapping[str, Tensor]) -> Batch | None:
    sizes = {m: len(v) for m, v in x.items()}
    if len(set(sizes.values())) > 1:
        counted = ", ".join(f"{m} {k}" for m, k in sizes.items())
        raise ValueError(f"The given files must hold the same number of samples, got {counted}.")
    return Batch(dict(x)) if x else None


def _given_pictures(batch: Batch | None, modalities: Mapping[str, Modality]) -> list[Tensor]:
    """What was given as rows of pictures, (B, 3, H, W) for each modality."""
    rows = []
    for m, x in batch.x.items() if batch else ():
        kind = kind_of(modalities[m])
        rows.append(kind.show(x, modalities[m], kind.span(x, modalities[m])))
    return rows
