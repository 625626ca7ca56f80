"""Pretraining end to end at the smallest size."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from caravan.core.errors import TokenizerMismatchError
from caravan.recipe.train import PretrainConfig
from caravan.train import pretrain

SHAPE = {"hidden_size": 32, "layers": 1, "heads": 2}
SMALL = {"model": SHAPE, "length": 64, "steps": 12, "batch": 8, "micro_batch": 4, "save_every": 5}


def test_learns_and_leaves_a_model_folder(context, tokenizer_artifact):
    ctx = context(tokenizer=tokenizer_artifact)
    counts = pretrain.run(PretrainConfig(**SMALL, learning_rate=1e-2), ctx)
    lines = [json.loads(line) for line in (ctx.out / "train.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert lines[-1]["loss"] < 0.7 * lines[0]["loss"]
    assert counts["final_loss"] == lines[-1]["loss"]
    assert lines[-1]["tokens"] == counts["tokens"] <= 12 * 8 * 64
    assert sum(counts["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert "<svg" in (ctx.out / "train.html").read_text()
    model = AutoModelForCausalLM.from_pretrained(ctx.out)
    assert model.config.use_cache
    assert len(AutoTokenizer.from_pretrained(ctx.out)) == model.config.vocab_size
    assert not (ctx.out / "checkpoints").exists()
    assert not (ctx.out / "work").exists()


def test_continues_a_model_and_gives_new_tokens_the_mean(context, tokenizer_artifact, tokenizer, llama, tmp_path):
    small = llama.resize_token_embeddings(len(tokenizer) - 3) and llama
    own = tokenizer.backend_tokenizer.to_str()
    vocabulary = json.loads(own)
    last = [token for token, index in vocabulary["model"]["vocab"].items() if index >= len(tokenizer) - 3]
    for token in last:
        del vocabulary["model"]["vocab"][token]
    vocabulary["model"]["merges"] = [m for m in vocabulary["model"]["merges"] if "".join(m) not in last]
    folder = tmp_path / "own"
    small.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    model = pretrain.continued(str(folder), tokenizer)
    table = model.get_input_embeddings().weight
    assert len(table) == len(tokenizer)
    torch.testing.assert_close(table[-1], table[:-3].mean(0))
    torch.testing.assert_close(model.lm_head.weight[-2], model.lm_head.weight[:-3].mean(0))


def test_refuses_a_model_of_another_vocabulary(context, tokenizer, llama, tmp_path):
    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())
    ids = vocabulary["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    llama.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(TokenizerMismatchError, match="2 of [0-9]+ tokens"):
        pretrain.continued(str(tmp_path), tokenizer)
