"""A LoRA adapter on its model's file says in the engine what it says in torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from caravan.core.errors import ExportError
from caravan.core.files import read_json, write_json
from caravan.export import adapter
from caravan.export.adapter import FILE, check_adapter, export_adapter, scale_of
from caravan.export.stage import export_folder
from caravan.models.adapters import wrap
from caravan.models.load import load_model
from caravan.recipe.export import ExportConfig
from tests.export.conftest import save, with_senses
from tests.export.test_families import small

peft = pytest.importorskip("peft")
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
QUICK = ExportConfig(prompts=2, new_tokens=2, threads=1, max_logprob_delta=0.02)
Make = Callable[..., Path]


@pytest.fixture
def make(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Make:
    """Writes a model and an adapter of it; returns the adapter's folder."""

    def both(model: Any, **options: Any) -> Path:
        base = save(model, tokenizer, tmp_path / "base")
        loaded, _ = load_model(base)
        settings = {"r": 4, "lora_alpha": 6, "target_modules": LINEAR, "init_lora_weights": False} | options
        torch.manual_seed(0)
        tuned = wrap(loaded, peft.LoraConfig(**settings))
        tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
        return tmp_path / "adapter"

    return both


def test_every_linear_layer_and_the_head(make: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(small(LlamaConfig, tokenizer))
    folder = make(model, target_modules=[*LINEAR, "lm_head"])
    artifact = export_folder(QUICK, folder, tmp_path / "out")
    parity = artifact.counts["parity"]["adapter on f16"]["text"]
    assert parity["agreement"] == 1
    assert sorted(file.name for file in (tmp_path / "out").glob("*.gguf")) == [FILE]
    tensors = {tensor.name for tensor in GGUFReader(tmp_path / "out" / FILE).tensors}
    assert len(tensors) == 2 * (7 * 2 + 1)
    assert "output.weight.lora_a" in tensors


def test_scales_by_layer_and_no_pairs(make: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(small(Qwen3Config, tokenizer, head_dim=32))
    patterns = {"alpha_pattern": {"layers.1.self_attn.q_proj": 12}, "rank_pattern": {"up_proj": 2}}
    export_adapter(QUICK, make(model, use_rslora=True, **patterns), tmp_path / "out")


def test_of_a_model_with_senses(make: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    text = small(LlamaConfig, tokenizer, max_position_embeddings=512)
    folder = make(with_senses(text, tokenizer), target_modules=r".*language_model.*\.(q|v|down)_proj")
    config = QUICK.model_copy(update={"prompts": 1, "max_logprob_delta": 0.03})
    parity = export_adapter(config, folder, tmp_path / "out")["parity"]
    assert list(parity["adapter on f16"]) == ["text", "audio", "image", "both"]


def test_a_wrong_scale_is_found(
    make: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "scale_of", lambda *_: 1.0)
    folder = make(AutoModelForCausalLM.from_config(small(LlamaConfig, tokenizer)))
    with pytest.raises(ExportError, match="adapter.gguf: the exported file does not say what torch says"):
        export_adapter(QUICK, folder, tmp_path / "out")


def test_what_is_no_factor_of_a_linear_layer_is_named(
    make: Make, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = make(AutoModelForCausalLM.from_config(small(LlamaConfig, tokenizer)), target_modules=["embed_tokens"])
    with pytest.raises(ExportError, match=r"embed_tokens.lora_embedding_A: .*merge|[\s\S]*merge it into its model"):
        export_adapter(QUICK, folder, tmp_path / "out")
    write_json(folder / "adapter_config.json", read_json(folder / "adapter_config.json") | {"use_dora": True})
    with pytest.raises(ExportError, match="got: LORA, use_dora"):
        export_adapter(QUICK, folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"peft_type": "LORA", "bias": "all"}, "bias all"),
        ({"peft_type": "LORA", "modules_to_save": ["lm_head"]}, "modules_to_save"),
    ],
)
def test_other_adapters_are_refused(settings: dict[str, Any], got: str) -> None:
    with pytest.raises(ExportError, match=got):
        check_adapter(settings, "adapter_config.json")


def test_scales_are_peft_s() -> None:
    settings: dict[str, Any] = {"lora_alpha": 8, "alpha_pattern": {r"layers\.1\..*": 32}}
    assert scale_of(settings, "model.layers.0.mlp.up_proj", 4) == 2
    assert scale_of(settings, "model.layers.1.mlp.up_proj", 4) == 8
    assert scale_of(settings | {"use_rslora": True}, "model.layers.0.mlp.up_proj", 4) == 4
