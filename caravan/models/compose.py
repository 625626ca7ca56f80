"""Make a fused model of a text model, a pretrained speech encoder and a pretrained vision encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    WhisperModel,
)
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.image_processing_base import ImageProcessingMixin
from transformers.initialization import no_init_weights

from caravan.core.errors import ModelError, TokenizerMismatchError
from caravan.models.adapters import whole_in_folder
from caravan.models.config import OF_SENSE, CaravanConfig, projector_of
from caravan.models.encoders import VISION, WAVES, WHISPER, WHISPER_POSITIONS
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.models.load import check_tokenizer, load_whole
from caravan.models.projection import SENSES, Projector, Sense
from caravan.models.projectors import DECODER64

SPEECH_PROJECTOR: Mapping[str, Any] = {"name": "stack", "stack": 10}
VISION_PROJECTOR: Mapping[str, Any] = {"name": "pixel_shuffle", "scale": 2}


# In place of an encoder's name: what the model that is to be fused has already, its projector included.
KEPT = "model"


@dataclass(frozen=True)
class Part:
    """One sense of a model: its encoder, its values in the config, and its projector, where it was trained before."""

    encoder: PreTrainedModel
    config: Mapping[str, Any]
    projector: Projector | None = None


def compose(
    text: str | Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    speech: str | Path | None = None,
    vision: str | Path | None = None,
    speech_projector: Mapping[str, Any] = SPEECH_PROJECTOR,
    vision_projector: Mapping[str, Any] = VISION_PROJECTOR,
    image_size: int | None = None,
    audio_token: str = "<|audio_pad|>",
    image_token: str = "<|image_pad|>",
) -> CaravanForConditionalGeneration:
    """Fuse a text model with encoders; projectors start at random (torch's global generator: seed it first).

    All weights are in float32, whatever the folders hold. Encoders are frozen, the rest trains.

    Args:
        text: folder or hub name of a causal language model, or of a fused model that gets another sense.
        tokenizer: of the text model; has the two placeholder tokens.
        speech: folder or hub name of a Whisper, of which the encoder is kept (all of it if the projector reads its
            decoder), a wav2vec 2.0, HuBERT or WavLM; None for a model without ears; `model` for the ears of a fused
            `text`, with their projector as it is.
        vision: folder or hub name of a CLIP or SigLIP, of which the vision part is kept, or a DINOv2; None for no eyes;
            `model` likewise.
        speech_projector: name and options, see `PROJECTORS`.
        vision_projector: likewise.
        image_size: side of the pictures in pixels, for an encoder that stretches its positions; None: its own.
        audio_token: the placeholder of a speech feature.
        image_token: the placeholder of a picture feature.

    Raises:
        ModelError: a part cannot be loaded, is of the wrong kind, or does not fit.
        TokenizerMismatchError: the tokenizer lacks a placeholder, or has more tokens than the text model.
    """
    whole_in_folder(text)
    base = load_whole(AutoModelForCausalLM.from_pretrained, text)
    parts: dict[Sense, Part] = {}
    if speech is not None:
        kept = _kept(base, "speech", text) if speech == KEPT else None
        parts["speech"] = kept or _ears(speech, speech_projector, _token_id(tokenizer, audio_token))
    if vision is not None:
        kept = _kept(base, "vision", text) if vision == KEPT else None
        parts["vision"] = kept or _eyes(vision, vision_projector, image_size, _token_id(tokenizer, image_token))
    fused = isinstance(base, CaravanForConditionalGeneration)
    config = {key: value for part in parts.values() for key, value in part.config.items()}
    config["text_config"] = base.config.text_config if fused else base.config
    for value in config.values():
        if isinstance(value, PreTrainedConfig):
            value.name_or_path = ""  # folders of this machine mean nothing elsewhere
    # The shell takes no memory; its parts are put in below.
    with torch.device("meta"), no_init_weights():
        model = CaravanForConditionalGeneration(CaravanConfig(**config))
    if fused:
        model.model.language_model, model.lm_head = base.model.language_model, base.lm_head
        model.generation_config = base.generation_config
    else:
        _adopt(model, base, str(text))
    with torch.no_grad():
        norm = float(torch.linalg.vector_norm(model.get_input_embeddings().weight, dim=1).mean())
        for sense in SENSES:
            if sense in parts:
                setattr(model.model, f"{sense}_encoder", parts[sense].encoder.requires_grad_(False))
                projector = parts[sense].projector or _new_projector(model.config, sense, norm)
                setattr(model.model, f"{sense}_projector", projector)
    check_tokenizer(model, tokenizer, where=str(text))
    model.train(False)
    return model


def _new_projector(config: CaravanConfig, sense: Sense, norm: float) -> Projector:
    projector = projector_of(config, sense)
    assert projector is not None
    projector.initialise(norm)
    return projector


def _ears(name: str | Path, projector: Mapping[str, Any], token: int) -> Part:
    encoder = _speech_encoder(name, projector.get("name") == DECODER64)
    values = {
        "speech_config": encoder.config,
        "speech_projector": dict(projector),
        "wave_normalised": encoder.config.model_type in WAVES and _normalised(name),
        "audio_token_id": token,
    }
    return Part(encoder, values)


def _eyes(name: str | Path, projector: Mapping[str, Any], size: int | None, token: int) -> Part:
    encoder = _vision_encoder(name, size)
    values = {
        "vision_config": encoder.config,
        "vision_projector": dict(projector),
        **_pixels(name, encoder.config.model_type),
        "image_size": size,
        "image_token_id": token,
    }
    return Part(encoder, values)


def _kept(base: Any, sense: Sense, where: str | Path) -> Part:
    """A sense of a fused model, as it is."""
    parts = base.model if isinstance(base, CaravanForConditionalGeneration) else None
    encoder = getattr(parts, f"{sense}_encoder", None)
    if encoder is None:
        raise ModelError(
            f"the model has no {sense} to keep",
            where=str(where),
            expected=f"a fused model that was aligned with a {sense} encoder",
            got=type(base).__name__,
            fix=f"name an encoder ({sense}), or null for none",
        )
    values = {key: getattr(base.config, key) for key in OF_SENSE[sense]}
    return Part(encoder, values, getattr(parts, f"{sense}_projector"))


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


def _speech_encoder(path: str | Path, decoder: bool) -> PreTrainedModel:
    config = _config(path)
    if config.model_type in WAVES:
        return load_whole(WAVES[config.model_type].from_pretrained, path)
    if config.model_type != WHISPER:
        raise _wrong_kind("speech encoder", " or ".join((WHISPER, *WAVES)), config.model_type, path)
    if config.max_source_positions != WHISPER_POSITIONS:
        raise ModelError(
            "the speech encoder has another window",
            where=str(path),
            expected="1500 positions, which are 30 s",
            got=f"{config.max_source_positions}",
            fix="use a Whisper encoder with max_source_positions 1500",
        )
    whisper = load_whole(WhisperModel.from_pretrained, path)
    return whisper if decoder else whisper.encoder


def _vision_encoder(path: str | Path, size: int | None) -> PreTrainedModel:
    kind = _config(path).model_type
    if kind not in VISION:
        raise _wrong_kind("vision encoder", " or ".join(VISION), kind, path)
    encoder = load_whole(VISION[kind].module.from_pretrained, path)
    config: Any = encoder.config
    fits = size is None or ((size == config.image_size or VISION[kind].stretches) and size % config.patch_size == 0)
    if not fits:
        raise ModelError(
            "the vision encoder takes no pictures of this size",
            where=str(path),
            expected=f"a multiple of {config.patch_size} pixels" if VISION[kind].stretches else f"{config.image_size}",
            got=size,
            fix="change `image_size`, or leave it out",
        )
    return encoder


def _pixels(path: str | Path, kind: str) -> dict[str, list[float]]:
    """Mean and deviation of the pixels that a vision encoder was trained on."""
    try:
        told, _ = ImageProcessingMixin.get_image_processor_dict(str(path))
    except OSError:
        told = {}
    row = VISION[kind]
    return {"image_mean": list(told.get("image_mean", row.mean)), "image_std": list(told.get("image_std", row.std))}


def _normalised(path: str | Path) -> bool:
    """Whether an encoder of waves was trained on clips of mean 0 and deviation 1."""
    try:
        told, _ = FeatureExtractionMixin.get_feature_extractor_dict(str(path))
    except OSError:
        told = {}
    return bool(told.get("do_normalize", True))


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
