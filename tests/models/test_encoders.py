"""Every kind of encoder in a fused model: its states are those of transformers, and it is saved and loaded whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    HubertConfig,
    HubertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperForConditionalGeneration,
)

from caravan.core.errors import ModelError
from caravan.media.audio import decode_audio, encode_wav
from caravan.media.features import MediaSpec, audio_features, audio_token_count
from caravan.models.compose import compose
from caravan.models.config import media_spec
from caravan.models.encoders import hear, sounding, wave_samples
from caravan.text.tokens import AUDIO_PAD, IMAGE_PAD, SPECIAL_TOKENS
from tests.models.conftest import VISION, scatter

HEAR, SEE = SPECIAL_TOKENS.index(AUDIO_PAD), SPECIAL_TOKENS.index(IMAGE_PAD)
# The true strides, 320 samples in all, with few channels.
WAVES: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "conv_dim": (4,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "vocab_size": 32,
}  # fmt: skip
KINDS: dict[str, tuple[type[PreTrainedModel], Any]] = {
    "wav2vec2": (Wav2Vec2Model, Wav2Vec2Config(**WAVES)),
    "wav2vec2-large": (Wav2Vec2Model, Wav2Vec2Config(**WAVES, feat_extract_norm="layer", do_stable_layer_norm=True)),
    "hubert": (HubertModel, HubertConfig(**WAVES)),
    "wavlm": (WavLMModel, WavLMConfig(**WAVES)),
}


def clip(seconds: float) -> bytes:
    rng = np.random.default_rng(0)
    return encode_wav((0.2 * rng.standard_normal(round(seconds * 16_000))).clip(-1, 1).astype(np.float32))


def saved(kind: str, folder: Path) -> PreTrainedModel:
    torch.manual_seed(0)
    model_class, config = KINDS[kind]
    model = model_class(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_encoders_of_waves(kind: str, folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    theirs = saved(kind, tmp_path / "encoder")
    model = compose(
        folders / "text", tokenizer, speech=tmp_path / "encoder", speech_projector={"name": "stack", "stack": 300}
    )
    spec = MediaSpec(**media_spec(model.config))
    assert (spec.n_mels, spec.wave_samples, spec.audio_tokens_per_window) == (0, 480_080, 5)
    data = clip(2.0)
    features = torch.from_numpy(audio_features(data, spec))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    given = extractor(
        decode_audio(data), sampling_rate=16_000, padding="max_length", max_length=480_080, return_tensors="pt"
    )
    torch.testing.assert_close(features, given.input_values, atol=1e-5, rtol=1e-5)
    mask = given.attention_mask if kind == "wav2vec2-large" else None
    with torch.no_grad():
        expected = theirs(given.input_values, attention_mask=mask).last_hidden_state
        states = hear(model.model.speech_encoder, features)
        assert states.shape == (1, 1500, 16)
        torch.testing.assert_close(states, expected, atol=1e-4, rtol=1e-4)
        ids = torch.tensor([[20, *[HEAR] * audio_token_count(data, spec), 30]])
        before = model(ids, input_features=features).logits
        model.save_pretrained(tmp_path / "fused")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "fused")
        assert MediaSpec(**media_spec(loaded.config)) == spec
        torch.testing.assert_close(loaded(ids, input_features=features).logits, before)


def test_encoders_stay_in_evaluation(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """wav2vec 2.0 drops a tenth of everything in training, and whole layers, for which other processes would wait."""
    saved("wav2vec2", tmp_path)
    model = compose(
        folders / "text", tokenizer, speech=tmp_path, speech_projector={"name": "linear", "stack": 300}
    ).train()
    assert model.model.training
    assert model.model.speech_projector.training
    model.model.speech_encoder.requires_grad_(True)
    assert not any(module.training for module in model.train().model.speech_encoder.modules())


def test_waves_as_the_folder_says(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    saved("wavlm", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    model = compose(folders / "text", tokenizer, speech=tmp_path)
    spec = MediaSpec(**media_spec(model.config))
    assert not spec.wave_normalised
    data = clip(0.5)
    wave = decode_audio(data)
    np.testing.assert_array_equal(audio_features(data, spec)[0, : wave.size], wave)


def test_long_clips_are_windows_of_waves(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    saved("hubert", tmp_path)
    spec = MediaSpec(**media_spec(compose(folders / "text", tokenizer, speech=tmp_path).config))
    data = clip(31.0)
    windows = audio_features(data, spec)
    assert windows.shape == (2, 480_080)
    assert len(windows) * spec.audio_tokens_per_window == audio_token_count(data, spec)
    assert not windows[0, 480_000:].any(), "what stands behind a window is silence, not the next window"
    assert windows[1, :16_000].all()
    assert not windows[1, 16_000:].any()


def test_what_sounds_ends_with_the_last_sample() -> None:
    waves = torch.tensor([[0.0, 1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    assert sounding(waves).tolist() == [[1, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert wave_samples(Wav2Vec2Config()) == 480_080


def test_decoder64_is_llasm(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """64 start tokens through Whisper's decoder: the last hidden states, 64 for each window."""
    model = compose(folders / "text", tokenizer, speech=folders / "speech", speech_projector={"name": "decoder64"})
    spec = MediaSpec(**media_spec(model.config))
    assert (spec.n_mels, spec.audio_tokens_per_window) == (80, 64)
    whisper = WhisperForConditionalGeneration.from_pretrained(folders / "speech").float().eval().model
    features = torch.from_numpy(audio_features(clip(1.0), spec))
    start = torch.full((1, 64), whisper.config.decoder_start_token_id)
    ids = torch.tensor([[20, *[HEAR] * 64]])
    with torch.no_grad():
        expected = whisper(input_features=features, decoder_input_ids=start).last_hidden_state
        torch.testing.assert_close(model.model.encode_speech(features), expected)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(
            loaded(ids, input_features=features).logits, model(ids, input_features=features).logits
        )


def test_decoder64_needs_a_decoder(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    saved("wavlm", tmp_path)
    with pytest.raises(ModelError, match=r"does not fit the speech encoder[\s\S]*decoder64 over whisper[\s\S]*wavlm"):
        compose(folders / "text", tokenizer, speech=tmp_path, speech_projector={"name": "decoder64"})


@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_at_another_size(
    registers: int, folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    small = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    dino: Any = (
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**small, num_register_tokens=registers))
        if registers
        else Dinov2Model(Dinov2Config(**small))
    )
    scatter(dino).eval().save_pretrained(tmp_path / "dino")
    model = compose(
        folders / "text", tokenizer, vision=tmp_path / "dino", vision_projector={"name": "mlp"}, image_size=42
    )
    spec = MediaSpec(**media_spec(model.config))
    assert (spec.image_size, spec.image_tokens, spec.image_mean) == (42, 36, (0.485, 0.456, 0.406))
    px = torch.randn(2, 3, 42, 42)
    ids = torch.tensor([[20, *[SEE] * 72]])
    with torch.no_grad():
        expected = dino(px, output_hidden_states=True).hidden_states[-2][:, 1 + registers :]
        torch.testing.assert_close(model.model.encode_image(px), expected)
        model.save_pretrained(tmp_path / "fused")
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "fused")
        torch.testing.assert_close(loaded(ids, pixel_values=px).logits, model(ids, pixel_values=px).logits)


@pytest.mark.parametrize("size", [43, 42])
def test_a_size_that_an_encoder_does_not_take(size: int, folders: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ModelError, match=rf"no pictures of this size[\s\S]*expected: 28[\s\S]*got: {size}"):
        compose(folders / "text", tokenizer, vision=folders / "siglip", image_size=size)


def test_a_qformer_hears_and_sees(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    qformer = {"name": "qformer", "queries": 3, "layers": 2, "heads": 2, "hidden": 8}
    torch.manual_seed(0)
    model = compose(
        folders / "text",
        tokenizer,
        speech=folders / "speech",
        vision=folders / "clip_vision",
        speech_projector=qformer,
        vision_projector=qformer,
    )
    spec = MediaSpec(**media_spec(model.config))
    assert (spec.audio_tokens_per_window, spec.image_tokens) == (3, 3)
    ids = torch.tensor([[20, *[HEAR] * 3, *[SEE] * 3, 30]])
    media = {"input_features": torch.randn(1, 80, 3000), "pixel_values": torch.randn(1, 3, 28, 28)}
    loss = model.train()(ids, labels=ids, **media).loss
    loss.backward()
    for projector in (model.model.speech_projector, model.model.vision_projector):
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in projector.parameters())
    model.train(False).save_pretrained(tmp_path)
    with torch.no_grad():
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded(ids, **media).logits, model(ids, **media).logits)
