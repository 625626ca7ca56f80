"""Align and sft end to end at the smallest size."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from caravan.core.errors import ArtifactError, ModelError, RecipeError
from caravan.core.files import write_table
from caravan.media.features import MediaSpec
from caravan.models.load import load_model, media_spec
from caravan.recipe.train import AlignConfig, SftConfig
from caravan.records import AudioPart, Dialogue, ImagePart, Media, Message, dialogues_to_table
from caravan.train import finetune, states
from caravan.train.dialogue_rows import Sense, collate, plan_dialogues
from caravan.train.dialogues import prepare
from caravan.train.pack import assemble
from caravan.train.parts import learning_rates, part_of
from tests.train.conftest import clip_bytes, picture_bytes

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


def test_frozen_encoders_run_in_a_single_pass_without_the_fused_kernel(
    aligned, context, dialogues_artifact, monkeypatch
):
    ran, kernels = finetune.fit, {}

    def noted(model, *rest):
        parts = {sense: getattr(model.model, f"{sense}_encoder") for sense in ("speech", "vision")}
        kernels.update({sense: part.config._attn_implementation for sense, part in parts.items()})
        return ran(model, *rest)

    monkeypatch.setattr(finetune, "fit", noted)
    ctx = context("once", model=aligned, dialogues=dialogues_artifact)
    finetune.run_sft(SftConfig(**COMMON, epochs=1, rates={"vision_encoder": 1e-5}), ctx)
    assert kernels == {"speech": "blockwise", "vision": "sdpa"}


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


def test_the_loss_of_packed_dialogues_is_the_sum_of_each_alone(aligned, tokenizer, tmp_path):
    """Clips, one of them over 30 s, and pictures, several in a dialogue, in any order."""
    clips = [AudioPart(Media(clip_bytes(seconds, 200.0))) for seconds in (0.4, 31.0)]
    pictures = [ImagePart(Media(picture_bytes((60 * n, 10, 10)))) for n in range(3)]
    contents = [["hello"], [pictures[0], clips[0]], [clips[1], "and", pictures[1], pictures[2]], ["why"], [clips[0]]]
    made = [
        Dialogue(str(n), "en", "all", (Message.of("user", *content), Message.of("assistant", f"answer {n}" * (n + 1))))
        for n, content in enumerate(contents)
    ]
    write_table(tmp_path / "d.parquet", dialogues_to_table(made))
    model, _ = load_model(aligned.path)
    spec = MediaSpec(**media_spec(model.config))
    prepared = prepare([tmp_path / "d.parquet"], tokenizer, spec, 192, tmp_path / "rows")
    arguments = {"speech": "input_features", "vision": "pixel_values"}
    senses = tuple(
        Sense(arguments[encoder.name], encoder.store, encoder.features)
        for encoder in states.encoders_of(model, spec, prepared)
    )

    def total(alone):
        config = SftConfig.model_validate({"length": 192, "epochs": 1, "batch": 2, "micro_batch": 2})
        rows = replace(plan_dialogues(prepared, config, seed=1, pad=1, alone=alone), senses=senses)
        batches = [collate([rows[n], rows[n + 1]]) for n in range(0, len(rows), 2)]
        with torch.no_grad():
            loss = sum(model.train()(**batch, use_cache=False, num_items_in_batch=1).loss for batch in batches)
        return float(loss), len(rows)

    (packed, few), (alone, many) = total(False), total(True)
    assert (few, many) == (2, 6)
    assert packed == pytest.approx(alone, rel=1e-5)


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


def parts_of(folder):
    return {part_of(f"{part}.") for part in folder}


@pytest.mark.parametrize(
    ("method", "rates", "expected"),
    [
        ("full", {"language": 0, "vision_projector": 1e-2}, {"speech_projector", "vision_projector"}),
        ("full", {"speech_projector": 0, "vision_encoder": 1e-2}, {"language", "vision_projector", "vision_encoder"}),
        ("full", {"speech_encoder": 1e-2}, {"language", "speech_projector", "vision_projector", "speech_encoder"}),
        ("lora", {"vision_projector": 0}, {"language", "speech_projector"}),
    ],
)
def test_each_part_trains_at_its_own_rate_or_is_frozen(aligned, context, dialogues_artifact, method, rates, expected):
    ctx = context("sft", model=aligned, dialogues=dialogues_artifact)
    counts = finetune.run_sft(SftConfig.model_validate({**COMMON, "steps": 2, "method": method, "rates": rates}), ctx)
    assert parts_of(changed(load_file(aligned.path / "model.safetensors"), ctx.out)) == expected
    assert counts["trained_parameters"] > 0


def test_what_an_encoder_trains_is_what_its_projector_reads(aligned):
    """CLIP's last layer and its norms come after the states that are taken."""
    model, _ = load_model(aligned.path)
    config = SftConfig.model_validate({"rates": {"vision_encoder": 1e-5, "language": 3e-5}})
    rates = learning_rates(model, "sft", config)
    inside = [name for name in rates if name.startswith("model.vision_encoder.")]
    assert {rates[name] for name in inside} == {1e-5}
    assert rates["lm_head.weight"] == 3e-5
    assert rates["model.vision_projector.norm.weight"] == config.projector_learning_rate
    assert any(".layers.0." in name for name in inside)
    assert not any(".layers.1." in name or "post_layernorm" in name for name in inside)
    assert not any(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"speech_encoder": 1e-3}, r"sft\.rates: no speech_encoder to train[\s\S]*expected: rates of language;"),
        ({"language": 0}, r"nothing is left to train[\s\S]*got: language: 0"),
    ],
)
def test_a_rate_for_what_is_not_there_is_refused(llama, rates, message):
    with pytest.raises(RecipeError, match=message):
        learning_rates(llama, "sft", SftConfig.model_validate({"rates": rates}))


def test_a_second_sense_comes_to_a_model_and_the_first_stays(
    context, model_artifact, dialogues_artifact, encoder_folders, make_artifact
):
    """Successive alignment: eyes first, then ears; with words, the eyes frozen or trained on."""
    given = {"dialogues": dialogues_artifact, "encoders": encoder_folders}
    seeing = context("seeing", model=model_artifact, **given)
    finetune.run_align(AlignConfig.model_validate({**ALIGN, "speech": None}), seeing)
    before = load_file(seeing.out / "model.safetensors")
    words = {"steps": 2, "batch": 4, "micro_batch": 4, "precision": "fp32"}
    for name, frozen, new in (
        ("kept", {"vision_projector": 0}, {"speech_encoder", "speech_projector"}),
        ("on", {}, {"speech_encoder", "speech_projector", "vision_projector"}),
    ):
        both = context(name, model=make_artifact(seeing.out, "model"), **given)
        config = AlignConfig.model_validate({**ALIGN, "vision": "model", "rates": frozen, "words": words})
        finetune.run_align(config, both)
        assert parts_of(changed(before, both.out)) == new
