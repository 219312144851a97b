"""Images as a vision tower wants them: decoded, turned, resized, cut and normalised, as each model's processor does.

    fitted   CLIP's: the shortest edge becomes the tower's size (bicubic), the middle is cut out; or LLaVA's first way:
             padded to a square in the mean colour before
    tiles    Idefics3's: the longest edge becomes `longest`, both edges whole tiles (Lanczos); the tiles row by row,
             then the whole image once more, small

Pillow decodes and resamples (the extra `images`), so that a pixel is what the processors make of it. An image comes
from anybody: its size is known before it is decoded, and limited, as is what it would be resized to.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import BadImage, DTypeError, ImageTooLarge, PillowMissing, ShapeError
from zigllama.foundation.runtime import F32
from zigllama.models.multi_modal import VisionSpec

if TYPE_CHECKING:
    from PIL.Image import Image

U8 = npt.NDArray[np.uint8]
MAX_PIXELS = 1 << 26  # of an image, and of what it is resized to: 67 million, 200 MB
MAX_SIDE = 4096  # Idefics3 enlarges nothing beyond it
# What is decoded. Pillow knows more: some it hands to other programs (EPS: Ghostscript), and an image runs nothing.
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "JPEG2000", "TGA", "ICO")


@dataclass(frozen=True)
class Tiles:
    """Tiles (n, 3, S, S) float32 and how they lie: rows x columns, then the whole image; 0 x 0: the whole alone."""

    pixels: F32
    rows: int = 0
    columns: int = 0


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise PillowMissing("images need Pillow: pip install 'zigllama[images]'") from None
    return Image


def decode(source: str | os.PathLike[str] | bytes) -> U8:
    """A file of one of FORMATS, or its bytes, as (H, W, 3) uint8, turned as its EXIF orientation says; transparency is
    dropped.

    Raises BadImage, ImageTooLarge, PillowMissing, OSError where there is no such file.
    """
    pillow = _pillow()
    from PIL import ImageOps

    name = f"{len(source)} bytes" if isinstance(source, bytes) else os.fspath(source)
    if not isinstance(source, bytes) and Path(source).exists() and not Path(source).is_file():
        raise BadImage(name, "is no regular file")
    try:
        with pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image:
            _check_size(name, *image.size)
            image.load()
            turned = ImageOps.exif_transpose(image)
            return np.array(turned.convert("RGB"), np.uint8)
    except (BadImage, FileNotFoundError, PermissionError):
        raise
    except Exception as e:  # what decoders raise for bytes that are no image is of every kind
        raise BadImage(name, f"cannot be decoded: {e}") from e


def _check_size(name: str, width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise BadImage(name, f"has {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(name, width, height, MAX_PIXELS)


def checked(image: Any) -> U8:
    """An array (H, W, 3) of bytes. Raises DTypeError, ShapeError, ImageTooLarge."""
    a = np.asarray(image)
    if a.dtype != np.uint8:
        raise DTypeError(f"an image is uint8 (H, W, 3), found {a.dtype}")
    if a.ndim != 3 or a.shape[2] != 3 or 0 in a.shape:
        raise ShapeError(f"an image is uint8 (H, W, 3), found shape {a.shape}")
    _check_size("the image", a.shape[1], a.shape[0])
    return np.ascontiguousarray(a)


def process(image: U8, spec: VisionSpec, pad: bool = False) -> Tiles:
    """What the tower gets of an image (H, W, 3). `pad`: LLaVA's padding instead of cutting out the middle."""
    if spec.longest:
        return _tiles(image, spec)
    return Tiles(normalised([_fitted(image, spec, pad)], spec))


def normalised(tiles: list[U8], spec: VisionSpec) -> F32:
    """Bytes (n, S, S, 3) -> ((x / 255 - mean) / std), (n, 3, S, S) float32, rounded as the processors round."""
    scaled = (np.stack(tiles).astype(np.float64) * (1 / 255)).astype(np.float32)
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    out: F32 = np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2), np.float32)
    return out


def _resized(image: U8, width: int, height: int, lanczos: bool = False) -> U8:
    _check_size(f"the image of {image.shape[1]} x {image.shape[0]} pixels, resized", width, height)
    pillow = _pillow()
    picture: Image = pillow.fromarray(image)
    method = pillow.Resampling.LANCZOS if lanczos else pillow.Resampling.BICUBIC
    return np.array(picture.resize((width, height), resample=method))


def _fitted(image: U8, spec: VisionSpec, pad: bool) -> U8:
    size = spec.image_size
    if pad:
        image = _padded(image, [int(x * 255) for x in spec.mean])
    height, width = image.shape[:2]
    other = int(size * max(width, height) / min(width, height))
    image = _resized(image, size, other) if width <= height else _resized(image, other, size)
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def _padded(image: U8, colour: list[int]) -> U8:
    height, width = image.shape[:2]
    side = max(height, width)
    _check_size("the image, padded to a square,", side, side)
    out = np.empty((side, side, 3), np.uint8)
    out[:] = colour
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = image
    return out


def _tiles(image: U8, spec: VisionSpec) -> Tiles:
    size = spec.image_size
    image = _resized(image, *longest_edge(image.shape[1], image.shape[0], spec.longest), lanczos=True)
    width, height = whole_tiles(image.shape[1], image.shape[0], size)
    image = _resized(image, width, height, lanczos=True)
    rows, columns = height // size, width // size
    if rows == columns == 1:
        return Tiles(normalised([image], spec))
    cut = [image[r * size : (r + 1) * size, c * size : (c + 1) * size] for r in range(rows) for c in range(columns)]
    return Tiles(normalised([*cut, _resized(image, size, size, lanczos=True)], spec), rows, columns)


def longest_edge(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height with the longer one `longest`, the other in proportion, made even."""
    aspect = width / height
    if width >= height:
        width, height = longest, int(longest / aspect)
        height += height % 2
    else:
        width, height = int(longest * aspect), longest
        width += width % 2
    return max(min(width, MAX_SIDE), 1), max(min(height, MAX_SIDE), 1)


def whole_tiles(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height rounded up to whole tiles: the longer one first, the other in proportion to it."""
    aspect = width / height
    if width >= height:
        width = math.ceil(width / size) * size
        height = math.ceil(int(width / aspect) / size) * size
    else:
        height = math.ceil(height / size) * size
        width = math.ceil(int(height * aspect) / size) * size
    return max(width, size), max(height, size)
