"""Each family of text models says in the engine what it says in torch; what a file cannot carry is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from caravan.core.errors import ExportError
from caravan.export import language
from caravan.export.convert import export
from caravan.export.families import FAMILIES, context_length, family_of
from caravan.recipe.export import ExportConfig
from tests.export.conftest import save, with_senses

LINEAR = {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
WINDOW = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 5}
CAPS = {"attn_logit_softcapping": 4.0, "final_logit_softcapping": 6.0}
CONFIGS: dict[str, tuple[type, dict[str, Any]]] = {
    "llama, biases, tied": (LlamaConfig, {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama, llama3": (LlamaConfig, {"rope_parameters": LLAMA3}),
    "llama, linear": (LlamaConfig, {"rope_parameters": LINEAR}),
    "mistral": (MistralConfig, {"head_dim": 32, "sliding_window": 200}),
    "qwen2, yarn": (Qwen2Config, {"rope_parameters": YARN}),
    "qwen3": (Qwen3Config, {"head_dim": 32}),
    "gemma": (GemmaConfig, {"head_dim": 32, "hidden_activation": "gelu_pytorch_tanh"}),
    "gemma2": (Gemma2Config, WINDOW | CAPS),
    "gemma3": (Gemma3TextConfig, WINDOW | {"rope_parameters": TWO_ROPES, "sliding_window_pattern": 2}),
}


def small(kind: type, tokenizer: PreTrainedTokenizerFast, **options: Any) -> Any:
    usual = {
        "vocab_size": len(tokenizer) + 4,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return kind(**usual | options)


@pytest.fixture
def make(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[..., Path]:
    def model(kind: type, **options: Any) -> Path:
        folder = tmp_path / "model"
        return save(AutoModelForCausalLM.from_config(small(kind, tokenizer, **options)), tokenizer, folder)

    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_a_family_says_in_the_engine_what_it_says_in_torch(
    make: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    kind, options = CONFIGS[name]
    config = ExportConfig(types=("f16", "q4_0"), prompts=1, new_tokens=4, threads=1, max_logprob_delta=0.02)
    parity = export(config, make(kind, **options), tmp_path / "out")["parity"]
    assert parity["f16"]["text"]["divergence"] < 2e-5 < parity["q4_0"]["text"]["divergence"] < 0.4
    architecture = GGUFReader(tmp_path / "out" / "model-f16.gguf").get_field("general.architecture")
    assert architecture is not None
    assert architecture.contents() == name.split(",")[0].replace("mistral", "llama")


@pytest.mark.parametrize("name", ["qwen3", "gemma", "gemma3"])
def test_a_family_with_senses(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, name: str) -> None:
    kind, options = CONFIGS[name]
    text = small(kind, tokenizer, **options | {"max_position_embeddings": 512})
    folder = save(with_senses(text, tokenizer), tokenizer, tmp_path / "model")
    config = ExportConfig(types=("f16",), prompts=1, new_tokens=2, threads=1, max_logprob_delta=0.03)
    parity = export(config, folder, tmp_path / "out")["parity"]["f16"]
    assert list(parity) == ["text", "audio", "image", "both"]
    assert max(figures["divergence"] for figures in parity.values()) < 1e-4


def test_every_type_is_nearer_to_torch_the_more_bits_it_has(make: Callable[..., Path], tmp_path: Path) -> None:
    order = ("f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0")
    config = ExportConfig(types=order, prompts=2, new_tokens=1, threads=1)
    folder = make(Qwen3Config, head_dim=64, hidden_size=256, intermediate_size=256)
    counts = export(config, folder, tmp_path / "out")
    divergences = [counts["parity"][kind]["text"]["divergence"] for kind in order]
    assert divergences[0] < 1e-5
    assert divergences[1] < 1e-4
    assert divergences[2] < 1e-3
    assert divergences[2] < divergences[3] < divergences[4] < min(divergences[5:]) < max(divergences[5:]) < 0.05
    bits = [counts["files"][f"model-{kind}.gguf"]["bits_per_weight"] for kind in order]
    assert sorted(bits[2:], reverse=True) == bits[2:]
    assert counts["bounds"]["q8_0"] == {"divergence": config.max_divergence["q8_0"]}


def test_weights_in_bfloat16_are_kept_bit_by_bit(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make(LlamaConfig)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    export(ExportConfig(types=("bf16",), prompts=0), folder, tmp_path / "out")
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "out" / "model-bf16.gguf").tensors}
    stored = tensors["token_embd.weight"].data.view("<u2")
    assert (stored == model.get_input_embeddings().weight.detach().view(torch.uint16).numpy()).all()


@pytest.mark.parametrize("kind", ["bf16", "q8_0", "q4_0"])
def test_a_fault_that_rounding_would_hide_is_found_in_a_file_of_8_bits(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    config = ExportConfig(types=(kind,), prompts=2, new_tokens=1, threads=1)
    folder = make(LlamaConfig)
    export(config, folder, tmp_path / "right")
    assert [file.name for file in (tmp_path / "right").glob("*.gguf")] == [f"model-{kind}.gguf"]
    monkeypatch.setattr(language, "rotate_pairs", lambda weight, width: weight)
    with pytest.raises(ExportError, match="text: probabilities diverge by"):
        export(config, folder, tmp_path / "wrong")


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (LlamaConfig, {"hidden_act": "gelu"}, "hidden_act gelu"),
        (MistralConfig, {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "rope_type"),
        (Qwen2Config, {"rope_parameters": YARN | {"beta_fast": 8.0}}, "beta_fast 8"),
        (Qwen3Config, {"attention_bias": True}, "attention_bias True"),
        (Gemma2Config, WINDOW | CAPS | {"query_pre_attn_scalar": 24}, "query_pre_attn_scalar 24"),
        (Gemma2Config, WINDOW | CAPS | {"final_logit_softcapping": None}, "final_logit_softcapping False"),
        (Gemma3TextConfig, WINDOW | CAPS, "attn_logit_softcapping True"),
    ],
)
def test_options_that_the_file_cannot_carry(
    tokenizer: PreTrainedTokenizerFast, kind: type, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ExportError, match=named):
        family_of(small(kind, tokenizer, **options), "folder")


def test_other_architectures_are_told_of_those_that_there_are() -> None:
    config = LlamaConfig()
    config.model_type = "mamba"
    with pytest.raises(ExportError, match="llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text"):
        family_of(config, "folder")


def test_a_context_is_one_window_where_llama_cpp_knows_none() -> None:
    mistral = MistralConfig(sliding_window=4096, max_position_embeddings=32768)
    assert context_length(mistral, FAMILIES["mistral"]) == 4096
    assert context_length(MistralConfig(sliding_window=None), FAMILIES["mistral"]) == 4096 * 32
    qwen = Qwen2Config(use_sliding_window=True, sliding_window=1024, max_window_layers=30)
    assert context_length(qwen, FAMILIES["qwen2"]) == 1024
    gemma = Gemma2Config(sliding_window=4096, max_position_embeddings=8192)
    assert context_length(gemma, FAMILIES["gemma2"]) == 8192
