"""A model given a language: its vocabulary grows, it is tuned, and it says the same in memory, in its folder, as peft's
adapter on the model that it came from, and as GGUF."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.core.artifact import write_manifest
from caravan.core.stage import StageContext
from caravan.engine import Engine
from caravan.export import stage as export
from caravan.models.adapters import put_on
from caravan.models.load import load_model
from caravan.recipe.export import ExportConfig
from caravan.recipe.tokenize import TokenizeConfig
from caravan.recipe.train import PretrainConfig
from caravan.tokenize import stage as tokenize
from caravan.train import methods, pretrain
from tests.export.conftest import sharpen
from tests.tokenize.conftest import corpus as corpus
from tests.tokenize.test_extend import byte_level, sentencepiece

pytest.importorskip("peft")
KINDS = {"sentencepiece": (sentencepiece, "<s>", "</s>"), "tiktoken": (byte_level, "<|begin|>", "<|over|>")}
TEXT = "商队在2021年把第3封信从港口送到市场。 The caravan trägt"


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits[0]


@pytest.fixture(params=KINDS)
def base(request, tmp_path):
    """A small Llama with a vocabulary of its own, which has no Chinese."""
    make, begin, end = KINDS[request.param]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make(), bos_token=begin, eos_token=end)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **shape))
    sharpen(model)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_a_grown_and_tuned_model_says_the_same_wherever_it_stands(base, corpus, tmp_path, monkeypatch):
    def context(name, **inputs):
        (tmp_path / name).mkdir()
        return StageContext(tmp_path / name, inputs, tmp_path, 7, ("en", "de", "zh"), name)

    def finished(ctx, kind):
        return write_manifest(
            ctx.out, kind=kind, stage=ctx.name, key=ctx.name, parents={}, recipe={}, counts={}, seconds=0.0
        )

    first = context("tokenize", corpus=corpus)
    tokenize.run(TokenizeConfig.model_validate({"extend": "base", "new_pieces": 80, "character_coverage": 0.9}), first)
    tokenizer = AutoTokenizer.from_pretrained(first.out)
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    old = LlamaForCausalLM.from_pretrained(base)
    rows = old.get_input_embeddings().weight.shape[0]
    assert max(ids) >= rows

    said = []

    def save(model, *rest, **options):
        said.append(logits(model, ids))
        return methods.save_trained(model, *rest, **options)

    monkeypatch.setattr(pretrain, "save_trained", save)
    second = context("pretrain", tokenizer=finished(first, "tokenizer"))
    lora = {"name": "lora", "r": 4, "embeddings": "all"}
    options = {"from": "base", "method": lora, "length": 64, "steps": 4, "batch": 2, "micro_batch": 2}
    pretrain.run(PretrainConfig.model_validate({**options, "precision": "fp32", "learning_rate": 1e-2}), second)

    reloaded, _ = load_model(second.out)
    torch.testing.assert_close(logits(reloaded, ids), said[0], rtol=1e-4, atol=1e-4)
    reloaded.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(logits(again, ids), logits(reloaded, ids))
    old.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    torch.testing.assert_close(logits(put_on(old, second.out / "adapter"), ids), said[0], rtol=1e-4, atol=1e-4)

    third = context("export", model=finished(second, "model"))
    export.run(ExportConfig(types=("f16",), prompts=2, new_tokens=4), third)
    with Engine(next(third.out.glob("*f16.gguf")), context=128, threads=1) as engine:
        assert engine.tokenize(TEXT) == ids
        for token, logprob in engine.next_logprobs(TEXT, [], top=5).items():
            # Weights of 11 bits: the rounding of a product over 64 values is a thousandth of it.
            assert logprob == pytest.approx(torch.log_softmax(said[0][-1], -1)[token].item(), abs=0.02)
