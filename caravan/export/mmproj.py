"""Encoders and projectors of a fused model as one mmproj file for llama.cpp: Whisper to hear, CLIP to see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter, LlamaFileType

from caravan.core.errors import ExportError
from caravan.export.gguf_file import Array, Tensor, whole
from caravan.export.weights import ALL, Weights
from caravan.models.config import CaravanConfig, projector_of
from caravan.models.projectors import PROJECTORS, GgufForm

Sense = Literal["speech", "vision"]

# Of the forms that llama.cpp has, those that were found to give what torch gives, and with which encoders.
# `mlp` is not among them: llama.cpp pads its pictures with grey, and puts CLIP's class token last.
EXACT: dict[Sense, dict[str, str]] = {
    "speech": {"stack": "whisper"},
    "vision": {"pixel_shuffle": "clip_vision_model"},
}
# llama.cpp's activation of the vision encoder: the only two it computes as torch does.
_USE_GELU = {"quick_gelu": False, "gelu_pytorch_tanh": True}
WHISPER_NORM_EPSILON = 1e-5  # torch's default, which Whisper keeps

_LAST = "linear_2."  # of every projector in EXACT

_BLOCK = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
          "self_attn.out_proj": "attn_out"}  # fmt: skip
_SPEECH_BLOCK = _BLOCK | {"self_attn_layer_norm": "ln1", "final_layer_norm": "ln2", "fc1": "ffn_up", "fc2": "ffn_down"}
_VISION_BLOCK = _BLOCK | {"layer_norm1": "ln1", "layer_norm2": "ln2", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down"}


def check_senses(config: CaravanConfig, where: str) -> None:
    """See that llama.cpp computes what this model's encoders and projectors do.

    Raises:
        ExportError: a projector, encoder or option without an exact form.
    """
    for sense, encoder in senses(config):
        name, kind = (_projector(config, sense) or {}).get("name"), encoder.model_type
        if EXACT[sense].get(str(name)) != kind:
            raise _inexact(
                where,
                " or ".join(f"{projector} over {known}" for projector, known in EXACT[sense].items()),
                f"{name} over {kind}",
            )
        activation = encoder.activation_function if sense == "speech" else encoder.hidden_act
        right = ("gelu",) if sense == "speech" else tuple(_USE_GELU)
        if activation not in right:
            raise _inexact(where, f"a {sense} encoder with the activation {' or '.join(right)}", activation)


def _inexact(where: str, expected: str, got: str) -> ExportError:
    return ExportError(
        "this model cannot be exported exactly",
        where=where,
        expected=expected,
        got=got,
        fix="choose that projector and encoder in the recipe and align again, or serve the model with torch",
    )


def senses(config: CaravanConfig) -> Iterator[tuple[Sense, Any]]:
    """The senses that a model has, with their encoders' configs."""
    if config.speech_config is not None:
        yield "speech", config.speech_config
    if config.vision_config is not None:
        yield "vision", config.vision_config


def _projector(config: CaravanConfig, sense: Sense) -> dict[str, Any] | None:
    return config.speech_projector if sense == "speech" else config.vision_projector


def _form(config: CaravanConfig, sense: Sense) -> GgufForm:
    form = PROJECTORS[str((_projector(config, sense) or {})["name"])].gguf
    assert form is not None  # check_senses let it pass
    return form


def describe_mmproj(writer: GGUFWriter, config: CaravanConfig) -> None:
    """Add the metadata of both senses.

    `clip.projector_type` stays unset: it would override the types of both.
    """
    writer.add_type("mmproj")
    writer.add_file_type(LlamaFileType.MOSTLY_F16)
    for sense, encoder in senses(config):
        _describe_sense(writer, config, sense)
        if sense == "speech":
            _describe_whisper(writer, config, encoder)
        else:
            _describe_clip(writer, config, encoder)


def _describe_sense(writer: GGUFWriter, config: CaravanConfig, sense: Sense) -> None:
    text: Any = config.text_config
    part = "audio" if sense == "speech" else "vision"
    writer.add_bool(f"clip.has_{part}_encoder", True)
    writer.add_string(f"clip.{part}.projector_type", _form(config, sense).type)
    writer.add_uint32(f"clip.{part}.projection_dim", text.hidden_size)


def _describe_whisper(writer: GGUFWriter, config: CaravanConfig, encoder: Any) -> None:
    stack = _tokens_joined(config, "speech", "stack")
    writer.add_uint32("clip.audio.embedding_length", encoder.d_model)
    writer.add_uint32("clip.audio.feed_forward_length", encoder.encoder_ffn_dim)
    writer.add_uint32("clip.audio.block_count", encoder.encoder_layers)
    writer.add_uint32("clip.audio.attention.head_count", encoder.encoder_attention_heads)
    writer.add_float32("clip.audio.attention.layer_norm_epsilon", WHISPER_NORM_EPSILON)
    writer.add_uint32("clip.audio.num_mel_bins", encoder.num_mel_bins)
    writer.add_uint32("clip.audio.projector.stack_factor", stack)


def _describe_clip(writer: GGUFWriter, config: CaravanConfig, encoder: Any) -> None:
    writer.add_uint32("clip.vision.image_size", encoder.image_size)
    writer.add_uint32("clip.vision.patch_size", encoder.patch_size)
    writer.add_uint32("clip.vision.embedding_length", encoder.hidden_size)
    writer.add_uint32("clip.vision.feed_forward_length", encoder.intermediate_size)
    writer.add_uint32("clip.vision.block_count", _vision_blocks(config, encoder))
    writer.add_uint32("clip.vision.attention.head_count", encoder.num_attention_heads)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", encoder.layer_norm_eps)
    writer.add_array("clip.vision.image_mean", [float(value) for value in config.image_mean or ()])
    writer.add_array("clip.vision.image_std", [float(value) for value in config.image_std or ()])
    writer.add_uint32("clip.vision.projector.scale_factor", _tokens_joined(config, "vision", "scale"))
    writer.add_bool("clip.use_gelu", _USE_GELU[encoder.hidden_act])


def _tokens_joined(config: CaravanConfig, sense: Sense, option: str) -> int:
    """The stack or scale of a projector; it may be left to the class's default."""
    return int(getattr(projector_of(config, sense), option))


def _vision_blocks(config: CaravanConfig, encoder: Any) -> int:
    """Layers before the hidden state that the projector sees; hidden state 0 is the embeddings."""
    layer = config.vision_layer
    return layer if layer >= 0 else encoder.num_hidden_layers + 1 + layer


def mmproj_tensors(config: CaravanConfig, weights: Weights, gain: float = 1.0) -> list[Tensor]:
    """Tensors of both senses: matrices in float16, norms, biases and positions in float32.

    Args:
        gain: what the features are multiplied by, in the last matrix of each projector.
    """
    tensors: list[Tensor] = []
    for sense, encoder in senses(config):
        tensors += _whisper(weights, encoder) if sense == "speech" else _clip(weights, config, encoder)
        prefix = f"model.{sense}_projector."
        projector = projector_of(config, sense)
        assert projector is not None
        for source, name in _form(config, sense).tensors.items():
            tensor = _repeated(_tensor(weights, name, prefix + source), projector.spread(source), encoder)
            tensors.append(_scaled(tensor, gain) if source.startswith(_LAST) and gain != 1 else tensor)
    return tensors


def _scaled(tensor: Tensor, gain: float) -> Tensor:
    return replace(tensor, read=lambda rows: tensor.read(rows) * np.float32(gain))


def _repeated(tensor: Tensor, times: int, encoder: Any) -> Tensor:
    """Weights [..., g d] of averages as weights [..., g m d] of every position; a matrix then gives the same sum."""
    if times == 1:
        return tensor
    *rows, columns = tensor.shape
    shape = (*rows, columns * times)

    def read() -> Array:
        blocks = tensor.read(ALL).reshape(*rows, columns // encoder.d_model, 1, encoder.d_model)
        return np.repeat(blocks / np.float32(times if rows else 1), times, axis=-2).reshape(shape)

    return whole(tensor.name, shape, tensor.type, read)


def _tensor(weights: Weights, name: str, source: str, exact: bool = False) -> Tensor:
    shape = weights.shape(source)
    return Tensor(name, shape, Type.F32 if exact or len(shape) < 2 else Type.F16, partial(weights.read, source))


def _blocks(weights: Weights, source: str, target: str, count: int, names: dict[str, str]) -> Iterator[Tensor]:
    for block in range(count):
        for module, name in names.items():
            for kind in ("weight", "bias"):
                original = f"{source}layers.{block}.{module}.{kind}"
                if original in weights or kind == "weight":  # Whisper's key projections have no bias
                    yield _tensor(weights, f"{target}blk.{block}.{name}.{kind}", original)


def _whisper(weights: Weights, encoder: Any) -> list[Tensor]:
    prefix = "model.speech_encoder."
    tensors = [_tensor(weights, "a.position_embd.weight", f"{prefix}embed_positions.weight", exact=True)]
    for number in (1, 2):
        tensors.append(_tensor(weights, f"a.conv1d.{number}.weight", f"{prefix}conv{number}.weight"))
        bias = f"{prefix}conv{number}.bias"
        # ggml adds it to [positions, channels], so it needs a second dimension.
        shape = (*weights.shape(bias), 1)
        read = partial(_as_column, weights, bias)
        tensors.append(whole(f"a.conv1d.{number}.bias", shape, Type.F32, read))
    tensors += _blocks(weights, prefix, "a.", encoder.encoder_layers, _SPEECH_BLOCK)
    tensors += [_tensor(weights, f"a.post_ln.{kind}", f"{prefix}layer_norm.{kind}") for kind in ("weight", "bias")]
    return tensors


def _as_column(weights: Weights, name: str) -> Array:
    return weights.read(name)[:, None]


def _clip(weights: Weights, config: CaravanConfig, encoder: Any) -> list[Tensor]:
    """CLIP's vision model for `nemotron_v2_vl`, which adds positions to patches alone: the class token has its own."""
    prefix = "model.vision_encoder."
    if f"{prefix}vision_model.embeddings.class_embedding" in weights:
        prefix += "vision_model."
    positions = f"{prefix}embeddings.position_embedding.weight"
    rows, width = weights.shape(positions)

    def class_token() -> Array:
        return weights.read(f"{prefix}embeddings.class_embedding")[None] + weights.read(positions)[:1]

    tensors = [
        whole("v.class_embd", (1, width), Type.F32, class_token),
        whole("v.position_embd.weight", (rows - 1, width), Type.F32, lambda: weights.read(positions)[1:]),
        _tensor(weights, "v.patch_embd.weight", f"{prefix}embeddings.patch_embedding.weight"),
    ]
    # The misspelling is Hugging Face's.
    tensors += [_tensor(weights, f"v.pre_ln.{kind}", f"{prefix}pre_layrnorm.{kind}") for kind in ("weight", "bias")]
    tensors += _blocks(weights, f"{prefix}encoder.", "v.", _vision_blocks(config, encoder), _VISION_BLOCK)
    return tensors
