"""PolyMNIST: any number of modalities, each MNIST's digits over a background of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.data.dataset import Dataset, Splits
from polymodal.data.digits import hold_out, match
from polymodal.data.readers.files import data_folder, find, idx_digits, reading

SIDE = 28
INK = 128  # digits are where MNIST is above it, as in the code of Sutter et al. (2021)
TEXTURE = 256  # the side of a texture
PHOTOS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def polymnist(
    *,
    path: str | os.PathLike[str] | None = None,
    views: int = 5,
    backgrounds: str | list[str] | None = None,
    photos: bool = True,
    val: float = 0.1,
    limit: int | None = None,
    seed: int = 0,
) -> Splits:
    """PolyMNIST (Sutter et al. 2021): digits of one label, modality m over crops of photograph m.

    `views` modalities m0, m1, ... (5 in the paper, 10 in the extended version) of shape (3, 28,
    28), uint8. A tuple holds, for each of them, another MNIST image of one label (matched anew for
    each modality), over a 28 x 28 crop of its background taken anywhere, whose colours are inverted
    where MNIST is above 128. Every MNIST image occurs once in each modality, so that there are
    54,000, 6,000 and 10,000 tuples: `val` is the share of the training images set apart for
    validation, so that no image is in two parts. With `limit` only so many tuples of each part are
    made, the same as without. The likelihood is the papers' Laplace of scale .75, here around a
    sigmoid as for other images (the decoders in their code end without one: `modalities: {m0:
    {link: identity}, ...}`).

    The paper's photographs do not come with this package, so that figures differ from its own. The
    backgrounds are, in this order:

    - `backgrounds`, where given: a folder of image files (in the order of their names) or a list of
      them, used as large as they are;
    - else, unless `photos` is false, the files in the folder `backgrounds` where the data lies, if
    there is one; - then textures, built in, for the modalities that are left (see `texture`). The
    k-th is always the same.

    Raises ValueError for fewer than two views, files that are no images or smaller than 28 x 28,
    `backgrounds` with too few, or MNIST files that are absent or damaged.
    """
    if views < 2 or not 0 < val < 1 or (limit is not None and limit < 1):
        raise ValueError(
            f"polymnist needs views >= 2, 0 < val < 1 and limit >= 1, got views {views}, val {val}"
            f" and limit {limit}."
        )
    if backgrounds is not None and not photos:
        raise ValueError("Give backgrounds, or photos: false for textures alone, not both.")
    scenes = _scenes(views, _photos(path, backgrounds, views) if photos else [])
    digits = hold_out(idx_digits("mnist", path), val)
    modalities = [
        Modality(f"m{k}", (3, SIDE, SIDE), "laplace", scale=0.75, link="sigmoid")
        for k in range(views)
    ]

    def part(k: int, which: str) -> Dataset:
        images, labels = digits[which]
        generator = torch.Generator().manual_seed(3 * seed + k)
        rows = [
            r[:limit] for r in match([labels] * views, generator, per_label=len(labels), times=1)
        ]
        ink = images[:, 0] > INK
        tables = [
            _over(ink, r, s, len(labels), generator) for r, s in zip(rows, scenes, strict=True)
        ]
        names = [m.name for m in modalities]
        return Dataset(modalities, dict(zip(names, tables, strict=True)), label=labels[rows[0]])

    return Splits(part(0, "train"), part(1, "val"), part(2, "test"), "polymnist")


def _over(
    ink: Tensor, rows: Tensor, scene: Tensor, total: int, generator: torch.Generator
) -> Tensor:
    """Crops of the scene, inverted at the ink of the digits `rows`: (len(rows), 3, 28, 28) uint8,
    channels-last.

    The places of all `total` crops are drawn, so that the first ones do not depend on how many are
    made.
    """
    windows = (
        scene.unfold(0, SIDE, 1).unfold(1, SIDE, 1).permute(0, 1, 3, 4, 2)
    )  # (y, x, 28, 28, 3), a view
    y, x = (torch.randint(n, (total,), generator=generator)[: len(rows)] for n in windows.shape[:2])
    crops = windows[y, x]
    crops ^= ink[rows, :, :, None] * torch.tensor(255, dtype=torch.uint8)  # 255 - crop
    return crops.permute(0, 3, 1, 2)


def _photos(
    path: str | os.PathLike[str] | None,
    backgrounds: str | os.PathLike[str] | Sequence[str] | None,
    views: int,
) -> list[Path]:
    """The image files: those the user names, at least `views`; else those in the data folder,
    perhaps none.
    """
    if isinstance(backgrounds, str | os.PathLike) or backgrounds is None:
        folder = (
            find(data_folder(path), ["."], "backgrounds")
            if backgrounds is None
            else Path(backgrounds)
        )
        if backgrounds is not None and not Path(backgrounds).expanduser().is_dir():
            raise ValueError(
                f"There is no folder {backgrounds}; give one that holds image files, or a list of"
                " those."
            )
        inside = sorted(folder.expanduser().iterdir()) if folder and folder.is_dir() else []
        found = [file for file in inside if file.suffix.lower() in PHOTOS]
    else:
        found = [Path(file).expanduser() for file in backgrounds]
    if backgrounds is not None and len(found) < views:
        raise ValueError(
            f"{views} views need as many backgrounds, got {len(found)}"
            f" ({', '.join(f.name for f in found)}); add image files ({' '.join(PHOTOS)}), or lower"
            " views."
        )
    return found


def _scenes(views: int, photos: Sequence[Path]) -> list[Tensor]:
    scenes = [_photo(file) for file in photos[:views]]
    return scenes + [texture(k) for k in range(views - len(scenes))]


def _photo(file: Path) -> Tensor:
    """An image file as (H, W, 3) uint8."""
    from PIL import Image

    with reading(file, "give a photograph as .png or .jpg"):
        try:
            with Image.open(file) as image:
                pixels = torch.from_numpy(np.array(image.convert("RGB")))
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error
    if min(pixels.shape[:2]) < SIDE:
        raise ValueError(
            f"{file} has {pixels.shape[1]} x {pixels.shape[0]} pixels; a background needs at least"
            f" {SIDE} x {SIDE}, and many more for crops that differ."
        )
    return pixels


def _noise(power: float, along: float, turn: float, generator: torch.Generator) -> Tensor:
    """Normal noise whose spectrum falls as f^-power, drawn out `along` times in the direction
    `turn`; periodic.
    """
    f = torch.fft.fftfreq(TEXTURE, dtype=torch.float64)
    v, u = f[:, None], f[None, :]
    across = (u * math.sin(turn) - v * math.cos(turn)).square()
    radius = (across + (u * math.cos(turn) + v * math.sin(turn)).square() * along**2).sqrt()
    white = torch.fft.fft2(torch.randn(TEXTURE, TEXTURE, generator=generator, dtype=torch.float64))
    field = torch.fft.ifft2(white / radius.clamp_min(1 / TEXTURE) ** power).real
    return (field - field.mean()) / field.std()


def texture(k: int) -> Tensor:
    """The k-th built-in background, (256, 256, 3) uint8: noise as of clouds, bark or sand in
    colours of its own.

    Two fields of filtered normal noise, one of broad shapes and one of detail, whose grain and
    direction change with k, choose among three colours (dark, full, light) around a hue of which
    there are ten. Nothing in it depends on the data's seed.
    """
    generator = torch.Generator().manual_seed(k)
    turn, along = math.pi * (0.382 * k % 1), (1.0, 4.0, 8.0, 2.0)[k % 4]
    shape = _noise((2.0, 1.5, 1.2)[k % 3], along, turn, generator)
    detail = _noise((0.7, 1.0, 0.85)[k % 3], along, turn, generator)
    hue = 0.3 * k
    dark, full, light = (
        _colour(hue + 0.08, 0.8, 0.15),
        _colour(hue, 0.9, 0.6),
        _colour(hue - 0.1, 0.5, 0.95),
    )
    t = torch.special.ndtr(0.8 * shape + 0.6 * detail)[..., None]  # uniform on [0, 1]
    colours = torch.where(t < 0.5, dark.lerp(full, 2 * t), full.lerp(light, 2 * t - 1))
    return (255 * colours).round().to(torch.uint8)


def _colour(hue: float, saturation: float, value: float) -> Tensor:
    """(3,) red, green, blue in [0, 1]."""
    import colorsys

    return torch.tensor(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=torch.float64)
