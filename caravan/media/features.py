"""The one home of how bytes of a clip or a picture become an encoder's input, and how many tokens that makes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caravan.core.errors import MediaError
from caravan.media.audio import AudioLimits, Wave, decode_audio, log_mel_windows, wave_windows, window_count
from caravan.media.image import ImageLimits, decode_image, prepare_image

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class MediaSpec:
    """What a model's encoders take and give. A sense that the model lacks has zeros.

    Attributes:
        n_mels: mel bins of the speech encoder; 0 if it takes waves.
        audio_tokens_per_window: tokens that a 30 s window becomes.
        image_size: side of the vision encoder's square, in pixels.
        image_mean: subtracted from each of red, green and blue, on the scale 0 to 1.
        image_std: what each is divided by after that.
        image_tokens: tokens that a picture becomes.
        wave_samples: samples of a window of 30 s for a speech encoder of waves, 0 for one of spectrograms.
        wave_normalised: whether they are to have mean 0 and deviation 1.
    """

    n_mels: int = 0
    audio_tokens_per_window: int = 0
    image_size: int = 0
    image_mean: tuple[float, ...] = ()
    image_std: tuple[float, ...] = ()
    image_tokens: int = 0
    wave_samples: int = 0
    wave_normalised: bool = False

    def __post_init__(self) -> None:
        # JSON has lists only; equal specs must be equal.
        object.__setattr__(self, "image_mean", tuple(self.image_mean))
        object.__setattr__(self, "image_std", tuple(self.image_std))

    @property
    def hears(self) -> bool:
        """Whether the model takes clips."""
        return bool(self.n_mels or self.wave_samples)

    @property
    def sees(self) -> bool:
        """Whether the model takes pictures."""
        return bool(self.image_size)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a JSON file; `MediaSpec(**values)` reads them."""
        return asdict(self) | {"image_mean": list(self.image_mean), "image_std": list(self.image_std)}


def audio_features(
    data: bytes, spec: MediaSpec, *, where: str = "", limits: AudioLimits | None = None
) -> npt.NDArray[np.float32]:
    """A clip as the speech encoder takes it, one row for each window of 30 s.

    float32 [W, n_mels, 3000], or [W, wave_samples] for an encoder of waves.

    Raises:
        MediaError: the clip cannot be decoded, or the model does not hear.
    """
    _check_sense(spec.hears, "hear", where)
    return wave_features(decode_audio(data, where=where, limits=limits), spec)


def wave_features(wave: Wave, spec: MediaSpec) -> npt.NDArray[np.float32]:
    """`audio_features` of a clip that is decoded."""
    _check_sense(spec.hears, "hear", "")
    if spec.wave_samples:
        return wave_windows(wave, spec.wave_samples, spec.wave_normalised)
    return log_mel_windows(wave, spec.n_mels)


def image_features(
    data: bytes, spec: MediaSpec, *, where: str = "", limits: ImageLimits | None = None
) -> npt.NDArray[np.float32]:
    """A picture as the vision encoder takes it: float32 [3, image_size, image_size].

    Raises:
        MediaError: the picture cannot be decoded, or the model does not see.
    """
    _check_sense(spec.sees, "see", where)
    return picture_features(decode_image(data, where=where, limits=limits), spec)


def picture_features(image: Image, spec: MediaSpec) -> npt.NDArray[np.float32]:
    """`image_features` of a picture that is decoded."""
    _check_sense(spec.sees, "see", "")
    return prepare_image(image, spec.image_size, spec.image_mean, spec.image_std)


def audio_token_count(clip: bytes | int, spec: MediaSpec) -> int:
    """How many tokens a clip becomes: an encoded clip, or a number of samples at 16 kHz."""
    samples = clip if isinstance(clip, int) else decode_audio(clip).size
    return window_count(samples) * spec.audio_tokens_per_window


def _check_sense(has: bool, verb: str, where: str) -> None:
    if not has:
        raise MediaError(
            f"this model does not {verb}",
            where=where or None,
            expected="text alone",
            got="a clip" if verb == "hear" else "a picture",
            fix=f"use a model that was aligned with a {'speech' if verb == 'hear' else 'vision'} encoder",
        )
