"""Bits per byte: how well a model predicts text, comparable between tokenizers, languages and roundings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def bits_per_byte(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int
) -> float | None:
    """Cross-entropy of the texts in bits over their UTF-8 bytes; None without text.

    Each document stands for itself behind the end-of-text token; longer ones are cut into windows of `length` tokens,
    each of which starts with the last token of the window before it.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    nats, size = 0.0, 0
    for text in texts:
        ids = [int(start), *tokenizer(text, add_special_tokens=False)["input_ids"]]
        size += len(text.encode())
        for first in range(0, len(ids) - 1, length):
            ids_T = torch.tensor(ids[first : first + length + 1], device=model.device)
            with torch.inference_mode():
                logits_TV = model(input_ids=ids_T[None, :-1], use_cache=False).logits[0]
            nats += float(torch.nn.functional.cross_entropy(logits_TV.float(), ids_T[1:], reduction="sum"))
    return nats / math.log(2) / size if size else None
