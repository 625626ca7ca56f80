"""Greedy answers of a model, plain or fused, for a batch of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from caravan.core.errors import ModelError
from caravan.models.adapters import quiet_peft
from caravan.text.repetition import cut_loop, loop

Features = Any  # a tensor or a numpy array


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    input_features: Sequence[Features | None] | None = None,
    pixel_values: Sequence[Features | None] | None = None,
    max_new_tokens: int = 64,
    *,
    guard: bool = False,
) -> list[list[int]]:
    """The most likely continuation of each prompt, token by token, without the token that ends it.

    Prompts are padded on the left and masked, so that an answer does not depend on its neighbours in the batch.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        prompts: ids, each placeholder as often as its medium has tokens.
        input_features: for each prompt [W, n_mels, 3000], its clips' windows in order, or None.
        pixel_values: for each prompt [I, 3, S, S], its pictures in order, or None.
        max_new_tokens: the longest answer.
        guard: end an answer that runs away, and cut the loop at its end down to one unit; others stay as they are.

    Raises:
        ModelError: an empty prompt, or media for another number of prompts.
        PlaceholderError: placeholders and media do not match.
    """
    if not prompts:
        return []
    if len(prompts) > 1 and hasattr(model, "peft_config"):
        # peft puts virtual tokens before the padding, so far from a shorter prompt as it is padded.
        none = [None] * len(prompts)
        each = zip(prompts, input_features or none, pixel_values or none, strict=True)
        return [generate(model, tokenizer, [ids], [a], [b], max_new_tokens, guard=guard)[0] for ids, a, b in each]
    if not all(len(prompt) for prompt in prompts):
        raise ModelError("an empty prompt", expected="at least one token", got="none", fix="leave it out")
    stop = stop_ids(model, tokenizer)
    pad = stop[0] if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    longest = max(len(prompt) for prompt in prompts)
    ids_BT = torch.full((len(prompts), longest), pad)
    mask_BT = torch.zeros_like(ids_BT)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.tensor(list(prompt))
        mask_BT[row, longest - len(prompt) :] = 1
    media = {
        "input_features": _gather(input_features, len(prompts), "input_features"),
        "pixel_values": _gather(pixel_values, len(prompts), "pixel_values"),
    }
    config = GenerationConfig(
        do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=stop, pad_token_id=pad, use_cache=True
    )
    answering: Any = model
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), quiet_peft():
            output_BT = answering.generate(
                input_ids=ids_BT.to(model.device),
                attention_mask=mask_BT.to(model.device),
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([LoopGuard(longest)] if guard else []),
                **{name: value.to(model.device) for name, value in media.items() if value is not None},
            )
    finally:
        model.train(training)
    written = [_until(row, stop) for row in output_BT[:, longest:].tolist()]
    return [cut_loop(ids) for ids in written] if guard else written


class LoopGuard(StoppingCriteria):
    """The decoding guard: ends each answer of a batch whose ids after the first `prompt` end in a loop."""

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        ended = [loop(ids) is not None for ids in input_ids[:, self.prompt :].tolist()]
        return torch.tensor(ended, device=input_ids.device)


def stop_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end an answer: the model's, the tokenizer's, and what the chat template ends a turn with.

    Raises:
        ModelError: there is none.
    """
    return ending_ids(getattr(model.generation_config, "eos_token_id", None), tokenizer)


def ending_ids(configured: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """`stop_ids` of a model that is not loaded, from its config's `eos_token_id`: one id, several or None."""
    found = list(configured) if isinstance(configured, (list, tuple)) else [configured]
    found.append(tokenizer.eos_token_id)
    if tokenizer.chat_template:
        turn = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tokenize=False)
        special = [id_ for id_ in tokenizer(turn, add_special_tokens=False)["input_ids"] if _is_special(tokenizer, id_)]
        found += special[-1:]
    stop = list(dict.fromkeys(int(id_) for id_ in found if id_ is not None))
    if not stop:
        raise ModelError("nothing ends an answer", expected="an eos token in the tokenizer", got="none")
    return stop


def _is_special(tokenizer: PreTrainedTokenizerBase, token_id: int) -> bool:
    return token_id in tokenizer.added_tokens_decoder


def _until(ids: list[int], stop: list[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stop), len(ids))
    return ids[:end]


def _gather(per_prompt: Sequence[Features | None] | None, prompts: int, name: str) -> Tensor | None:
    if per_prompt is None:
        return None
    if len(per_prompt) != prompts:
        raise ModelError("media and prompts differ in number", expected=prompts, got=len(per_prompt), where=name)
    parts = [torch.as_tensor(np.asarray(part)) for part in per_prompt if part is not None and len(part)]
    return torch.cat(parts) if parts else None
