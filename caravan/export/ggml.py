"""Which type each tensor of a GGUF file gets, and packing it: by ggml itself, from the library that serves the file."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type

from caravan.core.errors import ExportError, MissingDependencyError

FILE_TYPES = {
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q6_k": LlamaFileType.MOSTLY_Q6_K,
    "q5_k_m": LlamaFileType.MOSTLY_Q5_K_M,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}
_BASE = {
    "f16": Type.F16,
    "bf16": Type.BF16,
    "q8_0": Type.Q8_0,
    "q6_k": Type.Q6_K,
    "q5_k_m": Type.Q5_K,
    "q4_k_m": Type.Q4_K,
    "q4_0": Type.Q4_0,
}
# For rows that are no multiple of 256, as llama.cpp does it.
_SMALLER_BLOCKS = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}


def tensor_type(
    name: str, shape: tuple[int, ...], mixture: str, layers: int, tied: bool, values_shared_widely: bool = False
) -> Type:
    """The type of a language model's tensor in llama.cpp's default mixtures.

    The matrix that gives the logits (the embedding, if tied) is Q6_K in files of fewer bits than Q8_0. In q4_k_m and
    q5_k_m so are the value and down projections of the first and last eighth of the layers and of every third between
    them. Where a 70B's heads share their values, these get a bit more in q4_k_m (src/llama-quant.cpp).
    """
    if len(shape) == 1:
        return Type.F32
    kind = _BASE[mixture]
    value = name.endswith("attn_v.weight")
    if kind in (Type.F16, Type.BF16):
        return kind
    if name == ("token_embd.weight" if tied else "output.weight") and kind != Type.Q8_0:
        kind = Type.Q6_K if shape[-1] % _block(kind) == 0 else Type.Q8_0
    elif mixture in ("q4_k_m", "q5_k_m") and (value or name.endswith("ffn_down.weight")):
        kind = Type.Q6_K if _gets_more_bits(int(name.split(".")[1]), layers) else kind
        kind = Type.Q5_K if value and values_shared_widely and kind == Type.Q4_K else kind
    if shape[-1] % _block(kind):
        kind = _SMALLER_BLOCKS.get(kind, kind)
    return kind if shape[-1] % _block(kind) == 0 else Type.F16


def _gets_more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _block(kind: Type) -> int:
    return GGML_QUANT_SIZES[kind][0]


def byte_shape(shape: tuple[int, ...], kind: Type) -> tuple[int, ...]:
    """Shape in bytes of a packed tensor: the last dimension is counted in bytes."""
    block, size = GGML_QUANT_SIZES[kind]
    return (*shape[:-1], shape[-1] // block * size)


def pack(values: npt.NDArray[np.float32], kind: Type, where: str | None = None) -> npt.NDArray[Any]:
    """Values of a tensor as they stand in the file: float32, float16, or bytes of bfloat16 or of ggml's blocks.

    Raises:
        ExportError: values that are not finite, or exceed float16.
    """
    most = np.abs(values).max(initial=0)
    if not np.isfinite(most):
        raise ExportError("a weight is not a number", where=where, expected="finite values", got="NaN or infinity")
    if kind == Type.F32:
        return np.ascontiguousarray(values, dtype=np.float32)
    if kind == Type.F16:
        if most > np.finfo(np.float16).max:
            raise ExportError(
                "a weight does not fit into 16 bits",
                where=where,
                expected="up to 65504",
                got=most,
                fix="export to bf16 instead of f16",
            )
        return np.ascontiguousarray(values, dtype=np.float16)
    return _quantise(np.ascontiguousarray(values, dtype=np.float32), kind)


def _quantise(values: npt.NDArray[np.float32], kind: Type) -> npt.NDArray[np.uint8]:
    packed = np.empty(byte_shape(values.shape, kind), np.uint8)
    width = values.shape[-1]
    _library().ggml_quantize_chunk(
        int(kind), values.ctypes.data, packed.ctypes.data, 0, values.size // width, width, None
    )
    return packed


@cache
def _library() -> ctypes.CDLL:
    """The wheel does not wrap quantisation, but its library exports ggml's functions."""
    try:
        from xllamacpp import xllamacpp
    except ImportError as error:
        raise MissingDependencyError("xllamacpp", "serve", needed_for="quantising a model") from error
    library = ctypes.CDLL(xllamacpp.__file__)
    function = library.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    sizes = [ctypes.c_int64] * 3  # first element, rows, elements of a row
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *sizes, ctypes.c_void_p]
    return library
