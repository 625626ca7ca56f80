"""Composing from folders: which parts are taken, and which are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionModel,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedTokenizerFast,
    SiglipVisionModel,
    WhisperForConditionalGeneration,
)

from caravan.core.errors import ModelError, TokenizerMismatchError
from caravan.models.compose import KEPT, compose
from caravan.models.config import media_spec
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.text.tokens import AUDIO_PAD, IMAGE_PAD, SPECIAL_TOKENS
from tests.models.conftest import llama


def test_text_alone_is_the_text_model(folders: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = compose(folders / "text", tokenizer)
    ids = torch.tensor([[20, 30, 40]])
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(folders / "text")(ids).logits
        assert torch.equal(model(ids).logits, expected)
    with pytest.raises(ModelError, match="does not hear"):
        model(ids, input_features=torch.zeros(1, 80, 3000))
    with pytest.raises(ModelError, match="does not see"):
        model(ids, pixel_values=torch.zeros(1, 3, 28, 28))


def test_placeholders_are_those_of_the_chat(fused: CaravanForConditionalGeneration) -> None:
    assert fused.config.audio_token_id == SPECIAL_TOKENS.index(AUDIO_PAD)
    assert fused.config.image_token_id == SPECIAL_TOKENS.index(IMAGE_PAD)


def test_encoders_are_those_of_the_folders_in_float32(fused: CaravanForConditionalGeneration, folders: Path) -> None:
    whisper = WhisperForConditionalGeneration.from_pretrained(folders / "speech")
    assert whisper.dtype == torch.float16
    clip = CLIPVisionModel.from_pretrained(folders / "clip_vision")
    for ours, theirs in ((fused.model.speech_encoder, whisper.model.encoder), (fused.model.vision_encoder, clip)):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value.float()), name
    assert {parameter.dtype for parameter in fused.parameters()} == {torch.float32}
    assert not [name for name, _ in fused.named_parameters() if "decoder" in name]


@pytest.mark.parametrize("vision", ["clip_vision", "clip", "siglip"])
def test_vision_models(folders: Path, tokenizer: PreTrainedTokenizerFast, vision: str) -> None:
    model = compose(folders / "text", tokenizer, vision=folders / vision)
    assert isinstance(model.model.vision_encoder, SiglipVisionModel if vision == "siglip" else CLIPVisionModel)
    mean = [0.5] * 3 if vision == "siglip" else [0.4815, 0.4578, 0.4082]
    assert media_spec(model.config)["image_mean"] == pytest.approx(mean, abs=1e-4)
    assert model.model.speech_encoder is None
    with torch.no_grad():
        states = model.model.encode_image(torch.randn(2, 3, 28, 28))
    assert states.shape == (2, 16, 16)


def test_siglip_states_are_those_before_its_last_layer(folders: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    model = compose(folders / "text", tokenizer, vision=folders / "siglip", vision_projector={"name": "mlp"})
    siglip = SiglipVisionModel.from_pretrained(folders / "siglip")
    px = torch.randn(1, 3, 28, 28)
    kept: list[torch.Tensor] = []
    siglip.encoder.layers[1].register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        siglip(px)
        torch.testing.assert_close(model.model.encode_image(px), kept[0])


@pytest.mark.parametrize("speech", ["speech", "whisper"])
def test_whisper_with_and_without_its_head(folders: Path, tokenizer: PreTrainedTokenizerFast, speech: str) -> None:
    model = compose(folders / "text", tokenizer, speech=folders / speech)
    assert media_spec(model.config) == {"n_mels": 80, "audio_tokens_per_window": 150}


def test_pixels_as_the_folder_says(folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    shutil.copytree(folders / "clip_vision", tmp_path / "clip")
    pixels = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(pixels))
    spec = media_spec(compose(folders / "text", tokenizer, vision=tmp_path / "clip").config)
    assert (spec["image_mean"], spec["image_std"]) == (pixels["image_mean"], pixels["image_std"])


def test_seed_decides_the_projectors(folders: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    def weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return compose(folders / "text", tokenizer, vision=folders / "siglip").model.vision_projector.linear_1.weight

    assert torch.equal(weight(3), weight(3))
    assert not torch.equal(weight(3), weight(4))


def test_other_text_architectures(tokenizer: PreTrainedTokenizerFast, folders: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=32, n_layer=1, n_head=2)).save_pretrained(tmp_path / "gpt2")
    model = compose(tmp_path / "gpt2", tokenizer, vision=folders / "siglip")
    model.save_pretrained(tmp_path / "fused")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "fused")
    ids = torch.tensor([[20, 30, *[10] * 4]])
    px = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(model(ids, pixel_values=px).logits, loaded(ids, pixel_values=px).logits)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight


def test_a_fused_model_gets_another_sense_and_keeps_the_one_it_has(
    folders: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Its eyes say the same to the bit; ears are new."""
    torch.manual_seed(3)
    seeing = compose(folders / "text", tokenizer, vision=folders / "clip", vision_projector={"name": "mlp"})
    seeing.save_pretrained(tmp_path)
    both = compose(tmp_path, tokenizer, speech=folders / "whisper", vision=KEPT)
    ids, px = torch.tensor([[20, *[10] * 16, 30]]), torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(both(ids, pixel_values=px).logits, seeing(ids, pixel_values=px).logits)
    expected = media_spec(seeing.config) | {"n_mels": 80, "audio_tokens_per_window": 150}
    assert media_spec(both.config) == expected
    assert both.model.speech_projector.linear_1.weight.requires_grad
    assert not any(weight.requires_grad for weight in both.model.vision_encoder.parameters())
    assert both.lm_head.weight is both.get_input_embeddings().weight
    both.save_pretrained(tmp_path / "both")
    again = compose(tmp_path / "both", tokenizer, speech=KEPT, vision=folders / "siglip")
    weights = both.state_dict()
    for name, weight in again.state_dict().items():
        assert "vision" in name or torch.equal(weight, weights[name]), name
    with pytest.raises(ModelError, match=r"no speech to keep[\s\S]*got: CaravanForConditionalGeneration"):
        compose(tmp_path, tokenizer, speech=KEPT)
    with pytest.raises(ModelError, match=r"no vision to keep[\s\S]*got: LlamaForCausalLM"):
        compose(folders / "text", tokenizer, vision=KEPT)


class TestRefuse:
    def test_head_that_does_more(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        """Granite divides its logits by a constant, which a fused head would leave out."""
        config = GraniteConfig(vocab_size=320, hidden_size=32, intermediate_size=32, num_hidden_layers=1,
                               num_attention_heads=2, num_key_value_heads=2, logits_scaling=4.0)  # fmt: skip
        GraniteForCausalLM(config).save_pretrained(tmp_path)
        with pytest.raises(ModelError, match=r"cannot be fused[\s\S]*GraniteForCausalLM"):
            compose(tmp_path, tokenizer)

    def test_vocabulary_smaller_than_the_tokenizer(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        llama(tied=True, vocab_size=200).save_pretrained(tmp_path)
        with pytest.raises(TokenizerMismatchError, match=r"at most 200 tokens[\s\S]*got: 268 tokens"):
            compose(tmp_path, tokenizer)

    def test_tokenizer_without_placeholder(self, tokenizer: PreTrainedTokenizerFast, folders: Path) -> None:
        with pytest.raises(TokenizerMismatchError, match=r"lacks a placeholder[\s\S]*<\|picture\|>"):
            compose(folders / "text", tokenizer, vision=folders / "siglip", image_token="<|picture|>")

    @pytest.mark.parametrize(
        ("sense", "folder", "message"),
        [
            ("speech", "clip", r"cannot be a speech encoder[\s\S]*expected: whisper[\s\S]*got: clip"),
            ("vision", "speech", r"cannot be a vision encoder[\s\S]*clip or[\s\S]*got: whisper"),
            ("vision", "text", r"cannot be a vision encoder[\s\S]*got: llama"),
            ("speech", "nowhere", "no encoder can be loaded"),
        ],
    )
    def test_wrong_encoder(
        self, tokenizer: PreTrainedTokenizerFast, folders: Path, sense: str, folder: str, message: str
    ) -> None:
        with pytest.raises(ModelError, match=message):
            compose(folders / "text", tokenizer, **{sense: folders / folder})

    def test_whisper_of_another_window(self, tokenizer: PreTrainedTokenizerFast, folders: Path, tmp_path: Path) -> None:
        shutil.copytree(folders / "whisper", tmp_path / "whisper")
        file = tmp_path / "whisper" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"max_source_positions": 750}))
        with pytest.raises(ModelError, match=r"another window[\s\S]*1500 positions[\s\S]*got: 750"):
            compose(folders / "text", tokenizer, speech=tmp_path / "whisper")

    def test_no_text_model(self, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"nowhere: no model can be loaded"):
            compose(tmp_path / "nowhere", tokenizer)
