from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.evaluate.answers import torch_answers
from caravan.text.repetition import LEAST, runs_away


@pytest.fixture(scope="module")
def parrot(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Says one letter for ever: its head has one row that wins over all."""
    torch.manual_seed(1)
    looping = LlamaForCausalLM(model.config)
    with torch.no_grad():
        for layer in looping.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        looping.model.embed_tokens.weight.fill_(1.0)
        looping.lm_head.weight.zero_()
        looping.lm_head.weight[tokenizer("a")["input_ids"][-1]] = 1.0
    return looping.eval()


def test_a_runaway_answer_is_ended_and_cut(
    parrot: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, row: Any
) -> None:
    rows = [row("1", "x"), row("2", "x")]
    away = torch_answers(parrot, tokenizer, 200)(rows)
    assert all(map(runs_away, away))
    steps: list[int] = []
    handle = parrot.lm_head.register_forward_hook(lambda *_: steps.append(1))
    guarded = torch_answers(parrot, tokenizer, 200, guard=True)(rows)
    handle.remove()
    assert len(steps) <= LEAST + 1, "200 without the guard"
    assert guarded == ["a"] * 2


def test_other_answers_stay(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, row: Any) -> None:
    rows = [row(str(i), "x") for i in range(2)]
    plain = torch_answers(model, tokenizer, 8)(rows)
    assert torch_answers(model, tokenizer, 8, guard=True)(rows) == plain
