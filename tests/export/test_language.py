"""The text model's weights in llama.cpp's order; what it cannot carry is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from caravan.core.errors import ExportError
from caravan.core.files import write_json
from caravan.export.language import rotate_pairs
from caravan.export.weights import Weights


def test_attention_scores_are_the_same_after_either_rotation() -> None:
    heads, width, length = 3, 8, 5
    random = np.random.default_rng(0)
    query, key = random.standard_normal((2, heads * width, 24), np.float32)
    inputs = random.standard_normal((length, 24), np.float32)
    angles = np.outer(np.arange(length), 10000.0 ** (-np.arange(0, width, 2) / width))

    def scores(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.einsum("thd,shd->hts", left, right)

    def split(weight: np.ndarray) -> np.ndarray:
        return (inputs @ weight.T).reshape(length, heads, width)

    def neighbours(states: np.ndarray) -> np.ndarray:
        """llama.cpp's rotation: element 2 i with 2 i + 1."""
        turned = (states[..., 0::2] + 1j * states[..., 1::2]) * np.exp(1j * angles)[:, None]
        return np.stack([turned.real, turned.imag], -1).reshape(states.shape)

    both = np.concatenate([angles, angles], -1)
    cos, sin = (torch.tensor(function(both), dtype=torch.float32)[None] for function in (np.cos, np.sin))
    left, right = (torch.tensor(split(weight)).permute(1, 0, 2)[None] for weight in (query, key))
    left, right = apply_rotary_pos_emb(left, right, cos, sin)
    expected = torch.einsum("bhtd,bhsd->bhts", left, right)[0].numpy()
    found = scores(*(neighbours(split(rotate_pairs(weight, width))) for weight in (query, key)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_weights_of_shards_and_of_bfloat16(tmp_path: Path) -> None:
    first, second = torch.randn(3, 2).bfloat16(), torch.randn(4)
    save_file({"a": first}, tmp_path / "1.safetensors")
    save_file({"b": second}, tmp_path / "2.safetensors")
    names = {"a": "1.safetensors", "b": "2.safetensors"}
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": names})
    weights = Weights(tmp_path)
    assert "a" in weights
    assert weights.shape("a") == (3, 2)
    assert np.array_equal(weights.read("a"), first.float().numpy())
    assert np.array_equal(weights.read("b"), second.numpy())
    with pytest.raises(ExportError, match=r"a weight is missing[\s\S]*expected: c"):
        weights.shape("c")


def test_some_rows_are_those_of_the_whole(tmp_path: Path) -> None:
    whole = {"F32": torch.randn(7, 3), "F16": torch.randn(7, 3).half(), "BF16": torch.randn(7, 3).bfloat16()}
    save_file(whole, tmp_path / "model.safetensors")
    weights = Weights(tmp_path)
    assert sorted(weights) == sorted(whole)
    for name, tensor in whole.items():
        assert np.array_equal(weights.read(name, slice(2, 6)), tensor[2:6].float().numpy())


def test_files_that_cannot_be_read_to_the_end_and_types_of_8_bits(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.randn(7, 3), "b": torch.zeros(2, dtype=torch.float8_e4m3fn)}, file)
    with pytest.raises(ExportError, match=r"b: these weights are quantised already[\s\S]*got: F8_E4M3"):
        Weights(tmp_path).read("b")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ExportError, match="a file of weights is cut short"):
        Weights(tmp_path).read("a")
    file.write_bytes(b"no header")
    with pytest.raises(ExportError, match="weights that cannot be read"):
        Weights(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no weights to export"):
        Weights(tmp_path)
