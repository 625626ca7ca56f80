from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from caravan.evaluate.bits import measure
from caravan.models.bits import bits_per_byte
from caravan.text.indexed import IndexedWriter


class Uniform:
    """Gives every token the same probability, and notes the windows it is shown."""

    device = torch.device("cpu")

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.windows: list[list[int]] = []

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        self.windows.append(input_ids[0].tolist())
        return SimpleNamespace(logits=torch.zeros(1, input_ids.shape[1], self.vocabulary))


def test_a_uniform_model_needs_the_logarithm_of_its_vocabulary(tokenizer: PreTrainedTokenizerFast) -> None:
    uniform: Any = Uniform(256)
    # Seven bytes: seven tokens of eight bits.
    assert bits_per_byte(uniform, tokenizer, ["заяц"[:3] + "!"], 256) == pytest.approx(8.0)
    assert len(uniform.windows[0]) == 7


@pytest.mark.parametrize("length", [1, 3, 5, 100])
def test_windows_predict_every_token_once(tokenizer: PreTrainedTokenizerFast, length: int) -> None:
    uniform: Any = Uniform(512)
    texts = ["hello", "a longer text"]
    assert bits_per_byte(uniform, tokenizer, texts, length) == pytest.approx(math.log2(512))
    shown = sum(len(window) for window in uniform.windows)
    assert shown == sum(len(text) for text in texts)
    assert all(len(window) <= length for window in uniform.windows)
    assert uniform.windows[0][0] == tokenizer.bos_token_id


def test_no_text_gives_no_figure(tokenizer: PreTrainedTokenizerFast) -> None:
    uniform: Any = Uniform(512)
    assert bits_per_byte(uniform, tokenizer, [], 8) is None


def test_held_out_documents_are_read_up_to_a_size(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Any, make_artifact: Any
) -> None:
    folder = tmp_path / "tokenizer"
    tokenizer.save_pretrained(folder)
    (folder / "packed/heldout").mkdir(parents=True)
    with IndexedWriter(folder / "packed/heldout/en", "uint16") as writer:
        for text in ("ten bytes!", "ten bytes.", "never read"):
            writer.add(tokenizer(text)["input_ids"] + [tokenizer.bos_token_id])
    uniform: Any = Uniform(512)
    heldout = make_artifact(folder, "tokenizer")
    result = measure(uniform, tokenizer, heldout, ["en", "de"], most_bytes=15, length=64)
    assert result == {"en": pytest.approx(9.0)}
    assert len(uniform.windows) == 2
