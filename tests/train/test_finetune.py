"""Align and sft end to end at the smallest size."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from caravan.core.errors import ArtifactError, ModelError
from caravan.models.load import load_model, media_spec
from caravan.recipe.train import AlignConfig, SftConfig
from caravan.train import finetune, states
from caravan.train.dialogue_rows import collate
from caravan.train.pack import assemble

COMMON = {"length": 192, "batch": 2, "micro_batch": 2, "save_every": 4, "precision": "fp32"}
PROJECTORS = {"speech_projector": {"name": "stack", "stack": 50}, "vision_projector": {"name": "pixel_shuffle"}}
ALIGN = {**COMMON, **PROJECTORS, "tasks": None, "steps": 3}


@pytest.fixture
def aligned(context, model_artifact, dialogues_artifact, encoder_folders, make_artifact):
    ctx = context("align", model=model_artifact, dialogues=dialogues_artifact, encoders=encoder_folders)
    finetune.run_align(AlignConfig(**ALIGN), ctx)
    return make_artifact(ctx.out, "model")


def changed(before, after):
    parts = set()
    for name, weight in load_file(after / "model.safetensors").items():
        if name not in before or not torch.equal(weight, before[name]):
            parts.add(".".join(name.split(".")[:2]))
    return parts


def test_align_trains_projectors_and_nothing_else(aligned, model_artifact, encoder_folders):
    before = {
        name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name: weight
        for name, weight in load_file(model_artifact.path / "model.safetensors").items()
    }
    for sense, prefix in (("speech", "encoder."), ("vision", "")):
        for name, weight in load_file(encoder_folders.path / sense / "model.safetensors").items():
            before[f"model.{sense}_encoder.{name.removeprefix(prefix)}"] = weight
    assert changed(before, aligned.path) == {"model.speech_projector", "model.vision_projector"}


def test_sft_trains_projectors_and_language_model(aligned, context, dialogues_artifact):
    ctx = context("sft", model=aligned, dialogues=dialogues_artifact)
    config = SftConfig(**COMMON, epochs=4, learning_rate=1e-2, projector_learning_rate=1e-2)
    counts = finetune.run_sft(config, ctx)
    parts = changed(load_file(aligned.path / "model.safetensors"), ctx.out)
    assert parts == {"model.language_model", "model.speech_projector", "model.vision_projector", "lm_head.weight"}
    lines = [json.loads(line) for line in (ctx.out / "train.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.85 * lines[0]["loss"]
    assert counts["dialogues seen"] == 4 * counts["dialogues"] == 64
    model, tokenizer = load_model(ctx.out)
    assert media_spec(model.config)["audio_tokens_per_window"] == 30
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|end|>", "<|endoftext|>"])
    assert [path.name for path in ctx.out.iterdir() if path.is_dir()] == ["tensorboard"]


def test_kept_states_train_the_same_as_running_the_encoders(aligned, context, dialogues_artifact):
    losses = []
    for name, budget in (("kept", 1.0), ("run", 0.0)):
        ctx = context(name, model=aligned, dialogues=dialogues_artifact)
        losses.append(finetune.run_sft(SftConfig(**COMMON, epochs=2, states_gb=budget), ctx)["final_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_text_model_learns_from_text_and_drops_media(context, model_artifact, dialogues_artifact):
    ctx = context("text", model=model_artifact, dialogues=dialogues_artifact)
    counts = finetune.run_sft(SftConfig(**COMMON, steps=2), ctx)
    assert counts["dialogues"] == 6


def test_documents_of_a_packed_sequence_do_not_see_each_others_media(aligned):
    model, tokenizer = load_model(aligned.path)
    start, pad, end = tokenizer.convert_tokens_to_ids(["<|image_start|>", "<|image_pad|>", "<|image_end|>"])
    document = torch.tensor([start, pad, pad, pad, pad, end, 50, 51, 52]).numpy()
    row = assemble([(document, None), (document, None)], 20, 1)
    batch = collate([{**row, "pixel_values": torch.randn(2, 3, 16, 16).numpy()}])
    with torch.no_grad():
        before = model(**batch, use_cache=False).logits
        batch["pixel_values"][0] += 1
        after = model(**batch, use_cache=False).logits
    assert not torch.allclose(before[0, :9], after[0, :9])
    torch.testing.assert_close(before[0, 9:], after[0, 9:])


def test_an_encoder_is_the_runs_own_a_shipped_one_or_any_other(context, encoder_folders, tmp_path, make_artifact):
    ctx = context(encoders=encoder_folders)
    assert finetune.encoder_path("encoders", "speech", ctx) == str(encoder_folders.path / "speech")
    assert finetune.encoder_path("openai/whisper-large-v3", "speech", ctx) == "openai/whisper-large-v3"
    assert finetune.encoder_path(None, "speech", ctx) is None
    assert finetune.encoder_path("sample-clip", "vision", ctx).endswith("vision")
    with pytest.raises(ArtifactError, match="no encoders"):
        finetune.encoder_path("encoders", "speech", context())
    with pytest.raises(ModelError, match="no vision"):
        finetune.encoder_path("encoders", "vision", context(encoders=make_artifact(tmp_path, "encoders")))


def test_what_align_kept_sft_reads_and_then_it_is_gone(
    context, model_artifact, dialogues_artifact, encoder_folders, make_artifact, monkeypatch
):
    ctx = context("align", model=model_artifact, dialogues=dialogues_artifact, encoders=encoder_folders)
    words = {"steps": 2, "batch": 4, "micro_batch": 4, "precision": "fp32"}
    finetune.run_align(AlignConfig(**{**ALIGN, "tasks": ["picture"], "words": words}), ctx)
    assert (ctx.out / "words" / "train.html").exists()
    runs = []
    monkeypatch.setattr("caravan.train.dialogues.render", None)
    real = states._run
    monkeypatch.setattr("caravan.train.states._run", lambda *given: runs.append(given[0].name) or real(*given))
    sft = context("sft", model=make_artifact(ctx.out, "model"), dialogues=dialogues_artifact)
    finetune.run_sft(SftConfig(**COMMON, epochs=2), sft)
    assert runs == ["speech", "vision"]  # once each, to see the shape
    assert not (ctx.out.parent / "prepared").exists()
