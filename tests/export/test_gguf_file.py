"""Files are written block by block, the same whatever the blocks and threads."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader
from gguf.quants import dequantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caravan.core.errors import ExportError
from caravan.export import gguf_file
from caravan.export.gguf_file import Tensor, whole, write_gguf

VALUES = np.random.default_rng(0).standard_normal((48, 64), np.float32)
KINDS = (Type.Q8_0, Type.F32, Type.BF16, Type.Q4_0, Type.F16)


def tensors() -> list[Tensor]:
    return [
        *(Tensor(f"t{kind}", VALUES.shape, kind, lambda rows: VALUES[rows], unit=8) for kind in KINDS),
        Tensor("vector", (48,), Type.F32, lambda rows: VALUES[rows, 0]),
        whole("cube", (3, 2, 8), Type.F16, lambda: VALUES[:3, :16].reshape(3, 2, 8)),
    ]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block=st.integers(1, 5000), threads=st.integers(1, 5))
def test_blocks_and_threads_change_nothing(tmp_path: Path, block: int, threads: int) -> None:
    once, again = tmp_path / "once.gguf", tmp_path / "again.gguf"
    write_gguf(once, "llama", lambda writer: None, tensors())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf_file, "BLOCK", block)
        write_gguf(again, "llama", lambda writer: None, tensors(), threads)
    assert again.read_bytes() == once.read_bytes()


def test_a_reader_finds_the_values(tmp_path: Path) -> None:
    write_gguf(tmp_path / "file.gguf", "llama", lambda writer: None, tensors(), 2)
    found = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "file.gguf").tensors}
    assert list(found) == [*(f"t{kind}" for kind in KINDS), "vector", "cube"]
    for kind in KINDS:
        tensor = found[f"t{kind}"]
        assert tensor.tensor_type == kind
        assert tensor.shape.tolist() == [64, 48]
        error = np.abs(dequantize(tensor.data, kind).reshape(VALUES.shape) - VALUES).max()
        assert error <= {Type.F32: 0, Type.F16: 2e-3, Type.BF16: 2e-2, Type.Q8_0: 2e-2, Type.Q4_0: 0.3}[kind]
    assert (found["vector"].data == VALUES[:, 0]).all()


def test_blocks_begin_at_multiples_of_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "BLOCK", 64 * 20)
    tensor = tensors()[0]
    assert [(rows.start, rows.stop) for rows in tensor.blocks()] == [(0, 16), (16, 32), (32, 48)]


def test_a_weight_of_another_shape_leaves_no_file(tmp_path: Path) -> None:
    wrong = Tensor("t", (48, 64), Type.F16, lambda rows: VALUES[rows, :32])
    with pytest.raises(ExportError, match=r"t: a weight has another shape[\s\S]*\(48, 64\)[\s\S]*\(48, 32\)"):
        write_gguf(tmp_path / "file.gguf", "llama", lambda writer: None, [*tensors(), wrong], 3)
    assert not list(tmp_path.iterdir())


def test_memory_is_that_of_a_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "BLOCK", 1 << 14)
    large = Tensor("t", (4096, 1024), Type.F16, lambda rows: np.full((rows.stop - rows.start, 1024), 0.5, np.float32))
    tracemalloc.start()
    write_gguf(tmp_path / "file.gguf", "llama", lambda writer: None, [large], threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "file.gguf").stat().st_size > 4096 * 1024 * 2
    assert peak < 2 << 20
