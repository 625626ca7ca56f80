"""What tells that a run comes apart, how fast it is, and the learning rate that it takes."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel

from caravan.core.errors import UsageError
from caravan.recipe.load import from_options
from caravan.recipe.probe import ProbeConfig
from caravan.recipe.train import PretrainConfig, SftConfig
from caravan.train import methods, pretrain
from caravan.train.probe import probe, rate_of, rounded_down
from caravan.train.speed import flops_per_token, measured_peak
from caravan.train.spikes import LEAST, WINDOW, Spikes
from tests.models.test_grow import FAMILIES
from tests.train.test_families import model_of
from tests.train.test_pretrain import SMALL


def test_a_spike_is_far_above_the_steps_before_it():
    spikes = Spikes(4.0)
    assert not any(spikes.at(norm) for norm in (9.0, *[1.0] * (LEAST - 1), 1.2, 3.9))
    assert spikes.at(4.1)
    assert spikes.at(1000.0)  # those before it do not hide it
    assert not spikes.at(1.0)
    assert spikes.at(math.nan)
    assert spikes.at(math.inf)
    for _ in range(WINDOW):
        spikes.at(3.0)
    assert not spikes.at(11.0)


def test_spikes_are_in_the_journal_the_counts_and_on_the_page(context, tokenizer_artifact):
    ctx = context(tokenizer=tokenizer_artifact)
    counts = pretrain.run(PretrainConfig.model_validate({**SMALL, "steps": 14, "spike": 0.01}), ctx)
    lines = [json.loads(line) for line in (ctx.out / "train.jsonl").read_text().splitlines()]
    assert counts["spikes"] == [11, 12, 13, 14] == [line["step"] for line in lines if line.get("spike")]
    assert all(0 < line["mfu"] < 1 for line in lines)
    page = (ctx.out / "train.html").read_text()
    for name in ("loss", "learning rate", "gradient norm", "tokens/s", "MFU"):
        assert f">{name}</text>" in page


def test_operations_of_a_token_are_those_that_torch_counts(llama):
    """The analytic count against FlopCounterMode, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    ids = torch.arange(12, 76)[None]
    llama.set_attn_implementation("eager")
    for share in (1.0, 0.7):
        model = llama if share == 1 else methods.adapted(llama, SftConfig(method="lora").method)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(share == 1.0 or "lora_" in name)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        # The first layer's inputs need no gradient where only adapters train.
        assert flops_per_token(model, 64) == pytest.approx(
            counter.get_total_flops() / 64, rel=0.02 if share == 1 else 0.1
        )


def test_conv1d_counts_as_linear_does():
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=10)
    model = GPT2LMHeadModel(config)
    assert flops_per_token(model, 8) == 6 * (12 * 16 * 16 + 10 * 16) + 12 * 16 * 8


def test_the_peak_is_a_rate_of_this_machine():
    assert 1e8 < measured_peak("fp32") < 1e16


class Softmaxes(TorchDispatchMode):
    """The types of all softmaxes that run."""

    def __init__(self):
        super().__init__()
        self.types = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if "softmax" in str(function):
            self.types.add((result if isinstance(result, torch.Tensor) else result[0]).dtype)
        return result


@pytest.mark.parametrize("family", FAMILIES)
def test_softmaxes_are_in_fp32_where_the_rest_is_bf16(family):
    """Attention's and the vocabulary's; the fused kernel sums in fp32 by itself."""
    model = model_of(family, 96)
    ids = torch.arange(3, 40)[None]
    with torch.autocast("cpu", torch.bfloat16), Softmaxes() as softmaxes:
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    assert softmaxes.types == {torch.float32}
    assert loss.dtype == torch.float32


def test_a_probe_finds_the_rate_that_a_run_does_not_survive(context, tokenizer_artifact):
    ctx = context(tokenizer=tokenizer_artifact)
    config = PretrainConfig.model_validate(SMALL)
    found = probe(ProbeConfig(lowest=1e-3, highest=10.0, steps=60), config, ctx)
    assert found.spiked is not None
    assert 1e-3 < found.proposed < found.spiked < 10
    assert found.steps < 60
    assert list(ctx.out.iterdir()) == []
    calm = probe(ProbeConfig(lowest=1e-7, highest=1e-6, steps=15), config, ctx)
    assert calm == type(calm)(1e-6, None, 15)


def test_rates_rise_by_the_same_factor():
    config = ProbeConfig(lowest=1e-4, highest=1.0, steps=5)
    assert [rate_of(step, config) for step in range(5)] == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    assert rounded_down(9.87e-5) == 9e-5
    assert rounded_down(6e-5) in (5e-5, 6e-5)
    with pytest.raises(UsageError, match="more than lowest"):
        from_options(ProbeConfig, {"lowest": 1.0, "highest": 0.5, "steps": None})
