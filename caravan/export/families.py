"""The families of text models that llama.cpp computes as transformers does, and what of them a file cannot carry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from caravan.core.errors import ExportError

_ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}
_MLP = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_HEAD_NORMS = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_FOUR_NORMS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
SLIDING = "sliding_attention"


@dataclass(frozen=True)
class Family:
    """A kind of text model, by transformers' `model_type`.

    Attributes:
        architecture: llama.cpp's name.
        modules: of a layer, and what llama.cpp calls them.
        activation: of the MLP.
        biased: modules that may have a bias.
        pairs: llama.cpp rotates neighbouring elements of a head, transformers those half a head apart.
        norm_offset: what a norm adds to its weights; a file holds the sums.
        windows: whether llama.cpp knows layers that see a window of the last tokens alone.
        scales_features: llama.cpp multiplies what encoders give, as it does embeddings, by the root of the width.
        ropes: kinds of stretched rotary positions besides the plain ones.
        deep: layers of the size whose attention is scaled by the width of the model, not by that of a head.
    """

    architecture: str
    modules: dict[str, str]
    activation: str = "silu"
    biased: tuple[str, ...] = ()
    pairs: bool = False
    norm_offset: float = 0.0
    windows: bool = False
    scales_features: bool = False
    ropes: tuple[str, ...] = ("linear", "yarn")
    deep: int | None = None


_LLAMA = _ATTENTION | _MLP | _NORMS
_GELU = "gelu_pytorch_tanh"
FAMILIES = {
    "llama": Family("llama", _LLAMA, biased=(*_ATTENTION, *_MLP), pairs=True, ropes=("linear", "yarn", "llama3")),
    "mistral": Family("llama", _LLAMA, pairs=True),
    "qwen2": Family("qwen2", _LLAMA, biased=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    "qwen3": Family("qwen3", _LLAMA | _HEAD_NORMS),
    "gemma": Family("gemma", _LLAMA, _GELU, norm_offset=1.0, scales_features=True, ropes=()),
    "gemma2": Family(
        "gemma2", _ATTENTION | _MLP | _FOUR_NORMS, _GELU, norm_offset=1.0, windows=True, scales_features=True, ropes=(),
        deep=46,
    ),
    "gemma3_text": Family(
        "gemma3", _ATTENTION | _MLP | _FOUR_NORMS | _HEAD_NORMS, _GELU, norm_offset=1.0, windows=True,
        ropes=("linear",), deep=62,
    ),
}  # fmt: skip


def family_of(config: Any, where: str) -> Family:
    """The family of a text config.

    Raises:
        ExportError: another architecture, or an option of it that the file cannot carry.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise _inexact(where, f"a text model of type {', '.join(FAMILIES)}", str(config.model_type))
    wrong = {name: (right, got) for name, right, got in _demands(config, family) if got != right}
    if wrong:
        raise _inexact(
            where,
            ", ".join(f"{name} {right}" for name, (right, _) in wrong.items()),
            ", ".join(f"{name} {got}" for name, (_, got) in wrong.items()),
        )
    return family


def _inexact(where: str, expected: str, got: str) -> ExportError:
    return ExportError(
        "this text model cannot be exported exactly",
        where=where,
        expected=expected,
        got=got,
        fix="serve it with torch, or export a model of these kinds",
    )


def _demands(config: Any, family: Family) -> Iterator[tuple[str, Any, Any]]:
    """What has to hold: a name, the value that llama.cpp computes with, and this model's."""
    yield "hidden_act", family.activation, getattr(config, "hidden_activation", None) or config.hidden_act
    if not family.biased:
        yield "attention_bias", False, bool(getattr(config, "attention_bias", False))
    yield "use_bidirectional_attention", False, bool(getattr(config, "use_bidirectional_attention", False))
    rope = rope_of(config)
    yield "partial_rotary_factor", 1.0, rope.get("partial_rotary_factor", 1.0)
    kind = rope.get("rope_type", "default")
    if kind not in family.ropes:
        yield "rope_type", "default", kind
    if kind == "yarn":
        for name, default in {"beta_fast": 32, "beta_slow": 1, "truncate": True, "attention_factor": None}.items():
            got = rope.get(name)
            yield name, default, default if got is None else got
    if config.model_type == "qwen2":
        yield "heads times their width", config.hidden_size, head_width(config) * config.num_attention_heads
    if config.model_type in ("gemma2", "gemma3_text"):
        yield from _gemma_demands(config, family)


def _gemma_demands(config: Any, family: Family) -> Iterator[tuple[str, Any, Any]]:
    deep = config.num_hidden_layers == family.deep
    scale = config.hidden_size // config.num_attention_heads if deep else head_width(config)
    yield "query_pre_attn_scalar", scale, config.query_pre_attn_scalar
    capped = config.model_type == "gemma2"
    yield "attn_logit_softcapping", capped, config.attn_logit_softcapping is not None
    if capped:
        yield "final_logit_softcapping", True, config.final_logit_softcapping is not None
    yield "rope_type of sliding layers", "default", rope_of(config, SLIDING).get("rope_type", "default")


def rope_of(config: Any, layers: str = "full_attention") -> dict[str, Any]:
    """Parameters of the rotary positions; some models have others in layers that see a window."""
    found: dict[str, Any] = config.rope_parameters or {}
    return found.get(layers) or found


def head_width(config: Any) -> int:
    """Elements of one attention head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def sliding_layers(config: Any) -> list[bool]:
    """Which layers see only a window of the last tokens."""
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if window is None:
        return [False] * config.num_hidden_layers
    return [kind == SLIDING for kind in kinds] if kinds else [True] * config.num_hidden_layers


def context_length(config: Any, family: Family) -> int:
    """Tokens that a file answers for as torch does: where llama.cpp knows no windows, one window at most."""
    length = int(config.max_position_embeddings)
    return min(length, config.sliding_window) if any(sliding_layers(config)) and not family.windows else length
