"""Pretraining end to end at the smallest size."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from caravan.core.errors import TokenizerMismatchError
from caravan.recipe.train import PretrainConfig
from caravan.text.chat import load_tokenizer
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


@pytest.fixture
def own(tokenizer, llama, tmp_path):
    """A model whose tokenizer lacks the run's last three tokens, and whose table has two rows more than tokens."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    size = len(tokenizer) - 3
    last = [token for token, index in backend["model"]["vocab"].items() if index >= size]
    for token in last:
        del backend["model"]["vocab"][token]
    backend["model"]["merges"] = [merge for merge in backend["model"]["merges"] if "".join(merge) not in last]
    llama.resize_token_embeddings(size + 2, mean_resizing=False)
    folder = tmp_path / "own"
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(backend))
    return folder


@pytest.mark.parametrize("name", ["own", "absolute"])
def test_continues_a_model_with_rows_for_new_tokens_by_their_ids(
    context, tokenizer_artifact, tokenizer, llama, own, name
):
    config = PretrainConfig(**{"from": "own" if name == "own" else str(own)})
    ctx = context(tokenizer=tokenizer_artifact)
    name, new_ids = pretrain.source_of(config, ctx, tokenizer)
    model = pretrain.opened(name, config, ctx, tokenizer)
    assert new_ids == list(range(len(tokenizer) - 3, len(tokenizer)))
    backend = load_tokenizer(own).backend_tokenizer
    for old, new in (
        (llama.get_input_embeddings().weight, model.get_input_embeddings().weight),
        (llama.lm_head.weight, model.lm_head.weight),
    ):
        assert len(new) == len(tokenizer)
        for index in range(len(tokenizer) - 3, len(tokenizer)):
            pieces = [part.id for part in backend.model.tokenize(tokenizer.convert_ids_to_tokens(index))]
            assert len(pieces) > 1
            torch.testing.assert_close(new[index], old[pieces].mean(0))
        assert torch.equal(new[: len(tokenizer) - 3], old[: len(tokenizer) - 3])


def test_a_continued_model_is_trained_and_saved_whole(context, tokenizer_artifact, tokenizer, own):
    ctx = context(tokenizer=tokenizer_artifact)
    counts = pretrain.run(PretrainConfig(**{**SMALL, "from": "own", "steps": 2}), ctx)
    model = AutoModelForCausalLM.from_pretrained(ctx.out)
    assert model.config.vocab_size == len(tokenizer)
    assert counts["parameters"] == model.num_parameters()
    assert not (ctx.out / "work").exists()


def test_refuses_a_model_of_another_vocabulary(context, tokenizer_artifact, tokenizer, llama, tmp_path):
    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())
    ids = vocabulary["model"]["vocab"]
    ids["a"], ids["b"] = ids["b"], ids["a"]
    llama.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(TokenizerMismatchError, match="2 of [0-9]+ tokens"):
        pretrain.source_of(PretrainConfig(**{"from": "other"}), context(tokenizer=tokenizer_artifact), tokenizer)
