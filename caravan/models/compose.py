"""Make a fused model of a text model, a pretrained speech encoder and a pretrained vision encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    CLIPVisionModel,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipVisionModel,
    WhisperModel,
)
from transformers.image_processing_base import ImageProcessingMixin
from transformers.initialization import no_init_weights
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from caravan.core.errors import ModelError, TokenizerMismatchError
from caravan.models.config import CaravanConfig, projector_of
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.models.load import check_tokenizer, load_whole
from caravan.models.projectors import SENSES

SPEECH_PROJECTOR: Mapping[str, Any] = {"name": "stack", "stack": 10}
VISION_PROJECTOR: Mapping[str, Any] = {"name": "pixel_shuffle", "scale": 2}

# Of each kind of vision model that transformers knows by this name: the class, and the mean and deviation of pixels
# where a folder has no preprocessor_config.json.
_CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_SIGLIP_PIXELS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_VISION: dict[str, tuple[type[PreTrainedModel], tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "clip": (CLIPVisionModel, _CLIP_PIXELS),
    "clip_vision_model": (CLIPVisionModel, _CLIP_PIXELS),
    "siglip": (SiglipVisionModel, _SIGLIP_PIXELS),
    "siglip_vision_model": (SiglipVisionModel, _SIGLIP_PIXELS),
}


def compose(
    text: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    speech: str | Path | None = None,
    vision: str | Path | None = None,
    speech_projector: Mapping[str, Any] = SPEECH_PROJECTOR,
    vision_projector: Mapping[str, Any] = VISION_PROJECTOR,
    audio_token: str = "<|audio_pad|>",
    image_token: str = "<|image_pad|>",
) -> CaravanForConditionalGeneration:
    """Fuse a text model with encoders; projectors start at random (torch's global generator: seed it first).

    All weights are in float32, whatever the folders hold. Encoders are frozen, the rest trains.

    Args:
        text: folder or hub name of a causal language model.
        tokenizer: of the text model; has the two placeholder tokens.
        speech: folder or hub name of a Whisper model, of which the encoder is kept; None for a model without ears.
        vision: folder or hub name of a CLIP or SigLIP model, of which the vision part is kept; None for no eyes.
        speech_projector: name and options, see `PROJECTORS`.
        vision_projector: likewise.
        audio_token: the placeholder of a speech feature.
        image_token: the placeholder of a picture feature.

    Raises:
        ModelError: a part cannot be loaded, is of the wrong kind, or does not fit.
        TokenizerMismatchError: the tokenizer lacks a placeholder, or has more tokens than the text model.
    """
    language_model = load_whole(AutoModelForCausalLM.from_pretrained, text)
    parts: dict[str, Any] = {"text_config": language_model.config}
    speech_encoder = vision_encoder = None
    if speech is not None:
        speech_encoder = _speech_encoder(speech)
        parts["speech_config"] = speech_encoder.config
        parts["speech_projector"] = dict(speech_projector)
        parts["audio_token_id"] = _token_id(tokenizer, audio_token)
    if vision is not None:
        vision_encoder, parts["image_mean"], parts["image_std"] = _vision_encoder(vision)
        parts["vision_config"] = vision_encoder.config
        parts["vision_projector"] = dict(vision_projector)
        parts["image_token_id"] = _token_id(tokenizer, image_token)
    for config in parts.values():
        if isinstance(config, PreTrainedConfig):
            config.name_or_path = ""  # folders of this machine mean nothing elsewhere
    # The shell takes no memory; its parts are put in below.
    with torch.device("meta"), no_init_weights():
        model = CaravanForConditionalGeneration(CaravanConfig(**parts))
    _adopt(model, language_model, str(text))
    for encoder, sense in ((speech_encoder, "speech"), (vision_encoder, "vision")):
        if encoder is not None:
            setattr(model.model, f"{sense}_encoder", encoder.requires_grad_(False))
    with torch.no_grad():
        norm = float(torch.linalg.vector_norm(model.get_input_embeddings().weight, dim=1).mean())
        for sense in SENSES:
            projector = projector_of(model.config, sense)
            if projector is not None:
                projector.initialise(norm)
                setattr(model.model, f"{sense}_projector", projector)
    check_tokenizer(model, tokenizer, where=str(text))
    model.train(False)
    return model


def _adopt(model: CaravanForConditionalGeneration, language_model: Any, where: str) -> None:
    """Move the text model's backbone and head over, and see that the logits stay what they were."""
    head = language_model.get_output_embeddings()
    ids = torch.arange(min(8, head.weight.shape[0]))[None]
    language_model.eval()
    with torch.no_grad():
        before = language_model(ids, use_cache=False).logits
    model.model.language_model = language_model.base_model
    model.lm_head = head
    model.generation_config = GenerationConfig(**language_model.generation_config.to_diff_dict())
    with torch.no_grad():
        after = model.lm_head(model.model.language_model(ids, use_cache=False).last_hidden_state)
    if getattr(head, "bias", None) is not None or not torch.equal(before, after):
        raise ModelError(
            "this kind of text model cannot be fused",
            where=where,
            expected="logits that are one matrix times the last hidden state",
            got=f"{type(language_model).__name__}, whose head does more",
            fix="use a model such as Llama, Qwen or Mistral",
        )


def _speech_encoder(path: str | Path) -> WhisperEncoder:
    config = _config(path)
    if config.model_type != "whisper":
        raise _wrong_kind("speech encoder", "whisper", config.model_type, path)
    if config.max_source_positions != 1500:
        raise ModelError(
            "the speech encoder has another window",
            where=str(path),
            expected="1500 positions, which are 30 s",
            got=f"{config.max_source_positions}",
            fix="use a Whisper encoder with max_source_positions 1500",
        )
    return load_whole(WhisperModel.from_pretrained, path).encoder


def _vision_encoder(path: str | Path) -> tuple[PreTrainedModel, list[float], list[float]]:
    kind = _config(path).model_type
    if kind not in _VISION:
        raise _wrong_kind("vision encoder", " or ".join(_VISION), kind, path)
    model_class, (mean, std) = _VISION[kind]
    encoder = load_whole(model_class.from_pretrained, path)
    try:
        pixels, _ = ImageProcessingMixin.get_image_processor_dict(str(path))
    except OSError:
        pixels = {}
    return encoder, list(pixels.get("image_mean", mean)), list(pixels.get("image_std", std))


def _config(path: str | Path) -> Any:
    try:
        return AutoConfig.from_pretrained(str(path))
    except (OSError, ValueError) as error:
        raise ModelError(
            "no encoder can be loaded",
            where=str(path),
            expected="a Hugging Face folder or hub name",
            got=str(error).strip().splitlines()[0],
            fix="correct the name; without a network only folders work",
        ) from error


def _token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    vocabulary = tokenizer.get_vocab()
    if token not in vocabulary:
        raise TokenizerMismatchError(
            "the tokenizer lacks a placeholder",
            expected=f"the special token {token}",
            got=f"{len(vocabulary)} tokens without it",
            fix="add it to the tokenizer, and rows for it to the text model",
        )
    return int(vocabulary[token])


def _wrong_kind(what: str, expected: str, got: str, path: str | Path) -> ModelError:
    return ModelError(
        f"this cannot be a {what}", where=str(path), expected=expected, got=got, fix="name a model of that kind"
    )
