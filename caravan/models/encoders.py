"""What can be heard and seen with: a table of encoders for each sense, by transformers' name of their kind."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    HubertModel,
    PreTrainedModel,
    SiglipVisionModel,
    Wav2Vec2Model,
    WavLMModel,
    WhisperModel,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

WHISPER = "whisper"
# Encoders that take samples where Whisper takes a spectrogram.
WAVES: dict[str, type[PreTrainedModel]] = {"wav2vec2": Wav2Vec2Model, "hubert": HubertModel, "wavlm": WavLMModel}
WHISPER_POSITIONS = 1500
WINDOW_SAMPLES = 480_000  # 30 s at 16 kHz
# LLaSM's projector reads what Whisper's decoder makes of this many start tokens.
DECODER_STATES = 64


@dataclass(frozen=True)
class VisionKind:
    """One row of `VISION`.

    Attributes:
        module: transformers' class of the encoder alone.
        mean: of the pixels, on the scale 0 to 1, where a folder has no preprocessor_config.json.
        std: their deviation, likewise.
        stretches: whether it takes pictures of another size than its own, its positions interpolated.
    """

    module: type[PreTrainedModel]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stretches: bool = False


_CLIP = VisionKind(CLIPVisionModel, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_SIGLIP = VisionKind(SiglipVisionModel, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# SigLIP 2 of fixed size is `siglip` to transformers.
VISION: dict[str, VisionKind] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": VisionKind(Dinov2Model, *_IMAGENET, stretches=True),
    "dinov2_with_registers": VisionKind(Dinov2WithRegistersModel, *_IMAGENET, stretches=True),
}


def new_speech_encoder(config: Any, decoder: bool) -> PreTrainedModel:
    """A speech encoder of this config, at random; with `decoder`, Whisper's stays with it."""
    if config.model_type in WAVES:
        return WAVES[config.model_type](config)
    return WhisperModel(config) if decoder else WhisperEncoder(config)


def wave_samples(config: Any) -> int:
    """Samples of a window for an encoder of waves, or 0 for one of spectrograms.

    Its convolutions lose some samples at the edges: a window has so many more than 30 s that it gives a position for
    each of the strides in 30 s, 1500 for all kinds known, which more stack factors divide than 1499.
    """
    if config.model_type not in WAVES:
        return 0
    samples = WINDOW_SAMPLES // prod(config.conv_stride)
    for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
        samples = (samples - 1) * stride + kernel
    return int(samples)


def speech_positions(config: Any, decoder: bool) -> int:
    """States of a window of 30 s."""
    if decoder:
        return DECODER_STATES
    if config.model_type in WAVES:
        return int(WINDOW_SAMPLES // prod(config.conv_stride))
    return int(config.max_source_positions)


def hear(encoder: nn.Module, input_features: Tensor) -> Tensor:
    """States of windows: from [A, n_mels, 3000], or [A, samples] for an encoder of waves, to [A, P, d].

    Where the encoder was trained to leave padding out (wav2vec 2.0's large models), the zeros at the end are left out.
    """
    weight = next(encoder.parameters())
    inputs = input_features.to(weight.device, weight.dtype)
    if isinstance(encoder, WhisperEncoder):
        states: Tensor = encoder(inputs).last_hidden_state
    elif isinstance(encoder, WhisperModel):
        start = int(encoder.config.decoder_start_token_id)
        ids = torch.full((len(inputs), DECODER_STATES), start, device=weight.device)
        states = encoder(input_features=inputs, decoder_input_ids=ids, use_cache=False).last_hidden_state
    else:
        config: Any = encoder.config
        mask = sounding(inputs) if config.feat_extract_norm == "layer" else None
        states = encoder(inputs, attention_mask=mask).last_hidden_state
    return states


def sounding(wave_AN: Tensor) -> Tensor:
    """Ones up to each row's last sample that is not zero [A, N]."""
    return wave_AN.ne(0).flip(1).cumsum(1).gt(0).flip(1).long()
