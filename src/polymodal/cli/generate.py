"""`polymodal generate`: samples in files, given and generated."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from polymodal.batch import Batch, Modality
from polymodal.checks import suggest
from polymodal.data.readers.files import read_npz
from polymodal.diffusion.prior import DiffusionPrior
from polymodal.diffusion.registry import DIFFUSIONS
from polymodal.model import MultimodalVAE
from polymodal.posteriors.concatenated import Concatenated
from polymodal.posteriors.diffusion import JointWithDiffusion
from polymodal.posteriors.joint import JointWithSurrogates, SampledProduct
from polymodal.priors import FittedPrior
from polymodal.report.plots import as_images, mosaic, png
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
    batch = _batch({name: read_sample(file, modalities[name]) for name, file in given.items()})
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
    for m, values in x.items():
        if len(modalities[m].shape) == 3:
            write(out / f"{m}.png", picture(values, batch))
            written.append(f"{m}.png")
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


def read_sample(file: Path, modality: Modality) -> Tensor:
    """One or more samples (B, *shape) of a modality from an .npy, .npz or image file.

    Raises ValueError for a file that is absent, damaged or of another shape, and for values outside
    the modality's.
    """
    if not file.is_file():
        raise ValueError(f"There is no file {file}.")
    x = _fit(_array(file, modality.name), modality, file)
    if not x.isfinite().all():
        bad = int((~x.isfinite()).sum())
        raise ValueError(
            f"{file} has {bad} values that are NaN or infinite; repair or drop those samples."
        )
    if (modality.link == "sigmoid" or modality.likelihood == "bernoulli") and (
        x.min() < 0 or x.max() > 1
    ):
        raise ValueError(
            f"{file} has values from {x.min():.3g} to {x.max():.3g}, but {modality.name!r} has"
            " values in [0, 1]; rescale them (bytes are read as x / 255)."
        )
    return x


def _array(file: Path, name: str) -> np.ndarray:
    suffix = file.suffix.lower()
    if suffix == ".npz":
        arrays = read_npz(file)
        if name not in arrays and len(arrays) != 1:
            raise ValueError(
                f"{file} holds {', '.join(arrays) or 'nothing'}; name the array {name!r}."
            )
        return arrays[name] if name in arrays else next(iter(arrays.values()))
    if suffix == ".npy":
        try:
            return np.load(file, allow_pickle=False)
        except (ValueError, EOFError, OSError):
            raise ValueError(
                f"{file} is damaged or holds no numbers; write it with numpy.save."
            ) from None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB" if image.mode not in ("L", "1") else "L"))
    except (UnidentifiedImageError, OSError):
        raise ValueError(
            f"{file} is no image that can be read; give an .npy, .npz or .png file."
        ) from None


def _fit(x: np.ndarray, modality: Modality, file: Path) -> Tensor:
    """The array as (B, *shape), bytes of images as shares, channels in front, colour made grey
    where grey is wanted.
    """
    if x.dtype.kind not in "biuf" or not x.size:
        raise ValueError(
            f"{file} must hold numbers, and at least one sample, got {x.dtype} of shape {x.shape}."
        )
    values = torch.from_numpy(np.array(x)).float()  # a copy: an image is read-only
    if x.dtype == np.uint8 and modality.link == "sigmoid":
        values = values / 255
    shape = modality.shape
    if len(shape) == 3:
        values = _as_image(values, shape)
    if tuple(values.shape) == shape:
        values = values[None]
    if tuple(values.shape[1:]) != shape:
        sizes = ", ".join(map(str, shape))
        raise ValueError(
            f"{modality.name!r} must have shape ({sizes}) or (B, {sizes}), but {file} holds"
            f" {x.shape}."
        )
    return values


def _as_image(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    channels, *size = shape
    if (
        list(values.shape[-2:]) == size
        and channels == 1
        and (values.dim() == 2 or values.shape[-3] != 1)
    ):
        return values.unsqueeze(-3)
    if list(values.shape[-3:-1]) == size and values.shape[-1] in (1, 3):
        values = values.movedim(-1, -3)
        return (
            values.mean(-3, keepdim=True)
            if channels == 1
            else values.expand(*values.shape[:-3], channels, *size)
        )
    return values


def picture(values: Tensor, batch: Batch | None, most: int = 16, scale: int = 3) -> bytes:
    """A PNG of draws (n, B, C, H, W): below what was given, or in a square if nothing was.

    At most `most` given samples and draws are shown.
    """
    if batch is None:
        draws = values[: most * most, 0]
        return png(mosaic(draws.split(math.ceil(math.sqrt(len(draws))))), scale)
    rows = [as_images(x[:most], float(x.min()), float(x.max())) for x in batch.x.values()]
    return png(mosaic([*rows, *values[:most, :most]], apart=len(rows)), scale)
