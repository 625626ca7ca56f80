"""What a config says of a model's media, and configs that do not hold together."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig, CLIPVisionConfig, LlamaConfig, SiglipVisionConfig, WhisperConfig

from caravan.core.errors import ModelError
from caravan.media.features import MediaSpec
from caravan.models.backbone import CaravanModel
from caravan.models.config import CaravanConfig, media_spec
from tests.models.conftest import VISION, WHISPER

TEXT = LlamaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
EARS: dict[str, Any] = {
    "speech_config": WhisperConfig(**WHISPER, num_mel_bins=128),
    "speech_projector": {"name": "stack", "stack": 10},
    "audio_token_id": 7,
}
EYES: dict[str, Any] = {
    "vision_config": CLIPVisionConfig(**VISION),
    "vision_projector": {"name": "pixel_shuffle", "scale": 2},
    "image_token_id": 10,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


def config(**parts: Any) -> CaravanConfig:
    return CaravanConfig(text_config=TEXT, **parts)


@pytest.mark.parametrize(
    ("parts", "spec"),
    [
        ({}, MediaSpec()),
        (EARS, MediaSpec(n_mels=128, audio_tokens_per_window=150)),
        (EYES, MediaSpec(image_size=28, image_tokens=4, image_mean=(0.5,) * 3, image_std=(0.5,) * 3)),
        (EARS | EYES, MediaSpec(128, 150, 28, (0.5,) * 3, (0.5,) * 3, 4)),
        (EARS | {"speech_projector": {"name": "linear", "stack": 300}}, MediaSpec(128, 5)),
    ],
    ids=["text", "ears", "eyes", "both", "linear"],
)
def test_media_spec(parts: dict[str, Any], spec: MediaSpec) -> None:
    assert MediaSpec(**media_spec(config(**parts))) == spec


def test_plain_text_model_has_an_empty_spec() -> None:
    assert MediaSpec(**media_spec(TEXT)) == MediaSpec()


def test_siglip_counts_every_patch() -> None:
    parts = EYES | {"vision_config": SiglipVisionConfig(**VISION), "vision_projector": {"name": "mlp"}}
    assert media_spec(config(**parts))["image_tokens"] == 16


def test_round_trip_with_absent_senses(tmp_path: Any) -> None:
    config(**EARS).save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, CaravanConfig)
    assert loaded.vision_config is None
    assert isinstance(loaded.speech_config, WhisperConfig)
    assert loaded.speech_projector == {"name": "stack", "stack": 10}


def test_ties_as_the_text_model_does() -> None:
    tied = LlamaConfig(**(TEXT.to_dict() | {"tie_word_embeddings": True}))
    assert CaravanConfig(text_config=tied).tie_word_embeddings
    assert not config().tie_word_embeddings


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (EARS | {"speech_projector": {"name": "stack", "stack": 8}}, "does not divide"),
        (EARS | {"speech_projector": None}, "no such speech projector"),
        (EYES | {"vision_projector": {"name": "pixel_shuffle", "scale": 3}}, "do not fall into squares"),
    ],
)
def test_projector_that_does_not_fit(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        CaravanModel(config(**parts))


def test_eyes_without_the_pixels_scale() -> None:
    with pytest.raises(ModelError, match="lacks the pixels' mean and deviation"):
        media_spec(config(**EYES | {"image_mean": None}))
