"""Weights pass through a tensor at a time, whatever file they are in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from caravan.convert.folder import open_weights
from caravan.convert.pickled import Unknown, open_pickled
from caravan.convert.weights import Lazy, write_weights
from caravan.core.errors import ModelError
from tests.convert.conftest import peak_growth, tensors

SIZE = 1 << 21  # values of a tensor: 8 MiB


@pytest.mark.parametrize("pickled", [False, True])
def test_memory_is_that_of_a_tensor(tmp_path: Path, pickled: bool) -> None:
    held = {f"{n:02d}": torch.full((4, SIZE // 4), float(n)) for n in range(12)}
    (tmp_path / "in").mkdir()
    if pickled:
        torch.save(held, tmp_path / "in/pytorch_model.bin")
    else:
        save_file(held, tmp_path / "in/model.safetensors")
    del held
    weights = open_weights(tmp_path / "in")
    doubled = {name: Lazy(lazy.shape, lazy.dtype, lambda lazy=lazy: lazy.read() * 2) for name, lazy in weights.items()}
    growth = peak_growth(lambda: write_weights(tmp_path / "out", doubled, 5e9))
    assert growth < 6 * 4 * SIZE  # half of it all
    assert [float(value[3, -1]) for _, value in sorted(tensors(tmp_path / "out").items())] == [
        2.0 * n for n in range(12)
    ]


def test_tensors_of_every_kind_come_out_of_a_pickled_file(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    held = {
        "plain": whole,
        "part": whole[1:3],
        "turned": whole.T,
        "bf16": whole.bfloat16(),
        "parameter": torch.nn.Parameter(whole[0].clone()),
        "ids": torch.arange(3),
        "empty": torch.empty(0),
        "scalar": torch.tensor(2.5),
        "more": {"shapes": [torch.Size([2, 3])], "number": 3},
    }
    torch.save(held, tmp_path / "a.bin")
    found = open_pickled(tmp_path / "a.bin")
    for name, lazy in found.items():
        if isinstance(lazy, Lazy):
            assert torch.equal(lazy.read(), held[name]), name
            assert lazy.shape == tuple(held[name].shape)
            assert lazy.read().dtype == held[name].dtype == lazy.dtype
    assert found["more"] == {"shapes": [torch.Size([2, 3])], "number": 3}


def test_nothing_in_a_pickled_file_is_run(tmp_path: Path) -> None:
    torch.save({"tensor": torch.ones(2), "odd": Dangerous(tmp_path / "ran")}, tmp_path / "a.bin")
    (tmp_path / "ran").unlink(missing_ok=True)
    found = open_pickled(tmp_path / "a.bin")
    assert isinstance(found["odd"], Unknown)
    assert torch.equal(found["tensor"].read(), torch.ones(2))
    assert not (tmp_path / "ran").exists()


class Dangerous:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    torch.save({"tensor": torch.ones(2000)}, tmp_path / "pytorch_model.bin")
    with (tmp_path / "pytorch_model.bin").open("r+b") as stream:
        stream.truncate(4000)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: not a file of torch"):
        open_weights(tmp_path)
    with pytest.raises(ModelError, match="no weights in this folder"):
        open_weights(tmp_path / "nowhere")
