"""A model that is continued with other positions, and its loss against position."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from caravan.recipe.train import PretrainConfig
from caravan.train import pretrain
from caravan.train.positions import BINS, loss_by_position


@pytest.mark.parametrize(
    ("kind", "positions"),
    [("gpt2", {"rotary": True, "scaling": "ntk", "factor": 2}), ("llama", {"scaling": "yarn", "factor": 4})],
)
def test_a_model_learns_its_new_positions(kind, positions, context, tokenizer, tokenizer_artifact, llama, tmp_path):
    model = llama
    if kind == "gpt2":
        torch.manual_seed(0)
        shape = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 2}
        model = GPT2LMHeadModel(GPT2Config(**shape, vocab_size=len(tokenizer)))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    ctx = context(tokenizer=tokenizer_artifact)
    options = {"from": "base", "length": 64, "steps": 8, "batch": 4, "micro_batch": 4, "learning_rate": 2e-2}
    pretrain.run(PretrainConfig.model_validate({**options, "positions": positions}), ctx)
    after = AutoModelForCausalLM.from_pretrained(ctx.out)
    assert after.config.model_type == {"gpt2": "gpt_neox", "llama": "llama"}[kind]
    assert after.config.max_position_embeddings == {"gpt2": 64, "llama": 8192}[kind]
    loss = json.loads((ctx.out / "positions.json").read_text())["loss"]
    assert list(loss) == ["as it was", "positions changed", "trained"]
    # A table of 32 positions ends in the middle of the window.
    assert [len(curve) for curve in loss.values()] == [BINS // 2 if kind == "gpt2" else BINS, BINS, BINS]
    assert sum(loss["trained"]) < 0.95 * sum(loss["positions changed"])
    assert "<svg" in (ctx.out / "positions.html").read_text()


def test_the_curve_is_the_mean_loss_of_each_stretch(llama):
    texts = [torch.randint(12, 300, (BINS * 3,), generator=torch.Generator().manual_seed(n)) for n in range(2)]
    with torch.no_grad():
        logs = [torch.log_softmax(llama(text[None]).logits[0].double(), -1) for text in texts]
    losses = [
        [-float(log[at, text[at + 1]]) for at in range(len(text) - 1)] for log, text in zip(logs, texts, strict=True)
    ]
    found = loss_by_position(llama, texts)
    assert len(found) == BINS
    assert found[4] == pytest.approx(math.fsum(loss for row in losses for loss in row[12:15]) / 6, rel=1e-4)
    assert found[-1] == pytest.approx(math.fsum(loss for row in losses for loss in row[45:]) / 4, rel=1e-4)
