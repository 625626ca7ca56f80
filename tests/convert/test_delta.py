"""Deltas: made, applied, exact where that is promised, and what differs in vocabulary is named."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from caravan.convert.run import convert
from caravan.core.errors import ModelError
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import assert_same, gpt2, llama, tensors

Saved = Callable[..., Path]


def near(seed: int, **changes: int) -> torch.nn.Module:
    """A model tuned from the first: every value moved a little, some by much."""
    model = llama(0, **changes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_delta_in_float32_gives_a_16_bit_model_back_bit_for_bit(saved: Saved, tmp_path: Path, dtype) -> None:
    base, tuned = saved(llama(), "base", dtype), saved(near(1), "tuned", dtype)
    made = convert(tuned, tmp_path / "delta", ConvertConfig(to="delta", base=base, dtype="float32"))
    assert made.counts["exact_share"] == 1.0
    assert made.counts["tables"] == {}
    convert(tmp_path / "delta", tmp_path / "again", ConvertConfig(base=base))
    assert_same(tmp_path / "again", tuned)
    assert json.loads((tmp_path / "again/tokenizer_config.json").read_text()) == {"of": "tuned"}
    AutoModelForCausalLM.from_pretrained(tmp_path / "again")


def test_a_delta_in_16_bits_is_what_others_apply_and_says_how_exact_it_is(saved: Saved, tmp_path: Path) -> None:
    base, tuned = saved(llama(), "base", torch.float16), saved(near(1), "tuned", torch.float16)
    made = convert(tuned, tmp_path / "delta", ConvertConfig(to="delta", base=base))
    bottom, want, delta = tensors(base), tensors(tuned), tensors(tmp_path / "delta")
    # As FastChat makes and applies them, in the weights' own type.
    off = torch.cat([(want[name] - (bottom[name] + delta[name])).flatten() for name in want])
    for name in want:
        torch.testing.assert_close(delta[name], want[name] - bottom[name], rtol=0, atol=0)
    assert 0 < (off != 0).double().mean() == pytest.approx(1 - made.counts["exact_share"])
    assert float(off.abs().max()) == made.counts["largest_error"] < 1e-3
    convert(tmp_path / "delta", tmp_path / "again", ConvertConfig(base=base))
    again = tensors(tmp_path / "again")
    assert all(torch.equal(again[name], bottom[name] + delta[name]) for name in want)


@pytest.mark.parametrize("new_rows", ["zero", "mean"])
def test_tokens_that_the_base_lacks(saved: Saved, tmp_path: Path, new_rows, caplog) -> None:
    base, tuned = saved(llama(), "base", torch.float16), saved(llama(1, vocab_size=97), "tuned", torch.float16)
    config = ConvertConfig(to="delta", base=base, dtype="float32", new_rows=new_rows)
    with caplog.at_level(logging.WARNING):
        made = convert(tuned, tmp_path / "delta", config)
    assert made.counts["tables"] == {name: {"base": 96, "tuned": 97} for name in ("lm_head.weight", TABLE)}
    assert f"{TABLE}: 97 rows, 96 in the base; rows from 96 on are taken over {new_rows}" in caplog.text
    bottom = tensors(base)[TABLE].float().mean(0) if new_rows == "mean" else 0.0
    last = tensors(tmp_path / "delta")[TABLE][96]
    torch.testing.assert_close(last, tensors(tuned)[TABLE][96].float() - bottom, rtol=0, atol=1e-7)
    convert(tmp_path / "delta", tmp_path / "again", ConvertConfig(base=base))  # it says itself what it is added to
    assert_same(tmp_path / "again", tuned)
    assert json.loads((tmp_path / "again/config.json").read_text())["vocab_size"] == 97


TABLE = "model.embed_tokens.weight"


def test_a_base_with_more_rows_is_cut(saved: Saved, tmp_path: Path, caplog) -> None:
    base, tuned = saved(llama(vocab_size=100), "base"), saved(llama(1), "tuned")
    with caplog.at_level(logging.WARNING):
        convert(tuned, tmp_path / "delta", ConvertConfig(to="delta", base=base))
    assert "rows from 96 on are left out" in caplog.text
    made = tensors(tmp_path / "delta")[TABLE]
    assert torch.equal(made, tensors(tuned)[TABLE] - tensors(base)[TABLE][:96])


def test_another_shape_is_refused_by_name(saved: Saved, tmp_path: Path) -> None:
    base, tuned = saved(llama(intermediate_size=40), "base"), saved(llama(), "tuned")
    with pytest.raises(ModelError, match=r"mlp.*not of one shape") as caught:
        convert(tuned, tmp_path / "delta", ConvertConfig(to="delta", base=base))
    assert not (tmp_path / "delta").exists()
    assert "(40" in str(caught.value) or "40)" in str(caught.value)
    with pytest.raises(ModelError, match="a weight is missing|weight of the base is missing"):
        convert(tuned, tmp_path / "delta", ConvertConfig(to="delta", base=saved(gpt2(), "other")))


def test_a_killed_conversion_goes_on_and_counts_what_was_written(saved: Saved, tmp_path: Path, monkeypatch) -> None:
    base, tuned = saved(llama(), "base", torch.float16), saved(near(1), "tuned", torch.float16)
    config = ConvertConfig(to="delta", base=base, shard_gb=1e-5)
    whole = convert(tuned, tmp_path / "whole", config)
    from caravan.convert import weights

    written: list[Path] = []
    write_file = weights.write_file

    def killed(file: Path, *rest: object) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(file)
        write_file(file, *rest)

    monkeypatch.setattr(weights, "write_file", killed)
    with pytest.raises(KeyboardInterrupt):
        convert(tuned, tmp_path / "delta", config)
    assert not (tmp_path / "delta").exists()
    stamps = {file: file.stat().st_mtime_ns for file in written}
    monkeypatch.setattr(weights, "write_file", write_file)
    again = convert(tuned, tmp_path / "delta", config)
    assert again.counts == whole.counts
    assert again.manifest.files == whole.manifest.files
    assert {file: (tmp_path / "delta" / file.name).stat().st_mtime_ns for file in written} == stamps
