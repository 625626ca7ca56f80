"""Bytes to encoder inputs and token counts; and that none of it needs torch."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from caravan.core.errors import MediaError
from caravan.media.audio import encode_wav, levelled, log_mel
from caravan.media.features import MediaSpec, audio_features, audio_token_count, image_features
from caravan.media.image import encode_png, prepare_image

SPEC = MediaSpec(80, 150, 28, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 4)


def clip(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(round(seconds * 16_000)) * 0.1)).astype(np.float32)


def test_clip_to_windows() -> None:
    features = audio_features(encode_wav(clip(1.0)), SPEC)
    assert features.shape == (1, 80, 3000)
    np.testing.assert_allclose(features[0], log_mel(levelled(clip(1.0))), atol=0.02)
    assert audio_features(encode_wav(clip(31.0)), SPEC).shape == (2, 80, 3000)


@pytest.mark.parametrize(("seconds", "tokens"), [(0.5, 150), (29.9, 150), (31.0, 300), (95.0, 600)])
def test_token_count_of_samples_and_of_bytes(seconds: float, tokens: int) -> None:
    wave = clip(seconds)
    assert audio_token_count(wave.size, SPEC) == tokens
    assert audio_token_count(encode_wav(wave), SPEC) == tokens
    assert len(audio_features(encode_wav(wave), SPEC)) * SPEC.audio_tokens_per_window == tokens


def test_picture_to_square() -> None:
    image = Image.new("RGB", (40, 20), (255, 128, 0))
    features = image_features(encode_png(image), SPEC)
    np.testing.assert_array_equal(features, prepare_image(image, 28, SPEC.image_mean, SPEC.image_std))


def test_spec_survives_json() -> None:
    assert MediaSpec(**json.loads(json.dumps(SPEC.to_json()))) == SPEC


def test_error_names_the_place() -> None:
    with pytest.raises(MediaError, match=r"^data\.parquet, row 3: the clip cannot be decoded"):
        audio_features(b"junk", SPEC, where="data.parquet, row 3")
    with pytest.raises(MediaError, match=r"^data\.parquet, row 3: the picture cannot be decoded"):
        image_features(b"junk", SPEC, where="data.parquet, row 3")


def test_model_without_the_sense() -> None:
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    with pytest.raises(MediaError, match="does not hear"):
        audio_features(encode_wav(clip(1.0)), MediaSpec())
    with pytest.raises(MediaError, match="does not see"):
        image_features(buffer.getvalue(), MediaSpec())


def test_needs_no_torch() -> None:
    program = "import sys, caravan.media.features; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
