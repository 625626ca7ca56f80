"""Pictures: decoding to RGB, and the fit into the vision encoder's square as llama.cpp does it."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from caravan.core.errors import MediaError, MissingDependencyError

if TYPE_CHECKING:
    from PIL.Image import Image

# Named, so that Pillow never hands a file to a decoder that runs programs (EPS) or that nobody meant.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How many pixels (width times height) a picture may have."""

    max_pixels: int = 40_000_000


def decode_image(data: bytes, *, where: str = "", limits: ImageLimits | None = None) -> Image:
    """Decode a picture to RGB: upright by its EXIF orientation, transparency over white, the first frame of many.

    The size in the header is checked before any pixel is decoded.

    Raises:
        MediaError: not an accepted format, corrupt, cut off, or larger than the limit.
        MissingDependencyError: Pillow is not installed.
    """
    pil = _pillow()
    with _opened(io.BytesIO(data), pil, where, limits or ImageLimits()) as image:
        image.load()
        return as_seen(image)


def as_seen(image: Image) -> Image:
    """A picture of any mode as `decode_image` gives it."""
    pil = _pillow()
    picture = _over_white(pil.ImageOps.exif_transpose(image), pil)
    picture.info.clear()  # profiles and comments would travel on in the next file
    return picture


def probe_image(stream: BinaryIO, *, where: str = "", limits: ImageLimits | None = None) -> None:
    """See by its header that a picture can be decoded, without decoding it.

    Raises:
        MediaError: not an accepted format, or larger than the limit.
        MissingDependencyError: Pillow is not installed.
    """
    with _opened(stream, _pillow(), where, limits or ImageLimits()):
        pass


@contextlib.contextmanager
def _opened(stream: BinaryIO, pil: Any, where: str, limits: ImageLimits) -> Iterator[Image]:
    """An image of which only the header has been read; what fails meanwhile is a MediaError."""
    try:
        with pil.Image.open(stream, formats=_FORMATS) as image:
            if image.width * image.height > limits.max_pixels:
                raise _too_large(f"{image.width} x {image.height}", limits, where)
            # Pillow's decoders in Python, of BMP with run lengths: a kilobyte takes seconds, or gigabytes.
            if any(tile[0] in pil.Image.DECODERS for tile in image.tile):
                raise OSError("run-length encoded")
            yield image
    except (pil.Image.DecompressionBombError, pil.Image.DecompressionBombWarning) as error:
        # Pillow's own words: Image size (400000000 pixels) exceeds limit ...
        got = re.sub(r".*?(\d+ pixels).*", r"\1", str(error))
        raise _too_large(got, limits, where) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise MediaError(
            "the picture cannot be decoded",
            where=where or None,
            expected=f"a whole {', '.join(_FORMATS[:-1])} or {_FORMATS[-1]} file",
            got=_what(stream, error, pil),
            fix="save the picture again as PNG or JPEG",
        ) from error


def encode_png(image: Image) -> bytes:
    """A picture as a PNG file: what the engine is handed, and reads at once."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def prepare_image(image: Image, size: int, mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    """Fit an RGB picture into a black square and normalise it: float32 [3, size, size], (x / 255 - mean) / std.

    The maths is llama.cpp's for `nemotron_v2_vl`: one scale for both sides, in float32; sides rounded up; Pillow's
    antialiased bicubic; centred, the odd pixel of padding at the right and the bottom.
    """
    pil = _pillow()
    scale = np.minimum(np.float32(size) / np.float32(image.width), np.float32(size) / np.float32(image.height))
    width, height = (min(math.ceil(np.float32(side) * scale), size) for side in image.size)
    square = pil.Image.new("RGB", (size, size))
    fitted = image.resize((width, height), pil.Image.Resampling.BICUBIC)
    square.paste(fitted, ((size - width) // 2, (size - height) // 2))
    pixels_HWC = np.asarray(square, dtype=np.float32) / np.float32(255.0)
    normal_HWC = (pixels_HWC - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(normal_HWC.transpose(2, 0, 1))


def _pillow() -> Any:
    try:
        import PIL
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise MissingDependencyError("pillow", "vision", needed_for="decoding pictures") from error
    return PIL


def _over_white(image: Image, pil: Any) -> Image:
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey to 255 instead of scaling it.
        return pil.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return pil.Image.alpha_composite(pil.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _too_large(got: str, limits: ImageLimits, where: str) -> MediaError:
    return MediaError(
        "the picture is too large",
        where=where or None,
        expected=f"at most {limits.max_pixels:,} pixels",
        got=got,
        fix="scale it down",
    )


def _what(stream: BinaryIO, error: Exception, pil: Any) -> str:
    if not isinstance(error, pil.UnidentifiedImageError):
        return str(error)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return f"{size} bytes that start with {stream.read(8).hex(' ')}" if size else "nothing"
