"""TencentPretrain's Llama, as Linly is given on: one file of torch, its own names, rotary halves interleaved.

Names and order of rows are those of its scripts `convert_llama_from_huggingface_to_tencentpretrain.py` and back
(github.com/Tencent/TencentPretrain).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from caravan.convert.folder import Model, pickled_weights
from caravan.convert.other import KEPT, keep_folder, kept_folder
from caravan.convert.pickled import write_pickled
from caravan.convert.weights import Lazy, Weights, take
from caravan.core.errors import ModelError
from caravan.core.files import read_json, write_json
from caravan.models.grow import CONFIG

FILE = "pytorch_model.bin"
# Theirs -> Hugging Face's; {} stands for the layer.
NAMES = {
    "embedding.word.embedding.weight": "model.embed_tokens.weight",
    "encoder.transformer.{}.self_attn.linear_layers.0.weight": "model.layers.{}.self_attn.q_proj.weight",
    "encoder.transformer.{}.self_attn.linear_layers.1.weight": "model.layers.{}.self_attn.k_proj.weight",
    "encoder.transformer.{}.self_attn.linear_layers.2.weight": "model.layers.{}.self_attn.v_proj.weight",
    "encoder.transformer.{}.self_attn.final_linear.weight": "model.layers.{}.self_attn.o_proj.weight",
    "encoder.transformer.{}.layer_norm_1.weight": "model.layers.{}.input_layernorm.weight",
    "encoder.transformer.{}.feed_forward.linear_gate.weight": "model.layers.{}.mlp.gate_proj.weight",
    "encoder.transformer.{}.feed_forward.linear_1.weight": "model.layers.{}.mlp.up_proj.weight",
    "encoder.transformer.{}.feed_forward.linear_2.weight": "model.layers.{}.mlp.down_proj.weight",
    "encoder.transformer.{}.layer_norm_2.weight": "model.layers.{}.post_attention_layernorm.weight",
    "encoder.layer_norm.weight": "model.norm.weight",
    "target.lm.output_layer.weight": "lm_head.weight",
}
ROTATED = ("q_proj", "k_proj")


def halves_apart(weight: Tensor, heads: int) -> Tensor:
    """Rows of each head from (pair, half) to (half, pair), which is how Hugging Face turns them."""
    return weight.reshape(heads, -1, 2, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)


def halves_together(weight: Tensor, heads: int) -> Tensor:
    """The way back."""
    return weight.reshape(heads, 2, -1, weight.shape[-1]).transpose(1, 2).reshape(weight.shape)


def is_tencentpretrain(source: Path) -> bool:
    """Whether a path is a file of torch, or a folder with one beside TencentPretrain's config."""
    if source.is_file():
        return source.suffix in (".bin", ".pt")
    config = source / CONFIG
    return (source / FILE).is_file() and config.is_file() and "layers_num" in read_json(config)


def read_tencentpretrain(source: Path, like: Path | None) -> Model:
    """A file, or a folder with one and its config.

    Raises:
        ModelError: weights are missing, or nothing tells the number of heads.
    """
    file = source if source.is_file() else source / FILE
    held = pickled_weights(file)
    folder = like or kept_folder(file.parent)
    settings = read_json(folder / CONFIG) if folder else _settings(file.parent / CONFIG, held)
    return Model(settings, _renamed(held, settings, file, to_theirs=False), folder or file.parent)


def write_tencentpretrain(model: Model, out: Path) -> dict[str, Any]:
    """Write one file, TencentPretrain's config, and what Hugging Face needs for the way back.

    Raises:
        ModelError: not a Llama.
    """
    if model.settings.get("model_type") != "llama":
        raise ModelError(
            "TencentPretrain's names are known for Llama alone", expected="llama", got=model.settings.get("model_type")
        )
    weights = dict(model.weights)
    # Theirs has a head in every file.
    weights.setdefault("lm_head.weight", take(weights, "model.embed_tokens.weight", model.folder))
    theirs = _renamed(weights, model.settings, model.folder, to_theirs=True)
    write_pickled(out / FILE, theirs)
    keep_folder(model, out / KEPT)
    write_json(out / CONFIG, _their_config(model.config))
    return {"tensors": len(theirs)}


def _renamed(held: Weights, settings: dict[str, Any], where: Path, *, to_theirs: bool) -> Weights:
    heads = settings["num_attention_heads"]
    turned = {"q_proj": heads, "k_proj": settings.get("num_key_value_heads") or heads}
    change = halves_together if to_theirs else halves_apart
    found: Weights = {}
    for layer in range(settings["num_hidden_layers"]):
        for theirs, ours in NAMES.items():
            if layer and "{}" not in theirs:
                continue
            old, new = (ours, theirs) if to_theirs else (theirs, ours)
            lazy = take(held, old.format(layer), where)
            part = ours.split(".")[-2]
            found[new.format(layer)] = _turned(lazy, change, turned[part]) if part in ROTATED else lazy
    if not to_theirs and settings.get("tie_word_embeddings"):
        del found["lm_head.weight"]
    return found


def _turned(lazy: Lazy, change: Callable[[Tensor, int], Tensor], heads: int) -> Lazy:
    return Lazy(lazy.shape, lazy.dtype, partial(_read_turned, lazy, change, heads))


def _read_turned(lazy: Lazy, change: Callable[[Tensor, int], Tensor], heads: int) -> Tensor:
    return change(lazy.read(), heads)


def _their_config(config: Any) -> dict[str, Any]:
    """The config of TencentPretrain's models/llama, with this model's sizes."""
    grouped = config.num_key_value_heads
    return {
        "emb_size": config.hidden_size,
        "feedforward_size": config.intermediate_size,
        "hidden_size": config.hidden_size,
        "hidden_act": "silu",
        "heads_num": config.num_attention_heads,
        "layers_num": config.num_hidden_layers,
        "dropout": 0.0,
        "data_processor": "lm",
        "max_seq_length": config.max_position_embeddings,
        "embedding": ["word"],
        "remove_transformer_bias": True,
        "remove_embedding_layernorm": True,
        "rotary_position_embedding": True,
        "encoder": "transformer",
        "feed_forward": "gated",
        "mask": "causal",
        "layernorm_positioning": "pre",
        "layernorm": "rms",
        "target": ["lm"],
    } | ({} if grouped == config.num_attention_heads else {"local_kv_head_num": grouped})


def _settings(config: Path, held: Weights) -> dict[str, Any]:
    """Hugging Face's config from TencentPretrain's and the weights' shapes."""
    theirs = read_json(config) if config.is_file() else {}
    if "heads_num" not in theirs:
        raise ModelError(
            "nothing tells how many heads this model has",
            where=str(config),
            expected="TencentPretrain's config.json beside the weights",
            got="none",
            fix="put it there, or give the folder of a model of the same shape: like=FOLDER",
        )
    layers = 1 + max(int(found[1]) for name in held if (found := re.match(r"encoder\.transformer\.(\d+)\.", name)))
    vocabulary, width = take(held, "embedding.word.embedding.weight", config).shape
    keys = take(held, "encoder.transformer.0.self_attn.linear_layers.1.weight", config).shape[0]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": take(held, "encoder.transformer.0.feed_forward.linear_1.weight", config).shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": theirs["heads_num"],
        "num_key_value_heads": keys * theirs["heads_num"] // width,
        "max_position_embeddings": theirs.get("max_seq_length", 2048),
        "rms_norm_eps": 1e-6,  # the default of its RMSNorm
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
