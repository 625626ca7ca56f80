"""Tiny tokenizer, models and artifacts: seconds in all."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.core.artifact import Artifact, Manifest
from caravan.core.stage import StageContext
from caravan.text.indexed import IndexedWriter
from caravan.text.tokens import CHAT_TEMPLATE, END_OF_TEXT, PAD, SPECIAL_TOKENS

SENTENCES = {
    "en": "the red circle is left of the blue square number {}",
    "de": "der rote Kreis ist links vom blauen Quadrat Nummer {}",
    "zh": "红色圆形在蓝色正方形的左边 {}",
}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([text.format(n) for text in SENTENCES.values() for n in range(20)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token=END_OF_TEXT,
        bos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        chat_template=CHAT_TEMPLATE,
    )


@pytest.fixture
def llama(tokenizer):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=64,
        )
    ).eval()


def artifact(path, kind: str) -> Artifact:
    manifest = Manifest(
        kind=kind, stage=kind, key="", files={}, parents={}, recipe={}, counts={}, seconds=0.0, versions={}
    )
    return Artifact(path, manifest)


@pytest.fixture
def tokenizer_artifact(tmp_path_factory, tokenizer):
    """A tokenizer folder with packed English, German and Chinese, and English-German pairs."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    (folder / "packed").mkdir()
    end = tokenizer.eos_token_id
    ids = {
        name: [tokenizer(text.format(n))["input_ids"] for n in range(count)]
        for (name, text), count in zip(SENTENCES.items(), (120, 40, 40), strict=True)
    }
    for name, documents in ids.items():
        with IndexedWriter(folder / "packed" / name, np.uint16) as writer:
            for document in documents:
                writer.add([*document, end])
    with IndexedWriter(folder / "packed" / "pair-en-de", np.uint16) as writer:
        for english, german in zip(ids["en"], ids["de"], strict=False):
            writer.add(english)
            writer.add(german)
    return artifact(folder, "tokenizer")


@pytest.fixture
def context(tmp_path):
    def make(name: str = "out", **inputs: Artifact) -> StageContext:
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        return StageContext(out=out, inputs=inputs, base=tmp_path, seed=7, languages=("en", "de", "zh"), name=name)

    return make
