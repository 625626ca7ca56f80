"""Loading: plain and fused, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from caravan.core.errors import ModelError, TokenizerMismatchError
from caravan.models.fused import CaravanForConditionalGeneration
from caravan.models.load import load_model
from tests.models.conftest import llama


@pytest.fixture
def folder(fused: CaravanForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    fused.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_fused(folder: Path, fused: CaravanForConditionalGeneration) -> None:
    model, tokenizer = load_model(folder)
    assert isinstance(model, CaravanForConditionalGeneration)
    assert not model.training
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fused.parameters(), strict=True))
    assert tokenizer.chat_template


def test_plain_text(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    llama(tied=True).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = load_model(tmp_path)
    assert isinstance(model, LlamaForCausalLM)


def test_dtype(folder: Path) -> None:
    assert {parameter.dtype for parameter in load_model(folder, "bfloat16")[0].parameters()} == {torch.bfloat16}


def test_quiet(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_model(folder)
    assert capfd.readouterr() == ("", "")


def test_missing_weights_are_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.speech_projector.linear_2.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"not whole[\s\S]*1 missing[\s\S]*speech_projector\.linear_2\.weight"):
        load_model(folder)


def test_truncated_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="no model can be loaded"):
        load_model(folder)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_files(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ModelError, match="no (model|tokenizer) can be loaded"):
        load_model(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere: no model can be loaded[\s\S]*folder or hub name"):
        load_model(tmp_path / "nowhere")


def test_tokenizer_larger_than_the_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    larger = PreTrainedTokenizerFast.from_pretrained(folder)
    larger.add_tokens([f"<{number}>" for number in range(100)])
    larger.save_pretrained(folder)
    with pytest.raises(TokenizerMismatchError, match=r"at most 320 tokens[\s\S]*got: 368 tokens"):
        load_model(folder)


def test_tokenizer_of_another_model(folder: Path, fused: CaravanForConditionalGeneration) -> None:
    """As large as it should be, but the placeholder's id is a letter there."""
    from tokenizers import Tokenizer, models

    other = Tokenizer(models.BPE(vocab={chr(65 + id_): id_ for id_ in range(50)}, merges=[]))
    PreTrainedTokenizerFast(tokenizer_object=other).save_pretrained(folder)
    with pytest.raises(TokenizerMismatchError, match=r"special token with the id 7[\s\S]*got: 'H'"):
        load_model(folder)
