"""LoRA, QLoRA, prefix and prompt tuning: what trains, what is saved, and that it says the same at every step."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.filesystem import FileSystemReader
from transformers import AutoModelForCausalLM

from caravan.core.errors import ModelError, RecipeError
from caravan.models.adapters import put_on
from caravan.models.generate import generate
from caravan.models.load import load_model
from caravan.recipe.train import AlignConfig, PretrainConfig, SftConfig
from caravan.train import finetune, loop, methods, pretrain
from tests.train.test_finetune import ALIGN, COMMON, changed
from tests.train.test_pretrain import SMALL
from tests.train.test_pretrain import own as own

pytest.importorskip("peft")

IDS = torch.arange(20, 60).reshape(2, 20)
LORA = {"name": "lora", "r": 4, "alpha": 16, "dropout": 0.0}
QLORA = {"name": "qlora", "r": 4, "alpha": 16, "dropout": 0.0}
METHODS = {
    "full": {"name": "full"},
    "lora": LORA,
    "lora and tables": {**LORA, "embeddings": "all"},
    "qlora": QLORA,
    "prefix": {"name": "prefix", "tokens": 4},
    "prompt": {"name": "prompt", "tokens": 4},
}


def logits(model):
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS).logits[:, -IDS.shape[1] :]


@pytest.fixture
def told(monkeypatch):
    """What the trained model said before anything of it was saved."""
    said = []

    def save(model, *rest, **options):
        said.append(logits(model))
        return methods.save_trained(model, *rest, **options)

    for stage in (pretrain, finetune):
        monkeypatch.setattr(stage, "save_trained", save)
    return said


@pytest.mark.parametrize("name", METHODS)
def test_what_is_reloaded_says_what_was_trained(name, context, model_artifact, dialogues_artifact, told):
    if name == "qlora":
        pytest.importorskip("bitsandbytes")
    before = logits(load_model(model_artifact.path)[0])
    ctx = context("sft", model=model_artifact, dialogues=dialogues_artifact)
    config = SftConfig(**COMMON, steps=6, learning_rate=3e-2, method=METHODS[name])
    counts = finetune.run_sft(config, ctx)
    lines = [json.loads(line) for line in (ctx.out / "train.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"]
    model, tokenizer = load_model(ctx.out)
    (said,) = told
    torch.testing.assert_close(logits(model), said, rtol=1e-4, atol=1e-4)
    assert (said - before).abs().max() > 0.1
    prompts = [[20, 21, 22], list(range(30, 45))]
    alone = [generate(model, tokenizer, [prompt], max_new_tokens=5)[0] for prompt in prompts]
    assert generate(model, tokenizer, prompts, max_new_tokens=5) == alone
    full = sum(p.numel() for p in load_model(model_artifact.path)[0].parameters())
    assert counts["parameters"] == full
    assert (counts["trained_parameters"] == full) == (name == "full")


@pytest.mark.parametrize("name", ["lora", "qlora", "prefix"])
def test_a_killed_run_goes_on(name, context, model_artifact, dialogues_artifact, monkeypatch):
    if name == "qlora":
        pytest.importorskip("bitsandbytes")
    config = SftConfig(**{**COMMON, "save_every": 2}, steps=4, learning_rate=1e-2, method=METHODS[name])
    ends = []
    for run in ("whole", "cut"):
        ctx = context(run, model=model_artifact, dialogues=dialogues_artifact)
        if run == "cut":
            stopped = monkeypatch.context()
            with stopped as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(loop.Watch, "on_step_begin", stop_after_three, raising=False)
                finetune.run_sft(config, ctx)
            (last,) = (ctx.out / "checkpoints").iterdir()
            assert last.name == "checkpoint-2"
            kept = FileSystemReader(last / "state").read_metadata().state_dict_metadata
            assert kept
            assert [name for name in kept if "lora_" not in name and "prompt_encoder" not in name] == []
        finetune.run_sft(config, ctx)
        ends.append(logits(load_model(ctx.out)[0]))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-4)


def stop_after_three(self, args, state, control, **rest):
    if state.global_step == 3:
        raise KeyboardInterrupt


def test_an_adapter_is_the_language_models_alone(
    context, model_artifact, dialogues_artifact, encoder_folders, make_artifact
):
    first = context("align", model=model_artifact, dialogues=dialogues_artifact, encoders=encoder_folders)
    finetune.run_align(AlignConfig(**ALIGN), first)
    aligned = make_artifact(first.out, "model")
    ctx = context("sft", model=aligned, dialogues=dialogues_artifact)
    finetune.run_sft(SftConfig(**COMMON, steps=3, method=LORA), ctx)
    weights = load_file(ctx.out / "adapter" / "adapter_model.safetensors")
    assert {name.split(".layers.")[0] for name in weights} == {"base_model.model.model.language_model"}
    kept = load_file(aligned.path / "model.safetensors")
    assert changed(kept, ctx.out) == {"model.language_model", "model.speech_projector", "model.vision_projector"}
    after = load_file(ctx.out / "model.safetensors")
    assert torch.equal(
        after["model.language_model.embed_tokens.weight"], kept["model.language_model.embed_tokens.weight"]
    )


@pytest.mark.parametrize("embeddings", ["new", "all"])
def test_new_tokens_rows_train_beside_an_adapter(embeddings, context, tokenizer_artifact, tokenizer, own, told):
    ctx = context(tokenizer=tokenizer_artifact)
    config = PretrainConfig(
        **{**SMALL, "from": "own", "steps": 3, "weight_decay": 0.0, "precision": "fp32"},
        method={**LORA, "embeddings": embeddings},
    )
    other = context("start", tokenizer=tokenizer_artifact)
    name, new = pretrain.source_of(config, other, tokenizer)
    start = pretrain.opened(name, config, other, tokenizer)
    pretrain.run(config, ctx)
    after = AutoModelForCausalLM.from_pretrained(ctx.out)
    moved = (after.get_input_embeddings().weight - start.get_input_embeddings().weight).abs().amax(1) > 0
    assert moved[: new[0]].any() == (embeddings == "all")
    torch.testing.assert_close(logits(after), told[0], rtol=1e-4, atol=1e-4)
    # As anyone does it with peft alone: the model to continue, with rows for the tokens, then the adapter.
    theirs = AutoModelForCausalLM.from_pretrained(own)
    theirs.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    torch.testing.assert_close(logits(put_on(theirs, ctx.out / "adapter")), told[0], rtol=1e-4, atol=1e-4)


def test_rows_of_new_tokens_need_some(context, tokenizer_artifact, llama):
    with pytest.raises(RecipeError, match="no token is new in this run"):
        methods.adapted(llama, PretrainConfig(**{"from": "x"}, method={**LORA, "embeddings": "new"}).method)


def test_a_prefix_is_part_of_a_model_that_only_answers(context, model_artifact, dialogues_artifact, make_artifact):
    ctx = context("sft", model=model_artifact, dialogues=dialogues_artifact)
    finetune.run_sft(SftConfig(**COMMON, steps=1, method="prompt"), ctx)
    again = context("again", model=make_artifact(ctx.out, "model"), dialogues=dialogues_artifact)
    with pytest.raises(ModelError, match="only answering takes it along"):
        finetune.run_sft(SftConfig(**COMMON, steps=1), again)


def test_gradients_beside_4_bits_are_those_beside_what_they_stand_for(model_artifact):
    """Also after a forward pass without gradients, which on some CPUs repacks bitsandbytes' weights."""
    pytest.importorskip("bitsandbytes")
    method = SftConfig(method=QLORA).method
    model, _ = load_model(model_artifact.path, **methods.quantised(method, bf16=False))
    bits, _ = load_model(model_artifact.path, **methods.quantised(method, bf16=False))
    reference, _ = load_model(model_artifact.path)
    weights = dict(bits.dequantize().named_parameters())
    reference.load_state_dict(weights, strict=False)
    tuned, plain = (
        methods.adapted(each, SftConfig(method=how).method) for each, how in ((model, QLORA), (reference, LORA))
    )
    adapter = {n: torch.randn(p.shape) / 10 for n, p in plain.named_parameters() if "lora_" in n}
    assert len(adapter) == 28
    found = []
    for each in (tuned, plain):
        each.load_state_dict(adapter, strict=False)
        logits(each)
        each.train()(input_ids=IDS, labels=IDS).loss.backward()
        found.append(torch.cat([p.grad.flatten() for n, p in each.named_parameters() if n in adapter]))
    assert (found[0] - found[1]).norm() < 1e-4 * found[1].norm()
