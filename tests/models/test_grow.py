"""Models grown on disk: rows by token id, every other tensor as it was, little memory."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
)

from caravan.core.errors import ModelError
from caravan.models.grow import NewRows, grow
from caravan.models.tensors import read_header

SIZE, ROWS, OLD = 96, 104, 90
LAYER: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TOKENS: dict[str, Any] = {"vocab_size": SIZE, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
FAMILIES = {
    "llama": LlamaConfig(**LAYER, **TOKENS),
    "qwen2, tied": Qwen2Config(**LAYER, **TOKENS, num_key_value_heads=1, tie_word_embeddings=True),
    "mistral": MistralConfig(**LAYER, **TOKENS, num_key_value_heads=1),
    "gemma": GemmaConfig(**LAYER, **TOKENS, num_key_value_heads=1, head_dim=8),
    "bloom": BloomConfig(hidden_size=16, n_layer=1, n_head=2, **TOKENS),
    "falcon": FalconConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, **TOKENS),
    "gpt2": GPT2Config(n_embd=16, n_layer=1, n_head=2, **TOKENS),
    "phi, bias in the head": PhiConfig(**LAYER, **TOKENS),
}
# The tokenizer has 90 tokens, the table 96 rows: two new tokens lie in rows that are there already.
PIECES = {90: [3, 4, 5], 91: [7], **{index: [index - 90, 60] for index in range(96, 103)}}


def saved(config: Any, folder: Path, **options: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    model.save_pretrained(folder, **options)
    return model.eval()


def tables(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, *model.get_output_embeddings().parameters()]


@pytest.mark.parametrize("family", FAMILIES)
def test_new_rows_are_means_of_old_ones_and_all_else_stays(family: str, tmp_path: Path) -> None:
    before = saved(FAMILIES[family], tmp_path / "before")
    grow(tmp_path / "before", tmp_path / "after", ROWS, NewRows(PIECES, OLD))
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "after").eval()
    assert after.config.vocab_size == ROWS
    for old, new in zip(tables(before), tables(after), strict=True):
        assert new.shape == (ROWS, *old.shape[1:])
        for row in range(ROWS):
            if row in PIECES:
                expected = old[PIECES[row]].double().mean(0)
            else:
                expected = old[row].double() if row < SIZE else old[:OLD].double().mean(0)
            torch.testing.assert_close(new[row].double(), expected, rtol=1e-6, atol=1e-7)
    grown = {id(each) for each in tables(after)}
    named = dict(before.named_parameters())
    for name, parameter in after.named_parameters():
        if id(parameter) not in grown:
            assert torch.equal(parameter, named[name]), name
    ids = torch.arange(3, 20)[None]
    old_logits, new_logits = before(ids).logits, after(ids).logits
    kept = [row for row in range(SIZE) if row not in PIECES]
    torch.testing.assert_close(new_logits[..., kept], old_logits[..., kept])


@pytest.mark.parametrize("start", ["mean", "zero"])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_other_starts_and_noise(start: Any, noise: float, tmp_path: Path) -> None:
    wide = LlamaConfig(**{**LAYER, "hidden_size": 2048}, **TOKENS)
    before = saved(wide, tmp_path / "before").get_input_embeddings().weight.double()
    grow(tmp_path / "before", tmp_path / "after", ROWS, NewRows(PIECES, OLD, start, noise, seed=3))
    after = load_file(tmp_path / "after" / "model.safetensors")["model.embed_tokens.weight"].double()
    centre = before[:OLD].mean(0) if start == "mean" else torch.zeros(2048)
    deviation = before[:OLD].std(0, correction=0)
    drawn = ((after[[90, 96, 100]] - centre) / deviation).detach()
    if noise:
        # 6,144 draws: the deviation of their deviation is 0.9 %.
        assert drawn.std().item() == pytest.approx(noise, rel=0.05)
        assert abs(np.corrcoef(drawn[0], drawn[1])[0, 1]) < 0.1
    else:
        assert drawn.abs().max() < 1e-4
    grow(tmp_path / "before", tmp_path / "again", ROWS, NewRows(PIECES, OLD, start, noise, seed=3))
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "after" / "model.safetensors"
    ).read_bytes()


def test_shards_and_half_precision_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(FAMILIES["llama"])).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "before", max_shard_size="8KB")
    grow(tmp_path / "before", tmp_path / "after", ROWS, NewRows(PIECES, OLD))
    names = [{file.name for file in (tmp_path / each).glob("*.safetensors")} for each in ("before", "after")]
    assert names[0] == names[1]
    assert len(names[0]) > 1
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "after", dtype="auto")
    assert after.dtype == torch.bfloat16
    expected = model.lm_head.weight[[3, 4, 5]].double().mean(0).to(torch.bfloat16)
    assert torch.equal(after.lm_head.weight[90], expected)
    index = json.loads((tmp_path / "after" / "model.safetensors.index.json").read_text())
    stored = [tensor for name in names[1] for tensor in read_header(tmp_path / "after" / name)[0]]
    assert index["metadata"]["total_size"] == sum(len(tensor.data) for tensor in stored)


def test_names_without_the_prefix_are_known_too(tmp_path: Path) -> None:
    """As in the oldest folders of the hub."""
    model = saved(FAMILIES["gpt2"], tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name.removeprefix("transformer."): w for name, w in weights.items()}, tmp_path / "model.safetensors")
    grow(tmp_path, tmp_path / "after", ROWS, NewRows(PIECES, OLD))
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "after")
    torch.testing.assert_close(after.transformer.wte.weight[91], model.transformer.wte.weight[7])


MEASURED = """
import os, sys, threading
os.environ["OMP_NUM_THREADS"] = "1"
from pathlib import Path
from caravan.models import grow

def allocated():
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024

def watch():
    while not done.wait(0.002):
        seen.append(allocated())

small, source, out = map(Path, sys.argv[1:])
# What is loaded at the first call counts to no call.
grow.grow(small, small / "after", 104, grow.NewRows({100: [5]}, 96))
done, seen, before = threading.Event(), [], allocated()
watcher = threading.Thread(target=watch)
watcher.start()
pieces = {row: [row - 20_000, 5] for row in range(20_000, 21_000)}
grow.grow(source, out, 21_000, grow.NewRows(pieces, 20_000))
done.set()
watcher.join()
print(max(seen) - before)
"""


def test_memory_is_that_of_a_block(tmp_path: Path) -> None:
    """Resident memory that is no file's grows by a few blocks; mapped files are the page cache's."""
    wide = {**LAYER, "hidden_size": 1024, "intermediate_size": 16, "tie_word_embeddings": True}
    config = LlamaConfig(**wide, **{**TOKENS, "vocab_size": 20_000})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    save_file({name: torch.zeros(p.shape) for name, p in model.named_parameters()}, tmp_path / "model.safetensors")
    config.save_pretrained(tmp_path)
    saved(FAMILIES["llama"], tmp_path / "small")
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "small"), str(tmp_path), str(tmp_path / "after")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "after" / "model.safetensors").stat().st_size > 21_000 * 1024 * 4
    assert int(done.stdout) < 1.2 * 20_000 * 1024 * 4


def test_what_cannot_be_grown_is_said(tmp_path: Path) -> None:
    new = NewRows(PIECES, OLD)
    FAMILIES["llama"].save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no weights in this folder"):
        grow(tmp_path, tmp_path / "after", ROWS, new)
    saved(FAMILIES["llama"], tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for torn in (whole[:-9], whole[:40]):
        (tmp_path / "model.safetensors").write_bytes(torn)
        with pytest.raises(ModelError, match="not a whole safetensors file"):
            grow(tmp_path, tmp_path / "after", ROWS, new)
    assert not (tmp_path / "after" / "config.json").exists()
    weights = {"model.embed_tokens.weight": torch.zeros(SIZE, 16, dtype=torch.int8)}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="not as the config says"):
        grow(tmp_path, tmp_path / "after", ROWS, new)
