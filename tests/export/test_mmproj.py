"""Encoders and projectors without an exact form in llama.cpp are refused, with the names of those that have one."""

from __future__ import annotations

import pytest
from transformers import CLIPVisionConfig, SiglipVisionConfig, WhisperConfig

from caravan.core.errors import ExportError
from caravan.export.mmproj import EXACT, check_senses
from caravan.models.config import CaravanConfig
from caravan.models.projectors import PROJECTORS

HEARS = {"speech_config": WhisperConfig(), "speech_projector": {"name": "stack"}}
SEES = {"vision_config": CLIPVisionConfig(), "vision_projector": {"name": "pixel_shuffle"}}


def test_the_exact_ones_have_a_form_in_the_table_of_projectors() -> None:
    for sense, projectors in EXACT.items():
        for name in projectors:
            form = PROJECTORS[name].gguf
            assert form is not None
            assert form.sense == sense


@pytest.mark.parametrize("parts", [{}, HEARS, SEES, HEARS | SEES])
def test_any_of_the_senses(parts: dict[str, object]) -> None:
    check_senses(CaravanConfig(**parts), "folder")


@pytest.mark.parametrize(
    ("parts", "expected", "got"),
    [
        (HEARS | {"speech_projector": {"name": "mlp"}}, "stack over whisper", "mlp over whisper"),
        (HEARS | {"speech_projector": {"name": "linear"}}, "stack over whisper", "linear over whisper"),
        (SEES | {"vision_projector": {"name": "mlp"}}, "pixel_shuffle over clip_vision_model", "mlp over clip"),
        (SEES | {"vision_config": SiglipVisionConfig()}, "pixel_shuffle over clip_vision_model", "over siglip"),
        (SEES | {"vision_config": CLIPVisionConfig(hidden_act="gelu")}, "quick_gelu or gelu_pytorch_tanh", "gelu"),
        (HEARS | {"speech_config": WhisperConfig(activation_function="relu")}, "activation gelu", "relu"),
    ],
)
def test_what_has_no_exact_form(parts: dict[str, object], expected: str, got: str) -> None:
    with pytest.raises(ExportError, match=rf"cannot be exported exactly\n.*{expected}\n.*{got}"):
        check_senses(CaravanConfig(**parts), "folder")
