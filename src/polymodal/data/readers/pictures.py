"""Picture files, scaled by the range of their type."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np

from polymodal.checks.files import regular
from polymodal.data.readers.files import DamageError, reading

MAX_PIXELS = 50_000_000
TOO_LARGE = f"it has more than {MAX_PIXELS:,} pixels"
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "PPM")
BYTES = ("L", "RGB")  # modes with 8 bits a channel
CONVERTED = {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB", "RGBX": "RGB"}
REMEDY = "give one grey or colour picture as .png or .jpg"


def read_picture(source: Path | IO[bytes], name: str | Path) -> np.ndarray:
    """A picture (H, W) or (H, W, 3) as it is seen (turned as its camera says): bytes, 16-bit whole
    numbers, or float32 in [0, 1]; see `shares`. Palettes become colours.

    Args:
        name: what the sentence calls it.

    Raises ValueError for files that are damaged or of another format, for several frames,
    transparency, 32-bit whole numbers, floats outside [0, 1], or more than 50 million pixels.
    """
    from PIL import Image, ImageOps

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
            _check(image)
            return _pixels(ImageOps.exif_transpose(image))


def _check(image: Any) -> None:
    """Raises `DamageError` for a picture of another kind, by its header."""
    if image.width * image.height > MAX_PIXELS:
        raise DamageError(TOO_LARGE, "make it smaller")
    if getattr(image, "is_animated", False):
        raise DamageError("it has several frames", "give one of them as .png")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        raise DamageError("it has transparent pixels", "put it on a background and leave alpha out")


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


def colours(pixels: np.ndarray) -> np.ndarray:
    """Pixels as colours (H, W, 3) of 8 bits."""
    if pixels.dtype != np.uint8:
        pixels = (shares(pixels) * 255).round().astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)
