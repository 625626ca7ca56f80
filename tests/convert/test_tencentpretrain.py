"""TencentPretrain's layout: the way there and back, and that its own way of turning gives the same attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from caravan.convert.run import convert
from caravan.convert.tencentpretrain import halves_together
from caravan.core.errors import ModelError
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import assert_same, gpt2, llama, tensors

Saved = Callable[..., Path]
QUERY, KEY = (f"encoder.transformer.1.self_attn.linear_layers.{n}.weight" for n in (0, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_there_and_back_bit_for_bit(saved: Saved, tmp_path: Path, dtype: torch.dtype) -> None:
    source = saved(llama(), "in", dtype)
    convert(source, tmp_path / "theirs", ConvertConfig(to="tencentpretrain"))
    theirs = torch.load(tmp_path / "theirs/pytorch_model.bin")
    assert len(theirs) == 3 + 9 * 2
    ours = tensors(source)
    assert torch.equal(
        theirs["encoder.transformer.0.feed_forward.linear_2.weight"], ours["model.layers.0.mlp.down_proj.weight"]
    )
    assert torch.equal(theirs["target.lm.output_layer.weight"], ours["lm_head.weight"])
    convert(tmp_path / "theirs", tmp_path / "again", ConvertConfig())
    assert_same(tmp_path / "again", source)
    assert (tmp_path / "again/tokenizer_config.json").read_bytes() == (source / "tokenizer_config.json").read_bytes()


def test_interleaved_turning_scores_as_halves_do(saved: Saved, tmp_path: Path) -> None:
    """q k of one head, turned by place: pairs (2i, 2i + 1) there, (i, i + d/2) here; written out in complex numbers."""
    source = saved(llama(), "in")
    convert(source, tmp_path / "theirs", ConvertConfig(to="tencentpretrain"))
    theirs, ours = torch.load(tmp_path / "theirs/pytorch_model.bin"), tensors(source)
    x = torch.randn(2, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turns = torch.polar(torch.ones(4, dtype=torch.float64), 5.0 / 10000 ** (torch.arange(4, dtype=torch.float64) / 4))

    def score(query: torch.Tensor, key: torch.Tensor, halves: bool) -> torch.Tensor:
        first, second = (weight.double() @ x[n] for n, weight in enumerate((query[8:16], key[:8])))
        pair = (lambda v: torch.complex(v[:4], v[4:])) if halves else (lambda v: torch.complex(v[::2], v[1::2]))
        return (pair(first) * turns * pair(second).conj()).real.sum()

    here = score(ours["model.layers.1.self_attn.q_proj.weight"], ours["model.layers.1.self_attn.k_proj.weight"], True)
    torch.testing.assert_close(score(theirs[QUERY], theirs[KEY], False), here, rtol=1e-12, atol=1e-12)


def test_a_file_as_linly_gives_it_needs_no_config_of_ours(saved: Saved, tmp_path: Path) -> None:
    source = saved(llama(rms_norm_eps=1e-6), "in", torch.float16)
    convert(source, tmp_path / "theirs", ConvertConfig(to="tencentpretrain"))
    lone = tmp_path / "lone"
    lone.mkdir()
    (tmp_path / "theirs/pytorch_model.bin").rename(lone / "chatflow_7b.bin")
    with pytest.raises(ModelError, match="how many heads"):
        convert(lone / "chatflow_7b.bin", tmp_path / "again", ConvertConfig())
    (tmp_path / "theirs/config.json").rename(lone / "config.json")
    convert(lone / "chatflow_7b.bin", tmp_path / "again", ConvertConfig())
    assert_same(tmp_path / "again", source)
    from transformers import AutoModelForCausalLM

    ids = torch.arange(30)[None]
    with torch.no_grad():
        found, expected = (
            AutoModelForCausalLM.from_pretrained(f, dtype="float32")(ids).logits for f in (tmp_path / "again", source)
        )
    assert torch.equal(found, expected)
    convert(lone / "chatflow_7b.bin", tmp_path / "other", ConvertConfig(like=source))
    assert_same(tmp_path / "other", source)


def test_a_tied_head_is_written_out_and_tied_again(saved: Saved, tmp_path: Path) -> None:
    source = saved(llama(tie_word_embeddings=True), "in")
    convert(source, tmp_path / "theirs", ConvertConfig(to="tencentpretrain"))
    theirs = torch.load(tmp_path / "theirs/pytorch_model.bin")
    assert torch.equal(theirs["target.lm.output_layer.weight"], theirs["embedding.word.embedding.weight"])
    convert(tmp_path / "theirs", tmp_path / "again", ConvertConfig())
    assert_same(tmp_path / "again", source)


def test_only_a_llama_has_these_names(saved: Saved, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Llama alone"):
        convert(saved(gpt2(), "in"), tmp_path / "theirs", ConvertConfig(to="tencentpretrain"))
    rows = torch.arange(8.0)[:, None]
    assert halves_together(rows, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
