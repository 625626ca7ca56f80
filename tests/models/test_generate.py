"""Greedy answers in a batch, against the plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from caravan.core.errors import ModelError, PlaceholderError
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.models.generate import LoopGuard, generate, stop_ids
from caravan.text.repetition import LEAST
from tests.models.conftest import llama
from tests.models.test_fused import clips, pictures, prompt

END = 5


def greedy(model: torch.nn.Module, ids: list[int], steps: int, **media: torch.Tensor) -> list[int]:
    """One prompt, no padding, no cache, until a stop token."""
    answer: list[int] = []
    with torch.no_grad():
        while len(answer) < steps:
            token = int(model(input_ids=torch.tensor([ids + answer]), use_cache=False, **media).logits[0, -1].argmax())
            if token in (0, END):
                break
            answer.append(token)
    return answer


def test_batch_equals_each_alone(fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    prompts = [prompt("a", 20, "i", 30), [2, 40, 50], prompt("i", 60), prompt(2, "a", 21, "a", 22)]
    heard = [clips(1), None, None, clips(2, seed=5)]
    seen = [pictures(1), None, pictures(1, seed=3), None]
    together = generate(fused, tokenizer, prompts, heard, seen, max_new_tokens=6)
    for ids, fe, px, answer in zip(prompts, heard, seen, together, strict=True):
        media = {name: value for name, value in (("input_features", fe), ("pixel_values", px)) if value is not None}
        assert answer == greedy(fused, ids, 6, **media)
    assert len({tuple(answer) for answer in together}) > 1


def test_takes_numpy_and_leaves_training_mode(
    fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    fused.train()
    try:
        answers = generate(fused, tokenizer, [prompt("a", 20)], [clips().numpy()], max_new_tokens=3)
        assert fused.training
    finally:
        fused.eval()
    assert answers == generate(fused, tokenizer, [prompt("a", 20)], [clips()], max_new_tokens=3)


def test_stops_before_the_end_of_turn(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = llama(tied=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[END] = 0.0
    # All logits are equal, so that the first token would win: raise the end of the turn.
    bias = torch.zeros(320)
    bias[END] = 1.0
    model.lm_head.register_forward_hook(lambda _, __, output: output + bias)
    assert generate(model, tokenizer, [[20, 30], [40]], max_new_tokens=5) == [[], []]


def test_plain_text_model(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = llama(tied=False).eval()
    prompts = [[20, 30, 40], [50], [60, 70, 80, 90, 100]]
    assert generate(model, tokenizer, prompts, max_new_tokens=5) == [greedy(model, ids, 5) for ids in prompts]


def test_stop_tokens_are_the_texts_end_and_the_turns(
    fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast
) -> None:
    assert stop_ids(fused, tokenizer) == [0, END]


def test_no_prompts(fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    assert generate(fused, tokenizer, []) == []


def test_wrong_input(fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ModelError, match="an empty prompt"):
        generate(fused, tokenizer, [[20], []])
    with pytest.raises(ModelError, match=r"differ in number[\s\S]*expected: 1[\s\S]*got: 2"):
        generate(fused, tokenizer, [[20]], [None, None])
    with pytest.raises(PlaceholderError):
        generate(fused, tokenizer, [prompt("a", 20)])
    with pytest.raises(PlaceholderError):
        generate(fused, tokenizer, [[20]], [np.zeros((1, 80, 3000), np.float32)])


def test_only_the_looping_answers_of_a_batch_end() -> None:
    guard = LoopGuard(40)
    prompt = torch.full((2, 40), 5)
    assert guard(torch.cat([prompt, torch.tensor([[1], [2]])], 1), None).tolist() == [False, False]
    looping = torch.tensor([[7, 8] * (LEAST // 2), [*range(LEAST)]])
    assert guard(torch.cat([prompt, looping], 1), None).tolist() == [True, False]


def test_a_guarded_answer_that_runs_away_is_cut_to_one_unit(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = llama(tied=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    # All logits are equal: the first token, which ends answers here, would win; raise another.
    model.lm_head.register_forward_hook(lambda *call: call[2] + torch.eye(call[2].shape[-1])[9])
    prompts = [[2, 40, 50], [2, 60]]
    assert generate(model, tokenizer, prompts, max_new_tokens=60) == [[9] * 60] * 2
    assert generate(model, tokenizer, prompts, max_new_tokens=60, guard=True) == [[9]] * 2
