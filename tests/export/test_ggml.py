"""Types of tensors are llama.cpp's, and packed values are the values to the precision of their type."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize

from caravan.core.errors import ExportError
from caravan.export.ggml import pack, tensor_type


def mixture(name: str, width: int = 256, layers: int = 16, *, tied: bool = False) -> dict[str, Type]:
    names = ["token_embd.weight"] + ([] if tied else ["output.weight"])
    names += [f"blk.{layer}.{part}.weight" for layer in range(layers) for part in ("attn_v", "ffn_down", "attn_q")]
    return {tensor: tensor_type(tensor, (64, width), name, layers, tied) for tensor in names}


def test_the_4_bit_mixture_gives_more_bits_where_llama_cpp_does() -> None:
    types = mixture("q4_k_m")
    assert types["output.weight"] == Type.Q6_K
    assert types["token_embd.weight"] == types["blk.0.attn_q.weight"] == Type.Q4_K
    # The first and last eighth of 16 layers, and every third between.
    for part in ("attn_v", "ffn_down"):
        more = [layer for layer in range(16) if types[f"blk.{layer}.{part}.weight"] == Type.Q6_K]
        assert more == [0, 1, 4, 7, 10, 13, 14, 15]


def test_the_matrix_of_the_logits_is_the_embedding_if_tied() -> None:
    assert mixture("q4_k_m", tied=True)["token_embd.weight"] == Type.Q6_K
    assert mixture("q4_0", tied=True)["token_embd.weight"] == Type.Q6_K
    assert mixture("q8_0", tied=True)["token_embd.weight"] == Type.Q8_0
    assert mixture("q4_0")["token_embd.weight"] == Type.Q4_0


@pytest.mark.parametrize(
    ("name", "width", "matrix", "value", "output"),
    [
        ("q4_k_m", 96, Type.Q5_0, Type.Q8_0, Type.Q8_0),
        ("q4_0", 96, Type.Q4_0, Type.Q4_0, Type.Q8_0),
        ("q8_0", 96, Type.Q8_0, Type.Q8_0, Type.Q8_0),
        ("q4_k_m", 40, Type.F16, Type.F16, Type.F16),
        ("q4_0", 40, Type.F16, Type.F16, Type.F16),
        ("q8_0", 40, Type.F16, Type.F16, Type.F16),
        ("f16", 40, Type.F16, Type.F16, Type.F16),
        ("bf16", 40, Type.BF16, Type.BF16, Type.BF16),
        ("q5_k_m", 96, Type.Q5_1, Type.Q8_0, Type.Q8_0),
        ("q6_k", 96, Type.Q8_0, Type.Q8_0, Type.Q8_0),
        ("q5_k_m", 256, Type.Q5_K, Type.Q6_K, Type.Q6_K),
        ("q6_k", 256, Type.Q6_K, Type.Q6_K, Type.Q6_K),
    ],
)
def test_rows_that_are_no_multiple_of_a_block_fall_back(
    name: str, width: int, matrix: Type, value: Type, output: Type
) -> None:
    types = mixture(name, width)
    found = types["blk.0.attn_q.weight"], types["blk.0.attn_v.weight"], types["output.weight"]
    assert found == (matrix, value, output)


def test_values_that_the_heads_of_a_70b_share_get_more_bits() -> None:
    types = {
        layer: tensor_type(f"blk.{layer}.attn_v.weight", (64, 256), "q4_k_m", 80, False, True) for layer in (0, 10)
    }
    assert types == {0: Type.Q6_K, 10: Type.Q5_K}


def test_vectors_stay_exact() -> None:
    assert tensor_type("blk.0.attn_norm.weight", (256,), "q4_0", 2, False) == Type.F32


@pytest.mark.parametrize(
    ("kind", "error"),
    [(Type.F32, 0), (Type.F16, 3e-4), (Type.Q8_0, 6e-3), (Type.BF16, 2.5e-3), (Type.Q6_K, 0.025), (Type.Q5_0, 0.05),
     (Type.Q5_K, 0.05), (Type.Q4_K, 0.09),
     (Type.Q4_0, 0.11)],
)  # fmt: skip
def test_packed_values_are_the_values(kind: Type, error: float) -> None:
    values = np.random.default_rng(0).standard_normal((33, 512), np.float32)
    packed = pack(values, kind)
    again = dequantize(packed, kind)
    assert np.linalg.norm(again - values) <= error * np.linalg.norm(values)
    assert np.linalg.norm(again - values) >= error / 4 * np.linalg.norm(values)


@pytest.mark.parametrize(
    ("value", "problem"), [(np.nan, "not a number"), (np.inf, "not a number"), (7e4, "does not fit")]
)
def test_values_that_no_file_can_hold_name_their_tensor(value: float, problem: str) -> None:
    values = np.ones((2, 32), np.float32)
    values[1, 3] = value
    with pytest.raises(ExportError, match=f"blk.0.attn_q.weight: .*{problem}"):
        pack(values, Type.F16, where="blk.0.attn_q.weight")
