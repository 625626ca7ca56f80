"""Every family that can be continued: documents apart in a sequence, an adapter trained, saved, merged and reloaded."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from caravan.recipe.train import PretrainConfig
from caravan.train import methods, pretrain
from caravan.train.dialogue_rows import collate, without_positions
from caravan.train.learner import keeps_documents_apart
from caravan.train.text_rows import open_sources, plan_text
from tests.models.test_grow import FAMILIES

IDS = torch.arange(20, 60).reshape(2, 20)
PACKED = {"llama", "qwen2, tied", "mistral", "gemma", "gpt2", "phi, bias in the head"}
# Those that each architecture has with a backward pass on a CPU; FlexAttention has none.
ATTENTION = {"bloom": ("eager",)}


def model_of(family, rows, attention="eager"):
    config = copy.deepcopy(FAMILIES[family])
    config.vocab_size = rows
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for parameter in model.parameters():
        if parameter.ndim > 1:
            # The weights that training starts from say nearly the same to anything.
            nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize(
    ("family", "attention"), [(name, a) for name in FAMILIES for a in ATTENTION.get(name, ("eager", "sdpa"))]
)
def test_a_packed_loss_is_the_sum_of_its_documents(family, attention, tokenizer, tokenizer_artifact):
    model = model_of(family, len(tokenizer), attention)
    apart = keeps_documents_apart(model)
    assert apart == (family in PACKED)
    config = PretrainConfig.model_validate({"length": 48, "steps": 1, "batch": 6, "micro_batch": 6})
    sources = open_sources(tokenizer_artifact.path / "packed", tokenizer, 7)
    rows = plan_text(sources, config, 7, tokenizer.pad_token_id, alone=not apart)
    batch = (collate if apart else without_positions)([rows[row] for row in range(len(rows))])
    options = {"use_cache": False, "num_items_in_batch": 1}
    packed = model.train()(**batch, **options).loss
    packed.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    model.zero_grad()
    total, tokens = torch.zeros(()), 0
    for row in range(len(rows)):
        for position, start, size in rows.plan.pieces(row):
            source, document = (int(part[position]) for part in rows.drawn)
            ids = torch.from_numpy(sources[source].ids(document, position)[start : start + size].astype(np.int64))[None]
            tokens += ids.shape[1]
            total = total + model(input_ids=ids, labels=ids, **options).loss
    assert tokens == rows.tokens.sum()
    total.backward()
    # fp32 sums in another order.
    torch.testing.assert_close(packed, total, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        torch.cat([p.grad.flatten() for p in model.parameters()]), gradient, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_trained_saved_and_merged(family, context, tokenizer, tokenizer_artifact, tmp_path, monkeypatch):
    pytest.importorskip("peft")
    model = model_of(family, len(tokenizer))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    said = []

    def save(tuned, *rest, **options):
        with torch.no_grad():
            said.append(tuned.eval()(input_ids=IDS).logits)
        return methods.save_trained(tuned, *rest, **options)

    monkeypatch.setattr(pretrain, "save_trained", save)
    ctx = context(tokenizer=tokenizer_artifact)
    options = {"from": "base", "length": 32, "steps": 2, "batch": 2, "micro_batch": 2, "precision": "fp32"}
    method = {"name": "lora", "embeddings": "all"}
    pretrain.run(PretrainConfig.model_validate({**options, "learning_rate": 1e-2, "method": method}), ctx)
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(ctx.out).eval()(input_ids=IDS).logits
        before = AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()(input_ids=IDS).logits
    torch.testing.assert_close(found, said[0], rtol=1e-3, atol=1e-3)
    assert (found - before).abs().max() > 0.05
