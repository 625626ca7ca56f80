"""Which type each tensor of a GGUF file gets, and packing it: by ggml itself, from the library that serves the file."""

from __future__ import annotations

import ctypes
import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, LlamaFileType
from gguf import GGMLQuantizationType as Type

from caravan.core.errors import ExportError, MissingDependencyError

FILE_TYPES = {
    "f16": LlamaFileType.MOSTLY_F16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
    "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
}
_BASE = {"f16": Type.F16, "q8_0": Type.Q8_0, "q4_0": Type.Q4_0, "q4_k_m": Type.Q4_K}
# For rows that are no multiple of 256, as llama.cpp does it.
_SMALLER_BLOCKS = {Type.Q4_K: Type.Q5_0, Type.Q6_K: Type.Q8_0}


def tensor_type(name: str, shape: tuple[int, ...], mixture: str, layers: int, tied: bool) -> Type:
    """The type of a language model's tensor in llama.cpp's default mixtures.

    The matrix that gives the logits (the embedding, if tied) is Q6_K in the 4-bit files. In q4_k_m so are the value
    and down projections of the first and last eighth of the layers and of every third between them.
    """
    if len(shape) == 1:
        return Type.F32
    kind = _BASE[mixture]
    if mixture in ("q4_0", "q4_k_m") and name == ("token_embd.weight" if tied else "output.weight"):
        kind = Type.Q6_K if shape[-1] % _block(kind) == 0 else Type.Q8_0
    elif mixture == "q4_k_m" and name.endswith(("attn_v.weight", "ffn_down.weight")):
        kind = Type.Q6_K if _gets_more_bits(int(name.split(".")[1]), layers) else kind
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


def pack(values: npt.NDArray[np.float32], kind: Type, threads: int = 1, where: str | None = None) -> npt.NDArray[Any]:
    """Values of a tensor as they stand in the file: float32, float16, or bytes of ggml's blocks.

    Raises:
        ExportError: values that are not finite, or exceed float16.
    """
    if not np.isfinite(values).all():
        raise ExportError("a weight is not a number", where=where, expected="finite values", got="NaN or infinity")
    if kind == Type.F32:
        return np.ascontiguousarray(values, dtype=np.float32)
    if kind == Type.F16:
        if np.abs(values).max(initial=0) > np.finfo(np.float16).max:
            raise ExportError(
                "a weight does not fit into 16 bits", where=where, expected="up to 65504", got=np.abs(values).max()
            )
        return np.ascontiguousarray(values, dtype=np.float16)
    return _quantise(np.ascontiguousarray(values, dtype=np.float32), kind, threads)


def _quantise(values: npt.NDArray[np.float32], kind: Type, threads: int) -> npt.NDArray[np.uint8]:
    width = values.shape[-1]
    packed = np.empty(byte_shape(values.shape, kind), np.uint8)
    rows = values.size // width
    row_bytes = packed.size // rows
    quantise = _library().ggml_quantize_chunk

    def part(bounds: tuple[int, int]) -> None:
        start, end = bounds
        source, target = values.ctypes.data + start * width * 4, packed.ctypes.data + start * row_bytes
        quantise(int(kind), source, target, 0, end - start, width, None)

    edges = np.linspace(0, rows, threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, itertools.pairwise(edges)))
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
