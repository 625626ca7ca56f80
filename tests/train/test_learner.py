"""Computing only what is learnt changes nothing in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caravan.models.compose import compose
from caravan.recipe.train import PretrainConfig, SftConfig
from caravan.train.dialogue_rows import collate
from caravan.train.learner import SHORT, learner
from caravan.train.pack import assemble


@pytest.fixture
def fused(llama, tokenizer, encoder_folders, tmp_path):
    llama.save_pretrained(tmp_path)
    torch.manual_seed(0)
    return compose(tmp_path, tokenizer, speech=None, vision=encoder_folders.path / "vision")


def packed() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(3)
    rows = []
    for _ in range(2):
        ids = [np.concatenate([[9] + [10] * 4 + [11], rng.integers(12, 300, 12)]) for _ in range(2)]
        pieces = [(each, rng.random(18) < 0.3) for each in ids]
        rows.append({**assemble(pieces, 40, 1), "pixel_values": rng.standard_normal((2, 3, 16, 16), np.float32)})
    return collate(rows)


@pytest.mark.parametrize("length", [40, SHORT + 1])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradient_are_the_models_own(fused, length, checkpointing):
    batch = packed()
    fused.train()
    loss = fused(**batch, use_cache=False, num_items_in_batch=7).loss
    loss.backward()
    own = {name: p.grad.clone() for name, p in fused.named_parameters() if p.grad is not None}
    fused.zero_grad()
    learning, task = learner(fused, "sft", SftConfig(activation_checkpointing=checkpointing), length)
    learnt = learning(**batch, **task.flags, num_items_in_batch=7)["loss"]
    torch.testing.assert_close(learnt, loss)
    learnt.backward()
    assert {name.removeprefix("fused.") for name in task.rates} == own.keys()
    for name, gradient in own.items():
        torch.testing.assert_close(dict(fused.named_parameters())[name].grad, gradient, rtol=1e-3, atol=1e-6)


def test_without_a_count_it_is_the_mean_over_what_is_learnt(fused):
    batch = packed()
    learning, task = learner(fused, "sft", SftConfig(), 40)
    torch.testing.assert_close(learning(**batch, **task.flags)["loss"], fused(**batch, use_cache=False).loss)


def test_short_text_is_packed_without_a_leak_too(llama):
    learning, task = learner(llama, "pretrain", PretrainConfig(), 48)
    one, two = np.arange(20, 31), np.arange(40, 60)
    rows = [assemble([(first, None), (two, None)], 48, 1) for first in (one, one[::-1].copy())]
    logits = learning(**collate(rows), **task.flags).logits
    assert not torch.allclose(logits[0, :11], logits[1, :11])
    torch.testing.assert_close(logits[0, 11:], logits[1, 11:])
