"""A text model, alone or as the text part of a fused one, as llama.cpp's architecture of its family."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gguf import GGUFWriter, RopeScalingType

from caravan.export.families import SLIDING, Family, context_length, head_width, rope_of, sliding_layers
from caravan.export.ggml import FILE_TYPES, tensor_type
from caravan.export.gguf_file import Array, Tensor, whole
from caravan.export.weights import Weights

QUANTIZATION_VERSION = 2
_SEVENTY_BILLION = 80  # layers


def describe_language(writer: GGUFWriter, config: Any, family: Family, mixture: str) -> None:
    """Add the architecture to a file's metadata."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(context_length(config, family))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_width(config))
    writer.add_value_length(head_width(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(FILE_TYPES[mixture])
    writer.add_quantization_version(QUANTIZATION_VERSION)
    _describe_positions(writer, config)
    if family.windows:
        _describe_windows(writer, config)
    for cap, add in (
        ("attn_logit_softcapping", writer.add_attn_logit_softcapping),
        ("final_logit_softcapping", writer.add_final_logit_softcapping),
    ):
        if getattr(config, cap, None) is not None:
            add(getattr(config, cap))


def _describe_windows(writer: GGUFWriter, config: Any) -> None:
    sliding = sliding_layers(config)
    writer.add_sliding_window_pattern(sliding)
    if any(sliding):
        writer.add_sliding_window(config.sliding_window)
        writer.add_rope_freq_base_swa(float(rope_of(config, SLIDING)["rope_theta"]))


def _describe_positions(writer: GGUFWriter, config: Any) -> None:
    rope = rope_of(config)
    writer.add_rope_dimension_count(head_width(config))
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(float(rope["factor"]))
        trained = rope.get("original_max_position_embeddings") or config.max_position_embeddings
        writer.add_rope_scaling_orig_ctx_len(int(trained))


def rotate_pairs(weight: Array, width: int) -> Array:
    """Rows of a query or key projection, or its bias, in llama.cpp's order; `width` are the rows of a head.

    Hugging Face rotates element i of a head with element i + half, llama.cpp 2 i with 2 i + 1.
    """
    return weight.reshape(-1, 2, width // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def language_tensors(config: Any, family: Family, weights: Weights, prefix: str, mixture: str) -> list[Tensor]:
    """Tensors of the text model; `prefix` is what the backbone's names begin with in `weights`."""
    layers, tied = config.num_hidden_layers, is_tied(config, weights)
    widely = layers == _SEVENTY_BILLION and config.num_key_value_heads < config.num_attention_heads

    def tensor(name: str, source: str, change: Callable[[Array], Array] | None = None, unit: int = 1) -> Tensor:
        shape = weights.shape(source)
        kind = tensor_type(name, shape, mixture, layers, tied, widely)
        read = partial(weights.read, source)
        return Tensor(name, shape, kind, read if change is None else lambda rows: change(read(rows)), unit)

    def norm(name: str, source: str) -> Tensor:
        return tensor(name, source, (lambda weight: weight + family.norm_offset) if family.norm_offset else None)

    tensors = [tensor("token_embd.weight", f"{prefix}embed_tokens.weight")]
    tensors.append(norm("output_norm.weight", f"{prefix}norm.weight"))
    if not tied:
        tensors.append(tensor("output.weight", "lm_head.weight"))
    tensors += _positions(config, mixture)
    width = head_width(config)
    for layer in range(layers):
        for module, name in family.modules.items():
            source, target = f"{prefix}layers.{layer}.{module}", f"blk.{layer}.{name}"
            turned = family.pairs and name in ("attn_q", "attn_k")
            change, unit = (partial(rotate_pairs, width=width), width) if turned else (None, 1)
            if "norm" in module:
                tensors.append(norm(f"{target}.weight", f"{source}.weight"))
                continue
            tensors.append(tensor(f"{target}.weight", f"{source}.weight", change, unit))
            if module in family.biased and f"{source}.bias" in weights:
                tensors.append(tensor(f"{target}.bias", f"{source}.bias", change, unit))
    return tensors


def is_tied(config: Any, weights: Weights) -> bool:
    """Whether the embeddings give the logits too."""
    return bool(config.tie_word_embeddings) or "lm_head.weight" not in weights


def _positions(config: Any, mixture: str) -> list[Tensor]:
    """Llama 3's stretched positions: how much slower each frequency turns than the plain one."""
    if rope_of(config).get("rope_type") != "llama3":
        return []
    factors = llama3_factors(config)
    kind = tensor_type("rope_freqs.weight", factors.shape, mixture, config.num_hidden_layers, False)
    return [whole("rope_freqs.weight", factors.shape, kind, lambda: factors)]


def llama3_factors(config: Any) -> Array:
    """Plain frequencies over transformers' own: [head width / 2]."""
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    width = head_width(config)
    plain = float(rope_of(config)["rope_theta"]) ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return (plain / stretched.double()).float().numpy()
