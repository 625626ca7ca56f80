"""Tiny models in folders as the hub has them, and how much memory a piece of work took."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

logging.disable_progress_bar()
torch.set_num_threads(1)

SMALL = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "initializer_range": 0.2,
}


def llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(SMALL | {"tie_word_embeddings": False} | changes)))


def gpt2(seed: int = 0, **changes: Any) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.2}
    model = GPT2LMHeadModel(GPT2Config(**(sizes | {"bos_token_id": 0, "eos_token_id": 0} | changes)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # which begin at zero
                parameter.normal_(std=0.2)
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Save a model in a folder of this name; a file beside it stands for its tokenizer."""

    def save(model: PreTrainedModel, name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Path:
        model.to(dtype).save_pretrained(tmp_path / name, **options)
        (tmp_path / name / "tokenizer_config.json").write_text(f'{{"of": "{name}"}}')
        return tmp_path / name

    return save


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a folder."""
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def assert_same(found: Path, expected: Path) -> None:
    """The very same weights, bit for bit."""
    left, right = tensors(found), tensors(expected)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype, name
        assert torch.equal(value, right[name]), name


def peak_growth(work: Callable[[], object]) -> int:
    """Bytes by which the most memory ever held grew in a piece of work."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _memory("VmRSS")
    work()
    return _memory("VmHWM") - before


def _memory(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10
