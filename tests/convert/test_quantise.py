"""Fewer bits: weights are as near as the type allows, transformers loads them, the loss told is the loss measured."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from caravan.convert.run import convert
from caravan.core.artifact import MANIFEST
from caravan.core.errors import ModelError
from caravan.models.bits import bits_per_byte
from caravan.models.load import load_model
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import llama

Saved = Callable[..., Path]
LINES = ["the quick brown fox", "jumps over the lazy dog", "一二三", "четыре"]
LAYER = "model.layers.0.mlp.down_proj"


@pytest.fixture
def base(saved: Saved) -> Path:
    sizes = {"vocab_size": 257, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 1}
    folder = saved(llama(**sizes, initializer_range=0.1), "base")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({"<end>": 0} | {token: 1 + index for index, token in enumerate(alphabet)}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join([*LINES, ""]))
    return file


def weight_of(model: Any) -> torch.Tensor:
    """What a layer multiplies by, whatever it is packed in: its answer to the unit vectors."""
    layer = model.get_submodule(LAYER)
    with torch.inference_mode():
        return layer(torch.eye(layer.in_features)).float().T


def rounding_bound(weight: torch.Tensor, group: int, step: float) -> torch.Tensor:
    """Half a step in each group's own scale: `step` is the widest one's share of the group's largest value."""
    most = weight.reshape(-1, group).abs().amax(1, keepdim=True).expand(-1, group).reshape(weight.shape)
    return most * step / 2


@pytest.mark.parametrize(
    ("kind", "layer", "group", "step"),
    # A row of 256 in 255 steps; blocks of 64, of which nf4's widest step is from -1 to -0.6962.
    [("int8", "Linear8bitLt", 256, 1 / 127), ("nf4", "Linear4bit", 64, 0.3038)],
)
def test_bitsandbytes(base: Path, text: Path, tmp_path: Path, kind: Any, layer: str, group: int, step: float) -> None:
    pytest.importorskip("bitsandbytes")
    out = convert(base, tmp_path / kind, ConvertConfig(to=kind, text=text))
    loaded, tokenizer = load_model(out.path)
    plain, _ = load_model(base)
    assert type(loaded.get_submodule(LAYER)).__name__ == layer
    weight = plain.get_submodule(LAYER).weight.detach()
    # Scales are rounded too, to 8 bits in nf4's second quantisation.
    error = (weight_of(loaded) - weight).abs() - rounding_bound(weight, group, step)
    assert float(error.max()) < 0.02 * float(weight.abs().max())
    told = out.counts["bits_per_byte"]
    assert told["before"] == pytest.approx(bits_per_byte(plain, tokenizer, LINES[1::2], 512))
    assert told["after"] == pytest.approx(bits_per_byte(loaded, tokenizer, LINES[1::2], 512))
    assert told["loss"] == told["after"] - told["before"] != 0
    assert out.counts["bytes"]["after"] < 0.7 * out.counts["bytes"]["before"]
    assert (out.path / "README.md").is_file()
    with pytest.raises(ModelError, match="in 16 or 32 bits"):
        convert(out.path, tmp_path / "again", ConvertConfig(to="int8", text=text))


ROUNDED = f"""
import sys, torch
from pathlib import Path
from caravan.convert.run import convert
from caravan.models.load import load_model
from caravan.recipe.convert import ConvertConfig

base, text, folder = map(Path, sys.argv[1:])
for kind in ("int4", "int3"):
    convert(base, folder / kind, ConvertConfig(to=kind, text=text, rounding_steps=1))
    layer = load_model(folder / kind)[0].get_submodule({LAYER!r})
    torch.save(layer(torch.eye(256, dtype=torch.float16)).T.detach().float(), folder / f"{{kind}}.pt")
"""


@pytest.mark.skipif(importlib.util.find_spec("auto_round") is None, reason="auto-round is not installed")
def test_auto_round(base: Path, text: Path, tmp_path: Path) -> None:
    """In a process of its own: it changes `from_pretrained` where it is imported."""
    subprocess.run([sys.executable, "-c", ROUNDED, str(base), str(text), str(tmp_path)], check=True)
    weight = AutoModelForCausalLM.from_pretrained(base).get_submodule(LAYER).weight.detach()
    for kind, values in (("int4", 16), ("int3", 8)):
        # Learnt rounding may take the other neighbour, a whole step away; scales are in 16 bits.
        bound = rounding_bound(weight, 128, 2 * 2 / values)
        assert float(((torch.load(tmp_path / f"{kind}.pt") - weight).abs() / bound).max()) < 1.05
        told = json.loads((tmp_path / kind / MANIFEST).read_text())["counts"]
        assert told["bits_per_byte"]["loss"] == told["bits_per_byte"]["after"] - told["bits_per_byte"]["before"] != 0
        assert told["bytes"]["after"] < 0.6 * told["bytes"]["before"]


def test_what_is_missing_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give `text`"):
        ConvertConfig(to="nf4")
    (tmp_path / "one.txt").write_text("one line\n\n")
    with pytest.raises(ModelError, match="two lines and more"):
        convert(base, tmp_path / "out", ConvertConfig(to="nf4", text=tmp_path / "one.txt"))
