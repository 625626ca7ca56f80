"""ZeRO-3 checkpoints, beside DeepSpeed's own reader and its own files."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from caravan.convert.run import convert
from caravan.core.errors import ModelError
from caravan.recipe.convert import ConvertConfig
from tests.convert.conftest import assert_same, gpt2, llama, peak_growth, tensors

Saved = Callable[..., Path]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("build", [llama, gpt2])
def test_there_and_back_bit_for_bit(saved: Saved, tmp_path: Path, build, ranks: int) -> None:
    source = saved(build(), "in", torch.bfloat16)
    convert(source, tmp_path / "zero", ConvertConfig(to="deepspeed", ranks=ranks))
    assert len(list((tmp_path / "zero/global_step0").glob("bf16_*_optim_states.pt"))) == ranks
    convert(tmp_path / "zero", tmp_path / "again", ConvertConfig(dtype="bfloat16"))
    assert_same(tmp_path / "again", source)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tied", [False, True])
def test_deepspeed_reads_what_is_written(saved: Saved, tmp_path: Path, tied: bool) -> None:
    zero_to_fp32 = pytest.importorskip("deepspeed.utils.zero_to_fp32")
    source = saved(llama(tie_word_embeddings=tied), "in")
    convert(source, tmp_path / "zero", ConvertConfig(to="deepspeed", ranks=3))
    found = zero_to_fp32.get_fp32_state_dict_from_zero_checkpoint(str(tmp_path / "zero"))
    expected = tensors(source)
    assert found.keys() - expected.keys() == ({"lm_head.weight"} if tied else set())
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_files_as_deepspeed_writes_them(saved: Saved, tmp_path: Path) -> None:
    """Several flat groups, which a weight may lie across; frozen weights, buffers, classes that are not installed."""
    source = saved(llama(), "in")
    ours, ranks = tensors(source), 2
    frozen = {name: value.bfloat16() for name, value in ours.items() if "layers.0" in name}
    trained = {name: value for name, value in ours.items() if name not in frozen}
    step = tmp_path / "zero/global_step9"
    step.mkdir(parents=True)
    (tmp_path / "zero/latest").write_text("global_step9")
    for rank in range(ranks):
        flat = torch.cat([piece(value, rank, ranks) for value in trained.values()])
        cut = len(flat) // 3 + 1
        groups = [flat[:cut].clone(), flat[cut:].clone()]
        state = {"zero_stage": Stage(3), "partition_count": ranks, "loss_scaler": Stage(1), "fp32_flat_groups": groups}
        torch.save({"optimizer_state_dict": state}, step / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")
        model = {
            "module": OrderedDict(scale=torch.tensor([2.5])),
            "buffer_names": ["scale"],
            "param_shapes": [OrderedDict((name, value.shape) for name, value in trained.items())],
            "frozen_param_shapes": OrderedDict((name, value.shape) for name, value in frozen.items()),
            "frozen_param_fragments": {name: piece(value, rank, ranks) for name, value in frozen.items()},
            "shared_params": {},
            "args": argparse.Namespace(odd=Stage(2)),
        }
        torch.save(model, step / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt")
    with pytest.raises(ModelError, match="what kind of model"):
        convert(tmp_path / "zero", tmp_path / "again", ConvertConfig())
    convert(tmp_path / "zero", tmp_path / "again", ConvertConfig(like=source))
    again = tensors(tmp_path / "again")
    assert torch.equal(again.pop("scale"), torch.tensor([2.5]))
    assert again.keys() == ours.keys()
    for name, value in again.items():
        assert torch.equal(value, frozen.get(name, ours[name])), name
    (step / "zero_pp_rank_0_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(ModelError, match="zero_pp_rank_0_mp_rank_00_optim_states"):
        convert(tmp_path / "zero", tmp_path / "torn", ConvertConfig(like=source))


class Stage:
    """Stands for classes of DeepSpeed in its files."""

    def __init__(self, number: int) -> None:
        self.number = number


def piece(value: torch.Tensor, rank: int, ranks: int) -> torch.Tensor:
    size = -(-value.numel() // ranks)
    flat = torch.cat([value.flatten(), value.new_zeros(size * ranks - value.numel())])
    return flat[rank * size : (rank + 1) * size].clone()


def test_memory_is_that_of_a_tensor(saved: Saved, tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4, "vocab_size": 2048}
    source = saved(llama(**sizes), "in", torch.bfloat16)
    values = sum(value.numel() for value in tensors(source).values())
    convert(saved(llama(), "small"), tmp_path / "warm", ConvertConfig(to="deepspeed", ranks=2))
    growth = peak_growth(lambda: convert(source, tmp_path / "zero", ConvertConfig(to="deepspeed", ranks=2)))
    assert growth < 4 * values / 2
    again = ConvertConfig(dtype="bfloat16")
    assert peak_growth(lambda: convert(tmp_path / "zero", tmp_path / "again", again)) < 4 * values / 2
    assert_same(tmp_path / "again", source)
