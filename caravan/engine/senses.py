"""How many tokens a clip and a picture take, as the mmproj file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# Whisper's encoder gives so many frames for 30 seconds.
WINDOW_FRAMES = 1500


def media_tokens(mmproj: Path | None) -> dict[str, int]:
    """Tokens of 30 seconds of sound and of a picture; 0 where the projector is none that Caravan exports."""
    if mmproj is None:
        return {"window_tokens": 0, "picture_tokens": 0}
    from gguf import GGUFReader

    reader = GGUFReader(mmproj)

    def read(name: str) -> Any:
        field = reader.get_field(f"clip.{name}")
        return field.contents() if field else None

    window = picture = 0
    if read("audio.projector_type") == "ultravox":
        window = WINDOW_FRAMES // read("audio.projector.stack_factor")
    if read("vision.projector_type") == "nemotron_v2_vl":
        side = read("vision.image_size") // read("vision.patch_size") // read("vision.projector.scale_factor")
        picture = side * side
    return {"window_tokens": window, "picture_tokens": picture}
