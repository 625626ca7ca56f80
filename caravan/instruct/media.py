"""Clips and pictures as data sets name them: where each lies, and whether its header can be read. None is copied."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any, Literal

from caravan.core.errors import DataError
from caravan.media.audio import decode_audio, probe_audio
from caravan.media.image import decode_image, probe_image
from caravan.records import Media

Kind = Literal["audio", "image"]
SUFFIXES: dict[Kind, frozenset[str]] = {
    "audio": frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus"}),
    "image": frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}),
}


def kind_of(name: str) -> Kind | None:
    """What a file of this name holds."""
    suffix = Path(name).suffix.lower()
    return next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), None)


def media_of(cell: Any, folder: Path) -> Media:
    """What a media cell names: bytes, a path below `folder`, a data URL, or Hugging Face's struct of bytes and path.

    Raises:
        DataError: nothing of that kind, or a file that is not there.
    """
    if isinstance(cell, dict):
        cell = cell.get("bytes") or cell.get("path") or cell.get("url") or cell.get("data")
    if isinstance(cell, bytes) and cell:
        return Media(bytes=cell)
    if isinstance(cell, str) and cell.startswith("data:"):
        return Media(bytes=_decoded(cell.partition(",")[2]))
    if isinstance(cell, str) and cell.startswith(("http://", "https://")):
        raise DataError("media elsewhere are not fetched", expected="a file of this machine", got=cell[:80],
                        fix="download it, and give its path")  # fmt: skip
    if not isinstance(cell, str) or not cell:
        raise DataError("missing media", expected="bytes or the path of a file", got=repr(cell)[:80],
                        fix="give the medium, or take the row out")  # fmt: skip
    path = (folder / cell.removeprefix("file://")).absolute()
    if not _is_file(path):
        raise DataError("a media file is missing", expected="a file", got=str(path),
                        fix="correct the path, or name the folder of the media: `media`")  # fmt: skip
    return Media(path=str(path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def base64_media(text: Any) -> Media:
    """A medium in base64.

    Raises:
        DataError: it is not.
    """
    if not isinstance(text, str) or not text:
        raise DataError("missing media", expected="base64", got=repr(text)[:80], fix="give the medium")
    return Media(bytes=_decoded(text))


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError("not base64", expected="a medium in base64", got=str(error), fix="encode it again") from error


def look(media: Media, kind: Kind, *, whole: bool) -> None:
    """See that a medium can be used: its header, or with `whole` every sample and pixel, which takes far longer.

    Raises:
        MediaError: not an accepted format, outside the limits, cut off or corrupt.
    """
    if whole:
        (decode_audio if kind == "audio" else decode_image)(media.read())
        return
    with media.open() as stream:
        (probe_audio if kind == "audio" else probe_image)(stream)
