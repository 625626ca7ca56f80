"""Other positions for a model that has some: rotary ones for learned ones, and rotary ones over a longer window."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM

from caravan.core.errors import ModelError
from caravan.models.load import load_whole

Scaling = Literal["linear", "ntk", "yarn"]


def stretch(config: Any, scaling: Scaling, factor: float) -> None:
    """Set a config's rotary positions to a window `factor` times as long.

    `linear` divides positions (Chen et al. 2023); `ntk` raises the base so that the slowest pair turns `factor` times
    slower and the fastest as before (NTK-aware scaling, bloc97 2023); `yarn` does the one for slow pairs and nothing to
    fast ones, and sharpens attention (Peng et al. 2023).

    Raises:
        ModelError: its positions are not rotary, or scaled already.
    """
    text = config.get_text_config()
    rope = dict(getattr(text, "rope_parameters", None) or {})
    if rope.get("rope_type", "default") != "default" or "rope_theta" not in rope:
        raise ModelError(
            "the window of this model cannot be made longer",
            expected="plain rotary positions",
            got=f"{text.model_type} with {rope or 'other positions'}",
            fix="leave out `positions.scaling`; learned positions first become rotary: positions.rotary=true",
        )
    window = text.max_position_embeddings
    if scaling == "ntk":
        pairs = rotary_width(text)
        rope["rope_theta"] = float(rope["rope_theta"]) * factor ** (pairs / (pairs - 2))
    elif scaling == "linear":
        rope |= {"rope_type": "linear", "factor": factor}
    else:
        rope |= {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": window}
    text.rope_parameters = rope
    text.max_position_embeddings = round(window * factor)


def rotary_width(text: Any) -> int:
    """Elements of a head that are turned by its position."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(head * text.rope_parameters.get("partial_rotary_factor", 1.0))


def to_rotary(source: str, out: Path) -> None:
    """Write a GPT-2 (PolyLM's architecture) as a GPT-NeoX, which is the same but for rotary positions.

    Its table of positions is dropped: what the model says is other until it has been trained on.

    Raises:
        ModelError: another architecture, or an option of it that GPT-NeoX lacks.
    """
    old = load_whole(GPT2LMHeadModel.from_pretrained, source)
    new = GPTNeoXForCausalLM(_neox_config(old.config, source))
    new.load_state_dict(_neox_weights(old))
    new.tie_weights()
    new.save_pretrained(out)


def _neox_config(config: Any, where: str) -> GPTNeoXConfig:
    options = ("scale_attn_by_inverse_layer_idx", "reorder_and_upcast_attn", "add_cross_attention")
    if config.model_type != "gpt2" or not config.scale_attn_weights or any(getattr(config, o, False) for o in options):
        raise ModelError(
            "learned positions of this model cannot give way to rotary ones",
            where=where,
            expected="a GPT-2 with its usual attention",
            got=config.model_type,
            fix="leave out `positions.rotary`",
        )
    return GPTNeoXConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.n_embd,
        num_hidden_layers=config.n_layer,
        num_attention_heads=config.n_head,
        intermediate_size=config.n_inner or 4 * config.n_embd,
        hidden_act=config.activation_function,
        use_parallel_residual=False,
        layer_norm_eps=config.layer_norm_epsilon,
        tie_word_embeddings=config.tie_word_embeddings,
        attention_bias=True,
        max_position_embeddings=config.n_positions,
        hidden_dropout=config.resid_pdrop,
        attention_dropout=config.attn_pdrop,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0},
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )


_LAYER = {
    "ln_1": "input_layernorm",
    "ln_2": "post_attention_layernorm",
    "attn.c_proj": "attention.dense",
    "mlp.c_fc": "mlp.dense_h_to_4h",
    "mlp.c_proj": "mlp.dense_4h_to_h",
}


def _neox_weights(old: Any) -> dict[str, torch.Tensor]:
    """GPT-2's weights under GPT-NeoX's names: matrices turned, query, key and value side by side in each head."""
    weights, heads = old.state_dict(), old.config.n_head
    found = {
        "gpt_neox.embed_in.weight": weights["transformer.wte.weight"],
        "lm_head.weight": weights["lm_head.weight"],
    }
    for part in ("weight", "bias"):
        found[f"gpt_neox.final_layer_norm.{part}"] = weights[f"transformer.ln_f.{part}"]
        for layer in range(old.config.n_layer):
            before, after = f"transformer.h.{layer}.", f"gpt_neox.layers.{layer}."
            for one, other in _LAYER.items():
                value = weights[f"{before}{one}.{part}"]
                found[f"{after}{other}.{part}"] = value.t() if value.ndim == 2 else value
            joined = weights[f"{before}attn.c_attn.{part}"]
            joined = joined.t() if part == "weight" else joined
            rows = joined.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2)
            found[f"{after}attention.query_key_value.{part}"] = rows
    return {name: value.contiguous() for name, value in found.items()}
