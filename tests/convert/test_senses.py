"""Fused models in others' layouts say the same there: LLaVA by transformers, Ultravox by its maths written out."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    WhisperConfig,
)
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from caravan.convert.run import convert
from caravan.core.errors import ModelError
from caravan.media.image import prepare_image
from caravan.models.compose import compose
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import tensors
from tests.models.conftest import folders as folders
from tests.models.conftest import scatter
from tests.models.conftest import tokenizer as tokenizer

AUDIO, IMAGE = 7, 10  # ids of the placeholders


def fused(folders: Path, tokenizer: Any, out: Path, text: str = "text", **options: Any) -> Any:
    """A model with senses, saved."""
    torch.manual_seed(2)
    model = scatter(compose(folders / text, tokenizer, **options))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return model


@pytest.mark.parametrize(
    ("vision", "text", "hidden"), [("clip_vision", "text", 24), ("clip_vision", "untied", 32), ("siglip", "untied", 32)]
)
def test_transformers_loads_it_as_llava(folders: Path, tokenizer: Any, tmp_path: Path, vision, text, hidden) -> None:
    projector = {"name": "mlp", "hidden": hidden}
    eyes = {"vision": folders / vision, "vision_projector": projector}
    ours = fused(folders, tokenizer, tmp_path / "in", text, **eyes)
    convert(tmp_path / "in", tmp_path / "out", ConvertConfig(to="llava"))
    theirs, report = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.tensor([[20, 21, *[IMAGE] * 16, 30, 31, 32]])
    pixels = torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = theirs.eval()(input_ids=ids, pixel_values=pixels).logits
        expected = ours.eval()(input_ids=ids, pixel_values=pixels).logits
        text_alone = ours(input_ids=torch.where(ids == IMAGE, 40, ids)).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (text_alone - expected).abs().max() > 0.1


def test_its_processor_makes_the_same_of_a_square_picture(folders: Path, tokenizer: Any, tmp_path: Path) -> None:
    eyes = {"vision": folders / "clip_vision", "vision_projector": {"name": "mlp"}}
    fused(folders, tokenizer, tmp_path / "in", **eyes)
    convert(tmp_path / "in", tmp_path / "out", ConvertConfig(to="llava"))
    told = json.loads((tmp_path / "out/processor_config.json").read_text())
    image = LlavaImageProcessorPil.from_pretrained(tmp_path / "out")
    names = ("patch_size", "vision_feature_select_strategy", "image_token", "num_additional_image_tokens")
    processor = LlavaProcessor(
        image, AutoTokenizer.from_pretrained(tmp_path / "out"), **{name: told[name] for name in names}
    )
    cells = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(cells).resize((90, 90), Image.Resampling.BICUBIC)
    batch = processor(text="a<|image_pad|>b", images=picture, return_tensors="pt")
    assert (batch["input_ids"] == IMAGE).sum() == 16
    expected = prepare_image(picture, 28, image.image_mean, image.image_std)
    step = 1 / 255 / min(image.image_std)
    assert float((batch["pixel_values"][0] - torch.from_numpy(expected)).abs().max()) < 1.01 * step


@pytest.mark.parametrize("average", [1, 5])
def test_ultravox_by_its_own_maths(folders: Path, tokenizer: Any, tmp_path: Path, average: int) -> None:
    projector = {"name": "stack", "stack": 50, "hidden": 24, "average": average}
    ears = {"speech": folders / "speech", "speech_projector": projector}
    ours = fused(folders, tokenizer, tmp_path / "in", "untied", **ears)
    convert(tmp_path / "in", tmp_path / "out", ConvertConfig(to="ultravox"))
    config, held = json.loads((tmp_path / "out/config.json").read_text()), tensors(tmp_path / "out")
    assert config["model_type"] == "ultravox"
    assert (config["stack_factor"], config["hidden_size"], config["audio_token_index"]) == (50, 48, AUDIO)
    features = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[20, 21, *[AUDIO] * 30, 30, 31, 32]])

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): value for name, value in held.items() if name.startswith(prefix)}

    tower = WhisperEncoder(WhisperConfig(**config["audio_config"])).eval()
    tower.load_state_dict(part("audio_tower."))
    language = AutoModelForCausalLM.from_pretrained(folders / "untied").eval()
    language.load_state_dict(part("language_model."))
    projector = part("multi_modal_projector.")

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    with torch.no_grad():
        stacked = norm(tower(features).last_hidden_state.reshape(1, 30, -1), projector["ln_pre.weight"])
        values, gate = (stacked @ projector["linear_1.weight"].T).chunk(2, -1)
        heard = norm(values * functional.silu(gate), projector["ln_mid.weight"]) @ projector["linear_2.weight"].T
        embeds = language.get_input_embeddings()(ids).masked_scatter((ids == AUDIO)[..., None], heard)
        found = language(inputs_embeds=embeds).logits
        expected = ours.eval()(input_ids=ids, input_features=features).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("text", ["text", "untied"])
def test_the_language_model_alone(folders: Path, tokenizer: Any, tmp_path: Path, text: str, caplog) -> None:
    eyes = {"vision": folders / "clip_vision"}
    ours = fused(folders, tokenizer, tmp_path / "in", text, **eyes)
    with caplog.at_level(logging.WARNING):
        convert(tmp_path / "in", tmp_path / "out", ConvertConfig())
    assert "vision is left out" in caplog.text
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == "LlamaForCausalLM"
    ids = torch.arange(20, 50)[None]
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours.eval()(input_ids=ids).logits, rtol=1e-5, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == tokenizer.chat_template


def test_the_command_knows_a_fused_model_by_itself(folders: Path, tokenizer: Any, tmp_path: Path) -> None:
    eyes = {"vision": folders / "clip_vision", "vision_projector": {"name": "mlp"}}
    fused(folders, tokenizer, tmp_path / "in", **eyes)
    command = [sys.executable, "-m", "caravan", "convert", "in", "out", "--to", "llava"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/config.json").is_file()


def test_another_form_is_refused(folders: Path, tokenizer: Any, tmp_path: Path) -> None:
    fused(folders, tokenizer, tmp_path / "in", speech=folders / "speech", vision=folders / "clip_vision",
          speech_projector={"name": "linear", "stack": 50})  # fmt: skip
    with pytest.raises(ModelError, match="LLaVA has no form") as caught:
        convert(tmp_path / "in", tmp_path / "out", ConvertConfig(to="llava"))
    assert "pixel_shuffle" in str(caught.value)
    with pytest.raises(ModelError, match="Ultravox has no form"):
        convert(tmp_path / "in", tmp_path / "out", ConvertConfig(to="ultravox"))
    with pytest.raises(ModelError, match="no senses here"):
        convert(folders / "text", tmp_path / "out", ConvertConfig(to="llava"))
    assert not (tmp_path / "out").exists()
