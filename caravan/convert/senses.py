"""Fused models in the layouts that others load: LLaVA for pictures, Ultravox for speech, the language model alone.

What is written computes what Caravan's model does; a projector of another form is refused, never approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from caravan.convert.folder import Model
from caravan.convert.weights import Lazy, Weights
from caravan.core.errors import ModelError
from caravan.core.files import write_json
from caravan.core.log import get_logger
from caravan.models.config import CaravanConfig, media_spec, placeholder_of, projector_of
from caravan.models.projection import SENSES, Sense
from caravan.models.projectors import MlpProjector, StackProjector

log = get_logger(__name__)
_TEXT, _HEAD = "model.language_model.", "lm_head."
# Where the code of Ultravox is, for those who load it through transformers; vLLM has its own.
ULTRAVOX_CODE = "fixie-ai/ultravox-v0_5-llama-3_2-1b"
# Encoders with a class token before the patches, which LLaVA's strategy `default` leaves out.
WITH_CLASS_TOKEN = ("clip_vision_model", "dinov2")


def is_fused(model: Model) -> bool:
    """Whether this is one of Caravan's models."""
    return bool(model.settings.get("model_type") == CaravanConfig.model_type)


def fused_config(model: Model, sense: Sense | None) -> CaravanConfig:
    """The config of a fused model that has a sense; senses that are left behind are told of.

    Raises:
        ModelError: it is no such model, or lacks the sense.
    """
    if not is_fused(model):
        raise ModelError(
            "no senses here", where=str(model.folder), expected="a fused model", got=model.settings.get("model_type")
        )
    config = model.config
    there = [each for each in SENSES if projector_of(config, each) is not None]
    if sense is not None and sense not in there:
        raise ModelError(
            f"this model has no {sense}", where=str(model.folder), expected=sense, got=there or "text alone"
        )
    for each in there:
        if each != sense:
            log.warning("%s is left out: this layout has no place for it", each)
    assert isinstance(config, CaravanConfig)
    return config


def to_plain(model: Model) -> Model:
    """The language model alone, under the names of its own class."""
    config = fused_config(model, None)
    text: Any = config.text_config
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(text)]
    weights = _renamed(model.weights, {_TEXT: f"{kind.base_model_prefix}.", _HEAD: _HEAD})
    if model.settings.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    return Model(dict(model.settings["text_config"]) | {"architectures": [kind.__name__]}, weights, model.folder)


def to_llava(model: Model) -> Model:
    """As `LlavaForConditionalGeneration` of transformers and vLLM.

    A hidden layer narrower than the language model is filled up with zeros: GELU(0) is 0, so nothing is added.

    Raises:
        ModelError: no eyes, or a projector or encoder that LLaVA has no form of.
    """
    config = fused_config(model, "vision")
    projector = projector_of(config, "vision")
    text, vision = model.settings["text_config"], model.settings["vision_config"]
    width = text["hidden_size"]
    fits = isinstance(projector, MlpProjector) and projector.linear_1.out_features <= width
    kind = vision["model_type"]
    if not fits or kind == "dinov2_with_registers" or config.image_size not in (None, vision["image_size"]):
        got = {"projector": config.vision_projector, "encoder": kind, "image_size": config.image_size}
        raise ModelError(
            "LLaVA has no form of these eyes",
            where=str(model.folder),
            expected=f"the projector mlp, hidden at most {width}, over an encoder without registers at its own size",
            got=got,
            fix="train with `vision_projector: {name: mlp}`, or export to GGUF",
        )
    prefixes = {
        _TEXT: "language_model.model.",
        _HEAD: "language_model.lm_head.",
        "model.vision_encoder.": "vision_tower.",
        "model.vision_projector.": "multi_modal_projector.",
    }
    weights = _renamed(model.weights, prefixes)
    for name, axis in (("linear_1.weight", 0), ("linear_1.bias", 0), ("linear_2.weight", 1)):
        weights[f"multi_modal_projector.{name}"] = _widened(weights[f"multi_modal_projector.{name}"], axis, width)
    settings = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": text,
        "vision_config": vision,
        "image_token_index": placeholder_of(config, "vision"),
        "image_seq_length": media_spec(config)["image_tokens"],
        "projector_hidden_act": "gelu_pytorch_tanh",
        "multimodal_projector_bias": True,
        "vision_feature_layer": config.vision_layer,
        "vision_feature_select_strategy": "default" if kind in WITH_CLASS_TOKEN else "full",
        "tie_word_embeddings": bool(model.settings.get("tie_word_embeddings")),
    }
    return Model(settings, weights, model.folder)


def write_llava_processor(model: Model, out: Path) -> None:
    """How pictures and prompts are prepared: padded to a square, scaled; a placeholder for each picture in a prompt."""
    config = fused_config(model, "vision")
    spec, size = media_spec(config), media_spec(config)["image_size"]
    default = model.settings["vision_config"]["model_type"] in WITH_CLASS_TOKEN
    image = {
        "image_processor_type": "LlavaImageProcessor",
        "do_pad": True,
        "do_resize": True,
        "size": {"height": size, "width": size},
        "resample": 3,
        "do_center_crop": False,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": spec["image_mean"],
        "image_std": spec["image_std"],
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "patch_size": model.settings["vision_config"]["patch_size"],
        "vision_feature_select_strategy": "default" if default else "full",
        "num_additional_image_tokens": int(default),
        "image_token": _token(model.folder, placeholder_of(config, "vision")),
    }
    write_json(out / "preprocessor_config.json", image | {"processor_class": "LlavaProcessor"})
    write_json(out / "processor_config.json", processor)


def to_ultravox(model: Model) -> Model:
    """As Ultravox 0.5: Whisper's encoder, frames side by side, SwiGLU between two norms.

    Raises:
        ModelError: no ears, or a projector or encoder that Ultravox has no form of.
    """
    config = fused_config(model, "speech")
    projector = projector_of(config, "speech")
    speech = model.settings["speech_config"]
    if not isinstance(projector, StackProjector) or speech["model_type"] != "whisper":
        got = {"projector": config.speech_projector, "encoder": speech["model_type"]}
        raise ModelError(
            "Ultravox has no form of these ears",
            where=str(model.folder),
            expected="the projector stack over Whisper",
            got=got,
            fix="train with `speech_projector: {name: stack}`",
        )
    ours = {"norm_pre": "ln_pre", "linear_1": "linear_1", "norm_mid": "ln_mid", "linear_2": "linear_2"}
    prefixes = {f"model.speech_projector.{name}.": f"multi_modal_projector.{theirs}." for name, theirs in ours.items()}
    prefixes |= {
        _TEXT: "language_model.model.",
        _HEAD: "language_model.lm_head.",
        "model.speech_encoder.": "audio_tower.",
    }
    weights = _renamed(model.weights, prefixes)
    for name in ("norm_pre.weight", "linear_1.weight"):
        theirs = f"multi_modal_projector.{name.replace('norm_pre', 'ln_pre')}"
        weights[theirs] = _spread(weights[theirs], projector.spread(name), speech["d_model"])
    settings = {
        "architectures": ["UltravoxModel"],
        "model_type": "ultravox",
        "auto_map": {
            "AutoConfig": f"{ULTRAVOX_CODE}--ultravox_config.UltravoxConfig",
            "AutoModel": f"{ULTRAVOX_CODE}--ultravox_model.UltravoxModel",
            "AutoProcessor": f"{ULTRAVOX_CODE}--ultravox_processing.UltravoxProcessor",
        },
        "text_config": model.settings["text_config"],
        "audio_config": speech,
        "audio_model_id": None,
        "text_model_id": None,
        "audio_token_index": placeholder_of(config, "speech"),
        "ignore_index": -100,
        "stack_factor": projector.stack,
        "hidden_size": projector.linear_1.out_features,
        "projector_act": "swiglu",
        "projector_ln_mid": True,
        "num_projector_layers": 0,
        "norm_init": 1.0,
        "vocab_size": model.settings["text_config"]["vocab_size"],
        "tie_word_embeddings": bool(model.settings.get("tie_word_embeddings")),
    }
    return Model(settings, weights, model.folder)


def write_ultravox_processor(model: Model, out: Path) -> None:
    """Whisper's feature extractor, and where the code of Ultravox's processor is."""
    speech = model.settings["speech_config"]
    extractor = {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": speech["num_mel_bins"],
        "sampling_rate": 16_000,
        "hop_length": 160,
        "n_fft": 400,
        "chunk_length": 30,
        "nb_max_frames": 3000,
        "n_samples": 480_000,
        "padding_value": 0.0,
        "return_attention_mask": False,
    }
    write_json(out / "preprocessor_config.json", extractor | {"processor_class": "UltravoxProcessor"})
    code = {"AutoProcessor": f"{ULTRAVOX_CODE}--ultravox_processing.UltravoxProcessor"}
    projector = projector_of(model.config, "speech")
    assert isinstance(projector, StackProjector)
    told = {"processor_class": "UltravoxProcessor", "auto_map": code, "stack_factor": projector.stack}
    write_json(out / "processor_config.json", told | {"encoder_ds_factor": 2})


def _renamed(weights: Weights, prefixes: Mapping[str, str]) -> Weights:
    """What begins with one of the prefixes, with the other in its place."""
    return {
        new + name.removeprefix(old): lazy
        for name, lazy in weights.items()
        for old, new in prefixes.items()
        if name.startswith(old)
    }


def _changed(lazy: Lazy, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> Lazy:
    return Lazy(shape, lazy.dtype, lambda: change(lazy.read()))


def _widened(lazy: Lazy, axis: int, width: int) -> Lazy:
    more = width - lazy.shape[axis]
    if not more:
        return lazy
    missing = tuple(more if place == axis else size for place, size in enumerate(lazy.shape))
    shape = tuple(width if place == axis else size for place, size in enumerate(lazy.shape))
    return _changed(lazy, shape, lambda tensor: torch.cat([tensor, tensor.new_zeros(missing)], axis))


def _spread(lazy: Lazy, times: int, width: int) -> Lazy:
    """Weights of averages as weights of every position; a matrix then gives the same sum."""
    if times == 1:
        return lazy
    shape = (*lazy.shape[:-1], lazy.shape[-1] * times)
    return _changed(lazy, shape, partial(_repeated, times=times, width=width))


def _repeated(tensor: Tensor, times: int, width: int) -> Tensor:
    blocks = tensor.unflatten(-1, (-1, 1, width)) / (times if tensor.dim() > 1 else 1)
    return blocks.expand(*blocks.shape[:-2], times, width).flatten(-3)


def _token(folder: Path, index: int) -> str:
    return str(AutoTokenizer.from_pretrained(folder).convert_ids_to_tokens(index))
