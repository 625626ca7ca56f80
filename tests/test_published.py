"""Recipes of published systems: each small twin of theirs walks its road, on a language model from elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.recipe.load import load_recipe
from caravan.road import Walk
from caravan.text.tokens import SPECIAL_TOKENS
from caravan.train.growth import made_to_chat
from tests.tokenize.test_extend import byte_level, sentencepiece

RECIPES = Path(__file__).parents[1] / "recipes"
TWINS = sorted((RECIPES / "tiny").glob("*.yaml"))
# What each publication attached, and what it trained besides projectors.
SHAPES = {
    "llasm": ("decoder64", None, "full"),
    "chinese-llava": (None, "linear", "full"),
    "pandagpt": ("linear", "linear", "lora"),
    "visualglm": (None, "qformer", "lora"),
}


KINDS = {"tiktoken": (byte_level, "<|begin|>", "<|over|>"), "sentencepiece": (sentencepiece, "<s>", "</s>")}


def foreign(kind, folder):
    """A small Llama that knows nothing of turns, sounds and pictures."""
    make, begin, end = KINDS[kind]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make(), bos_token=begin, eos_token=end)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **shape))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_from_elsewhere_gets_what_a_chat_needs(kind, tmp_path):
    source = foreign(kind, tmp_path / "theirs")
    name, tokenizer = made_to_chat(source, tmp_path)
    before, after = (AutoModelForCausalLM.from_pretrained(each) for each in (source, name))
    own = AutoTokenizer.from_pretrained(source)
    assert set(SPECIAL_TOKENS) <= set(tokenizer.get_vocab())
    assert (tokenizer.bos_token, tokenizer.eos_token) == (own.bos_token, own.eos_token)
    assert "audio" in tokenizer.chat_template
    rows, old = after.get_input_embeddings().weight, before.get_input_embeddings().weight
    assert len(rows) >= len(tokenizer) > len(own)
    assert torch.equal(rows[: len(own)], old)
    torch.testing.assert_close(rows[len(own) : len(tokenizer)], old.mean(0).expand(len(tokenizer) - len(own), -1))
    assert made_to_chat(source, tmp_path)[0] == name
    saved = tmp_path / "again"
    after.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    assert made_to_chat(str(saved), tmp_path)[0] == str(saved), "a model that has all is taken as it is"


@pytest.mark.parametrize("twin", TWINS, ids=lambda file: file.stem)
def test_a_small_twin_walks_its_road(twin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(twin, [f"align.text={foreign('tiktoken', tmp_path / 'theirs')}"])
    full = load_recipe(RECIPES / twin.name)
    for part in (recipe, full):
        speech, vision, method = SHAPES[twin.stem]
        assert (part.align.speech_projector.name if part.align.speech else None) == speech
        assert (part.align.vision_projector.name if part.align.vision else None) == vision
        assert part.sft.method.name == method
    *_, tuned, judged = Walk(recipe).run()
    config = json.loads((tuned.artifact.path / "config.json").read_text())
    assert (config["speech_config"] is None, config["vision_config"] is None) == (speech is None, vision is None)
    report = json.loads((judged.artifact.path / "report.json").read_text())
    tasks = {"transcribe", "speech"} if speech else set()
    tasks |= {"caption", "picture"} if vision else set()
    assert {score["task"] for score in report["scores"]} == tasks | {"chat"} | (
        {"both"} if speech and vision else set()
    )
