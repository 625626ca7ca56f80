"""What makes the loop cheaper changes nothing in what is learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caravan.models.compose import compose
from caravan.recipe.train import PretrainConfig, SftConfig
from caravan.train.dialogue_rows import collate
from caravan.train.learner import SHORT, task_of
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
def test_loss_and_gradient_stay_those_of_the_model(fused, length, checkpointing):
    batch = packed()
    loss = fused(**batch, use_cache=False, num_items_in_batch=7).loss
    loss.backward()
    own = {name: p.grad.clone() for name, p in fused.named_parameters() if p.grad is not None}
    fused.zero_grad()
    task = task_of(fused, "sft", SftConfig(activation_checkpointing=checkpointing), length)
    assert task.rates.keys() == own.keys()
    learnt = fused.train()(**batch, **task.flags, num_items_in_batch=7).loss
    torch.testing.assert_close(learnt, loss)
    learnt.backward()
    for name, gradient in own.items():
        torch.testing.assert_close(dict(fused.named_parameters())[name].grad, gradient, rtol=1e-3, atol=1e-6)


def test_short_text_is_packed_without_a_leak_too(llama):
    task = task_of(llama, "pretrain", PretrainConfig(), 48)
    one, two = np.arange(20, 31), np.arange(40, 60)
    rows = [assemble([(first, None), (two, None)], 48, 1) for first in (one, one[::-1].copy())]
    logits = llama(**collate(rows), **task.flags).logits
    assert not torch.allclose(logits[0, :11], logits[1, :11])
    torch.testing.assert_close(logits[0, 11:], logits[1, 11:])
