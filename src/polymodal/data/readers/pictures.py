"""Picture files, scaled by the range of their type."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from polymodal.checks.files import regular
from polymodal.data.readers.files import DamageError, reading

MAX_PIXELS = 50_000_000
TOO_LARGE = f"it has more than {MAX_PIXELS:,} pixels"
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM")
BYTES = ("L", "RGB")  # modes with 8 bits a channel
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")  # modes with transparency
GREY = ("1", "L", "LA", "La", "F", "I")  # and all 16-bit modes
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".ppm", ".pgm")
CONVERTED = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB"}
QUALITY = {"quality": 95}  # of JPEG files
REMEDY = "give one grey or colour picture as .png or .jpg"


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its name.

    >>> is_picture(Path("a.JPG")), is_picture(Path("a.csv")), is_picture(Path("._a.jpg"))
    (True, False, False)
    """
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_picture(
    source: Path | IO[bytes], name: str | Path, over_white: bool = False
) -> np.ndarray:
    """A picture (H, W) or (H, W, 3) as it is seen (turned as its camera says): bytes, 16-bit whole
    numbers, or float32 in [0, 1]; see `shares`. Palettes become colours.

    Args:
        name: what the sentence calls it.
        over_white: lay transparent pixels over white; else they are refused.

    Raises ValueError for files that are damaged or of another format, for several frames,
    transparency, 32-bit whole numbers, floats outside [0, 1], or more than 50 million pixels.
    """
    from PIL import ImageOps

    with _opened(source, name) as image:
        _check(image, over_white)
        turned = ImageOps.exif_transpose(image)
        return _pixels(_on_white(turned) if _is_transparent(turned) else turned)


def picture_header(source: Path) -> tuple[int, int, bool]:
    """Height and width of a picture as it is stored, and whether it is grey, by its header.

    Raises ValueError for files whose header is damaged or of another format.
    """
    with _opened(source, source) as image:
        is_grey = image.mode in GREY or image.mode.startswith("I;16")
        return image.height, image.width, is_grey


@contextmanager
def _opened(source: Path | IO[bytes], name: str | Path) -> Iterator[Any]:
    """The picture in a file; inside, every error is a ValueError in one sentence."""
    from PIL import Image

    if isinstance(source, Path):
        regular(source)
    with reading(name, REMEDY), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes, which `_check` bounds, and damaged remarks
        try:
            image = Image.open(source, formats=FORMATS)
        except Image.DecompressionBombError:
            raise DamageError(TOO_LARGE, "make it smaller") from None
        except Image.UnidentifiedImageError:
            raise DamageError("it is no picture of a format that is read") from None
        with image:
            yield image


def _check(image: Any, over_white: bool) -> None:
    """Raises `DamageError` for a picture of another kind, by its header."""
    if image.width * image.height > MAX_PIXELS:
        raise DamageError(TOO_LARGE, "make it smaller")
    if getattr(image, "is_animated", False):
        raise DamageError("it has several frames", "give one of them as .png")
    if _is_transparent(image) and not over_white:
        raise DamageError("it has transparent pixels", "put it on a background and leave alpha out")


def _is_transparent(image: Any) -> bool:
    return image.mode in ALPHA or "transparency" in image.info


def _on_white(image: Any) -> Any:
    """The picture over white, grey if it was grey."""
    from PIL import Image

    is_grey = image.mode in GREY
    shown = image.convert("RGBA")
    white = Image.new("RGBA", shown.size, "white")
    return Image.alpha_composite(white, shown).convert("L" if is_grey else "RGB")


def _pixels(image: Any) -> np.ndarray:
    if image.mode in BYTES:
        return np.asarray(image)
    if image.mode in CONVERTED:
        return np.asarray(image.convert(CONVERTED[image.mode]))
    pixels = np.asarray(image)
    if image.mode.startswith("I;16"):
        return pixels.astype(np.uint16)
    if image.mode == "F":
        if not ((pixels >= 0) & (pixels <= 1)).all():
            raise DamageError("its floating-point values are not in [0, 1]", "scale them")
        return pixels
    raise DamageError("it holds whole numbers of 32 bits or colours of another kind")


def shares(pixels: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1], by the range of their type: 255, 65535 or 1.

    >>> shares(np.array([0, 51], np.uint8)), shares(np.array([13107], np.uint16))
    (array([0. , 0.2], dtype=float32), array([0.2], dtype=float32))
    """
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    return pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)


def resized(pixels: np.ndarray, size: tuple[int, int, int], crop: bool = False) -> np.ndarray:
    """Pixels as bytes of another size (C, H, W), with C of 1 or 3: an array (H, W, C).

    Args:
        crop: cut the middle out instead of changing the shares of the sides.
    """
    from PIL import Image, ImageOps

    channels, height, width = size
    if pixels.dtype != np.uint8:
        pixels = (shares(pixels) * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):  # with antialiasing
        method = Image.Resampling.BICUBIC
        image = (
            ImageOps.fit(image, (width, height), method)
            if crop
            else image.resize((width, height), method)
        )
    return np.asarray(image).reshape(height, width, channels)


def picture_bytes(x: Tensor, suffix: str, size: tuple[int, int] | None = None) -> bytes:
    """A picture (C, H, W) of shares in [0, 1], C of 1 or 3, as a file of the format of a suffix of
    SUFFIXES; size: its height and width, if they are others.
    """
    from PIL import Image

    pixels = (x.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    image = Image.fromarray(pixels.movedim(0, -1).squeeze(-1).numpy())
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BICUBIC)
    content = io.BytesIO()
    kind = Image.registered_extensions()[suffix.lower()]
    image.save(content, kind, **(QUALITY if kind == "JPEG" else {}))
    return content.getvalue()


def colours(pixels: np.ndarray) -> np.ndarray:
    """Pixels as colours (H, W, 3) of 8 bits."""
    if pixels.dtype != np.uint8:
        pixels = (shares(pixels) * 255).round().astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)
