"""LoRA adapters merged and taken out again, beside what peft makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from caravan.convert.run import convert
from caravan.core.errors import ModelError, UsageError
from caravan.models.adapters import wrap
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import assert_same, gpt2, llama, tensors

peft = pytest.importorskip("peft")
Saved = Callable[..., Path]

KINDS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "plain": (llama, {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "ranks": (
        llama,
        {
            "target_modules": ["q_proj", "up_proj"],
            "use_rslora": True,
            "rank_pattern": {"layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"up_proj": 5},
        },
    ),
    "conv1d": (gpt2, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "table": (llama, {"target_modules": ["embed_tokens", "o_proj"]}),
    "whole": (llama, {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "rows": (llama, {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [5, 90]}}),
}


def made(kind: str, folder: Path, base: Path) -> Any:
    """An adapter of some kind in a folder, its values drawn; the model that wears it."""
    config = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **KINDS[kind][1])
    model = wrap(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder, save_embedding_layers=False)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_merged_as_peft_merges(kind: str, saved: Saved, tmp_path: Path) -> None:
    base = saved(KINDS[kind][0](), "base")
    merged = made(kind, tmp_path / "adapter", base).merge_and_unload()
    convert(tmp_path / "adapter", tmp_path / "merged", ConvertConfig(base=base))
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(96)[None, :40]
    with torch.no_grad():
        found, expected = ours(ids).logits, merged(ids).logits
    for (name, value), (_, want) in zip(ours.state_dict().items(), merged.state_dict().items(), strict=True):
        torch.testing.assert_close(value, want, rtol=1e-6, atol=1e-6, msg=name)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_taken_out_again_within_the_bound(saved: Saved, tmp_path: Path, dtype: torch.dtype) -> None:
    base = saved(llama(), "base", dtype)
    made("plain", tmp_path / "adapter", base)
    convert(tmp_path / "adapter", tmp_path / "merged", ConvertConfig(base=base))
    convert(tmp_path / "merged", tmp_path / "plain", ConvertConfig(to="unmerged", adapter=tmp_path / "adapter"))
    before, merged, after = tensors(base), tensors(tmp_path / "merged"), tensors(tmp_path / "plain")
    unit = torch.finfo(dtype).eps / 2
    moved = 0
    for name, value in before.items():
        # Sums in float32 round too; below the smallest normal number a rounding is absolute.
        bound = (unit + 2**-23) * (merged[name].double().abs() + value.double().abs()) * (1 + 2 * unit)
        off = (after[name].double() - value.double()).abs()
        assert bool((off <= bound + torch.finfo(dtype).tiny).all()), name
        moved += int(not torch.equal(merged[name], value))
    assert moved == 6  # three matrices in two layers
    assert before.keys() == after.keys()


def test_what_took_anothers_place_comes_from_the_base(saved: Saved, tmp_path: Path) -> None:
    base = saved(llama(), "base")
    made("whole", tmp_path / "adapter", base)
    convert(tmp_path / "adapter", tmp_path / "merged", ConvertConfig(base=base))
    config = ConvertConfig(to="unmerged", adapter=tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        convert(tmp_path / "merged", tmp_path / "plain", config)
    convert(tmp_path / "merged", tmp_path / "plain", config.model_copy(update={"base": base}))
    assert torch.equal(tensors(tmp_path / "plain")["lm_head.weight"], tensors(base)["lm_head.weight"])
    assert not torch.equal(tensors(tmp_path / "merged")["lm_head.weight"], tensors(base)["lm_head.weight"])


def test_an_adapter_needs_its_own_base(saved: Saved, tmp_path: Path) -> None:
    base = saved(llama(), "base")
    made("plain", tmp_path / "adapter", base)
    with pytest.raises(UsageError, match="belongs to a base"):
        convert(tmp_path / "adapter", tmp_path / "merged", ConvertConfig())
    with pytest.raises(ModelError, match="not of this model"):
        convert(tmp_path / "adapter", tmp_path / "merged", ConvertConfig(base=saved(llama(hidden_size=64), "other")))


def test_magnitudes_are_refused(saved: Saved, tmp_path: Path) -> None:
    base = saved(llama(), "base")
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], use_dora=True)
    wrap(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="lora_magnitude"):
        convert(tmp_path / "adapter", tmp_path / "merged", ConvertConfig(base=base))
    assert not (tmp_path / "merged").exists()


def test_old_folders_of_pickled_weights_are_read(saved: Saved, tmp_path: Path) -> None:
    expected = saved(llama(), "base")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.json").write_bytes((expected / "config.json").read_bytes())
    torch.save(tensors(expected), tmp_path / "old/pytorch_model.bin")
    convert(tmp_path / "old", tmp_path / "new", ConvertConfig())
    assert_same(tmp_path / "new", expected)
