"""PolyMNIST: any number of modalities, each with MNIST's digits over a different background."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from polymodal.batch import Modality
from polymodal.checks import FilePath
from polymodal.data.dataset import Dataset
from polymodal.data.digits import hold_out, match
from polymodal.data.kinds.pixels import colour
from polymodal.data.readers.digits import Part, idx_digits
from polymodal.data.readers.files import data_folder, find
from polymodal.data.readers.pictures import colours, read_picture
from polymodal.data.splits import Splits

SIDE = 28
INK = 128  # MNIST's pixels above it belong to the digit, as in the code of Sutter et al. (2021)
TEXTURE = 256  # the side of a texture
PHOTOS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def polymnist(
    *,
    path: FilePath | None = None,
    views: int = 5,
    backgrounds: str | list[str] | None = None,
    photos: bool = True,
    val: float = 0.1,
    limit: int | None = None,
    seed: int = 0,
) -> Splits:
    """PolyMNIST (Sutter et al. 2021): digits of one label, modality m over crops of photograph m.

    `views` modalities m0, m1, ... (5 in the paper, 10 in the extended version) of shape (3, 28,
    28), uint8. In each modality a tuple holds a different MNIST image of one label, over a 28 x 28
    crop at a random place of the modality's background; the crop's colours are inverted where MNIST
    is above 128. Every MNIST image occurs once in each modality, so that there are 54,000, 6,000
    and 10,000 tuples: `val` is the share of the training images held out for validation, so that no
    image is in two parts. `limit` makes only the first tuples of each part, the same as without it.
    The likelihood is the papers' Laplace of scale .75, here around a sigmoid as for other images
    (decoders in their code end without one: `modalities: {m0: {link: identity}, ...}`).

    The paper's photographs do not come with this package, so that figures differ from the paper's;
    `polymnist-released` reads the authors' own files.
    The backgrounds are, in this order:

    - `backgrounds`, if given: a folder of image files (in the order of their names) or a list of
      them, in their full size;
    - otherwise, unless `photos` is false, the files in the folder `backgrounds` beside the data, if
      there is one;
    - built-in textures for the remaining modalities (see `texture`). The k-th never changes.

    Raises ValueError for fewer than two views, files that are no images or smaller than 28 x 28,
    `backgrounds` with too few, or MNIST files that are absent or damaged.
    """
    _check_sizes(views, val, limit)
    if backgrounds is not None and not photos:
        raise ValueError("Give backgrounds, or photos: false for textures only, not both.")
    scenes = _scenes(views, _photos(path, backgrounds, views) if photos else [])
    digits = hold_out(idx_digits("mnist", path), val)

    def part(k: int, which: str) -> Dataset:
        generator = torch.Generator().manual_seed(3 * seed + k)
        return _composed(digits[which], scenes, limit, generator)

    return Splits(part(0, "train"), part(1, "val"), part(2, "test"), "polymnist")


def view(name: str) -> Modality:
    """One modality: Laplace of scale .75 around a sigmoid."""
    return Modality(name, (3, SIDE, SIDE), "laplace", scale=0.75, link="sigmoid")


def _check_sizes(views: int, val: float, limit: int | None) -> None:
    if views < 2 or not 0 < val < 1 or (limit is not None and limit < 1):
        raise ValueError(
            f"polymnist needs views >= 2, 0 < val < 1 and limit >= 1, got views {views}, val {val}"
            f" and limit {limit}."
        )


def _composed(
    digits: Part, scenes: Sequence[Tensor], limit: int | None, generator: torch.Generator
) -> Dataset:
    """The first `limit` tuples of one part: digits matched by label, each over its background."""
    images, labels = digits
    matched = match([labels] * len(scenes), generator, per_label=len(labels), times=1)
    rows = [r[:limit] for r in matched]
    ink = images[:, 0] > INK
    tables = {
        f"m{k}": _over(ink, rows[k], scene, len(labels), generator)
        for k, scene in enumerate(scenes)
    }
    modalities = [view(m) for m in tables]
    return Dataset(modalities, tables, label=labels[rows[0]])


def _over(
    ink: Tensor, rows: Tensor, scene: Tensor, total: int, generator: torch.Generator
) -> Tensor:
    """Crops of the scene, inverted at the ink of the digits `rows`: (len(rows), 3, 28, 28) uint8,
    channels-last.

    The places of all `total` crops are drawn, so that the first crops do not depend on the number
    of rows.
    """
    # A view of shape (y, x, 28, 28, 3).
    windows = scene.unfold(0, SIDE, 1).unfold(1, SIDE, 1).permute(0, 1, 3, 4, 2)
    y, x = (torch.randint(n, (total,), generator=generator)[: len(rows)] for n in windows.shape[:2])
    crops = windows[y, x]
    crops ^= ink[rows, :, :, None] * torch.tensor(255, dtype=torch.uint8)  # 255 - crop
    return crops.permute(0, 3, 1, 2)


def _photos(
    path: FilePath | None,
    backgrounds: FilePath | Sequence[str] | None,
    views: int,
) -> list[Path]:
    """The image files: at least `views` that the user names; else those in the data folder, if any.

    Raises ValueError for a folder that does not exist, or too few files.
    """
    if backgrounds is None:
        return _image_files(find(data_folder(path), ["."], "backgrounds"))
    if isinstance(backgrounds, str | os.PathLike):
        folder = Path(backgrounds).expanduser()
        if not folder.is_dir():
            raise ValueError(
                f"There is no folder {backgrounds}; give one that holds image files, or a list of"
                " those."
            )
        files = _image_files(folder)
    else:
        files = [Path(file).expanduser() for file in backgrounds]
    if len(files) < views:
        raise ValueError(
            f"{views} views need as many backgrounds, got {len(files)}"
            f" ({', '.join(f.name for f in files)}); add image files ({' '.join(PHOTOS)}), or lower"
            " views."
        )
    return files


def _image_files(folder: Path | None) -> list[Path]:
    """The image files in a folder, by name; none if it does not exist."""
    if folder is None or not folder.is_dir():
        return []
    return [file for file in sorted(folder.iterdir()) if file.suffix.lower() in PHOTOS]


def _scenes(views: int, photos: Sequence[Path]) -> list[Tensor]:
    """A background (H, W, 3) uint8 for each view: photographs first, then textures."""
    scenes = [_photo(file) for file in photos[:views]]
    return scenes + [texture(k) for k in range(views - len(scenes))]


def _photo(file: Path) -> Tensor:
    """An image file as (H, W, 3) uint8."""
    pixels = torch.from_numpy(colours(read_picture(file, file)).copy())
    if min(pixels.shape[:2]) < SIDE:
        raise ValueError(
            f"{file} has {pixels.shape[1]} x {pixels.shape[0]} pixels; a background needs at least"
            f" {SIDE} x {SIDE}, and many more for crops that differ."
        )
    return pixels


def _noise(power: float, along: float, turn: float, generator: torch.Generator) -> Tensor:
    """Normal noise whose spectrum falls as f^-power, stretched `along` times in the direction
    `turn`; periodic.
    """
    f = torch.fft.fftfreq(TEXTURE, dtype=torch.float64)
    v, u = f[:, None], f[None, :]
    cos, sin = math.cos(turn), math.sin(turn)
    radius = ((u * sin - v * cos).square() + (u * cos + v * sin).square() * along**2).sqrt()
    white = torch.fft.fft2(torch.randn(TEXTURE, TEXTURE, generator=generator, dtype=torch.float64))
    field = torch.fft.ifft2(white / radius.clamp_min(1 / TEXTURE) ** power).real
    return (field - field.mean()) / field.std()


def texture(k: int) -> Tensor:
    """The k-th built-in background, (256, 256, 3) uint8: noise like clouds, bark or sand.

    Two fields of filtered normal noise, one of broad shapes and one of detail, with grain and
    direction that change with k, choose among three colours (dark, full, light) around one of ten
    hues. It does not depend on the data's seed.
    """
    generator = torch.Generator().manual_seed(k)
    turn, along = math.pi * (0.382 * k % 1), (1.0, 4.0, 8.0, 2.0)[k % 4]
    shape = _noise((2.0, 1.5, 1.2)[k % 3], along, turn, generator)
    detail = _noise((0.7, 1.0, 0.85)[k % 3], along, turn, generator)
    hue = 0.3 * k
    dark = colour(hue + 0.08, 0.8, 0.15)
    full = colour(hue, 0.9, 0.6)
    light = colour(hue - 0.1, 0.5, 0.95)
    t = torch.special.ndtr(0.8 * shape + 0.6 * detail)[..., None]  # uniform on [0, 1]
    colours = torch.where(t < 0.5, dark.lerp(full, 2 * t), full.lerp(light, 2 * t - 1))
    return (255 * colours).round().to(torch.uint8)
