"""Positions changed: held against the formulas of the papers, and against the model before."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from caravan.core.errors import ModelError
from caravan.models.positions import rotary_width, stretch, to_rotary

WIDE = {"hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
FACTOR, HEAD, WINDOW, THETA = 4.0, 32, 64, 10_000.0


def config() -> LlamaConfig:
    rope = {"rope_type": "default", "rope_theta": THETA}
    return LlamaConfig(**WIDE, max_position_embeddings=WINDOW, rope_parameters=rope)


def stretched(scaling: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    changed = config()
    stretch(changed, scaling, FACTOR)  # type: ignore[arg-type]
    assert changed.max_position_embeddings == WINDOW * FACTOR
    return LlamaForCausalLM(changed).eval()


def speeds(model: LlamaForCausalLM) -> list[float]:
    return [float(value) for value in model.model.rotary_emb.inv_freq]


def test_linear_scaling_reads_a_position_as_the_one_a_factor_before() -> None:
    torch.manual_seed(0)
    before, after = LlamaForCausalLM(config()).eval(), stretched("linear")
    ids, positions = torch.arange(12)[None], torch.arange(12)[None]
    with torch.no_grad():
        expected = before(input_ids=ids, position_ids=positions).logits
        found = after(input_ids=ids, position_ids=positions * int(FACTOR)).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_ntk_leaves_the_fastest_pair_and_slows_the_slowest_by_the_factor() -> None:
    found = speeds(stretched("ntk"))
    assert found[0] == 1.0
    assert found[-1] == pytest.approx(THETA ** (-(HEAD - 2) / HEAD) / FACTOR, rel=1e-5)
    assert stretched("ntk").config.rope_parameters["rope_type"] == "default"


def test_yarn_is_the_papers() -> None:
    """Pairs that turn over 32 times in the old window stay, those under once are slowed, with a ramp between."""

    def pair(turns: float) -> float:
        return HEAD * math.log(WINDOW / (turns * 2 * math.pi)) / (2 * math.log(THETA))

    low, high = max(math.floor(pair(32)), 0), min(math.ceil(pair(1)), HEAD - 1)
    expected = []
    for index in range(HEAD // 2):
        speed = THETA ** (-2 * index / HEAD)
        slowed = min(max((index - low) / (high - low), 0.0), 1.0)
        expected.append(speed / FACTOR * slowed + speed * (1 - slowed))
    model = stretched("yarn")
    assert speeds(model) == pytest.approx(expected, rel=1e-5)
    assert model.model.rotary_emb.attention_scaling == pytest.approx(0.1 * math.log(FACTOR) + 1)


def test_learned_positions_give_way_to_rotary_ones_and_nothing_else_changes(tmp_path: Path) -> None:
    """Without either kind of position, both say the same."""
    torch.manual_seed(0)
    ends = {"bos_token_id": 1, "eos_token_id": 2}
    old = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=60, n_positions=40, **ends)).eval()
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    old.transformer.wpe.weight.data.zero_()
    old.save_pretrained(tmp_path / "old")
    to_rotary(str(tmp_path / "old"), tmp_path / "new")
    new = GPTNeoXForCausalLM.from_pretrained(tmp_path / "new").eval()
    assert rotary_width(new.config) == 8
    ids = torch.arange(40)[None]
    with torch.no_grad():
        turned = new(ids).logits
        new.gpt_neox.rotary_emb.inv_freq.zero_()
        torch.testing.assert_close(new(ids).logits, old(ids).logits, rtol=1e-5, atol=1e-5)
        assert (turned - new(ids).logits).abs().max() > 0.01


def test_what_cannot_be_changed_is_said(tmp_path: Path) -> None:
    changed = config()
    stretch(changed, "linear", 2.0)
    for wrong in (changed, GPT2Config()):
        with pytest.raises(ModelError, match="the window of this model cannot be made longer"):
            stretch(wrong, "yarn", 2.0)
    small = {"n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2}
    GPT2LMHeadModel(GPT2Config(**small, scale_attn_by_inverse_layer_idx=True)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot give way to rotary ones"):
        to_rotary(str(tmp_path), tmp_path / "new")
