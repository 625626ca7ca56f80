"""A Llama, alone or as the text part of a fused model, as llama.cpp's `llama` architecture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGUFWriter

from caravan.core.errors import ExportError
from caravan.export.ggml import FILE_TYPES, tensor_type
from caravan.export.gguf_file import Tensor
from caravan.export.weights import Weights

Array = npt.NDArray[np.float32]
QUANTIZATION_VERSION = 2

_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def check_llama(config: Any, where: str) -> None:
    """See that llama.cpp's `llama` computes what this text config says.

    Raises:
        ExportError: another architecture, or an option of it that the file cannot carry.
    """
    rope = config.rope_parameters or {} if config.model_type == "llama" else {}
    wanted = {
        "model_type": (config.model_type, "llama"),
        "hidden_act": (getattr(config, "hidden_act", None), "silu"),
        "attention_bias": (getattr(config, "attention_bias", False), False),
        "mlp_bias": (getattr(config, "mlp_bias", False), False),
        "rope_type": (rope.get("rope_type", "default"), "default"),
        "partial_rotary_factor": (rope.get("partial_rotary_factor", 1.0), 1.0),
    }
    if wrong := {name: got for name, (got, right) in wanted.items() if got != right}:
        raise ExportError(
            "this text model cannot be exported exactly",
            where=where,
            expected=", ".join(f"{name} {wanted[name][1]}" for name in wrong),
            got=", ".join(f"{name} {got}" for name, got in wrong.items()),
            fix="export a Llama with plain rotary positions",
        )


def head_width(config: Any) -> int:
    """Elements of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def describe_llama(writer: GGUFWriter, config: Any, mixture: str) -> None:
    """Add the architecture to a file's metadata."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_width(config))
    writer.add_value_length(head_width(config))
    writer.add_rope_dimension_count(head_width(config))
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(FILE_TYPES[mixture])
    writer.add_quantization_version(QUANTIZATION_VERSION)


def rotate_pairs(weight: Array, heads: int) -> Array:
    """Rows of a query or key projection in llama.cpp's order.

    Hugging Face rotates element i of a head with element i + half, llama.cpp 2 i with 2 i + 1.
    """
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def llama_tensors(config: Any, weights: Weights, prefix: str, mixture: str) -> list[Tensor]:
    """Tensors of the text model; `prefix` is what the backbone's names begin with in `weights`."""
    layers, tied = config.num_hidden_layers, bool(config.tie_word_embeddings)

    def tensor(name: str, source: str, change: Callable[[Array], Array] | None = None) -> Tensor:
        shape = weights.shape(source)
        read = partial(weights.read, source)
        return Tensor(
            name,
            shape,
            tensor_type(name, shape, mixture, layers, tied),
            read if change is None else lambda: change(read()),
        )

    tensors = [tensor("token_embd.weight", f"{prefix}embed_tokens.weight")]
    tensors.append(tensor("output_norm.weight", f"{prefix}norm.weight"))
    if not tied:
        tensors.append(tensor("output.weight", "lm_head.weight"))
    heads = {
        "self_attn.q_proj": partial(rotate_pairs, heads=config.num_attention_heads),
        "self_attn.k_proj": partial(rotate_pairs, heads=config.num_key_value_heads),
    }
    for layer in range(layers):
        for source, name in _LAYER.items():
            change = heads.get(source)
            tensors.append(tensor(f"blk.{layer}.{name}.weight", f"{prefix}layers.{layer}.{source}.weight", change))
    return tensors
