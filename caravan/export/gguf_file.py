"""Writing a GGUF file tensor by tensor, so that a model of any size takes the memory of one tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

from caravan.core.errors import ExportError
from caravan.core.files import atomic_path
from caravan.core.progress import track
from caravan.export.ggml import byte_shape, pack

_PLAIN: dict[GGMLQuantizationType, np.dtype[Any]] = {
    GGMLQuantizationType.F32: np.dtype(np.float32),
    GGMLQuantizationType.F16: np.dtype(np.float16),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written: its name in the file, shape, type there, and how to get its values in float32."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    read: Callable[[], npt.NDArray[np.float32]]


def write_gguf(
    path: Path,
    architecture: str,
    describe: Callable[[GGUFWriter], None],
    tensors: Sequence[Tensor],
    threads: int = 1,
) -> None:
    """Write a file atomically; `describe` adds the metadata.

    Raises:
        ExportError: a tensor cannot be packed, or has another shape than it said.
        DiskFullError: the disk filled up.
    """
    with atomic_path(path) as temporary, track(path.name, len(tensors), "tensor") as bar:
        writer = GGUFWriter(temporary, architecture)
        describe(writer)
        for tensor in tensors:
            _announce(writer, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        try:
            for tensor in tensors:
                writer.write_tensor_data(_packed(tensor, threads))
                bar.advance()
        finally:
            writer.close()


def _announce(writer: GGUFWriter, tensor: Tensor) -> None:
    shape = byte_shape(tensor.shape, tensor.type)
    size = int(np.prod(shape))
    if tensor.type in _PLAIN:
        writer.add_tensor_info(tensor.name, tensor.shape, _PLAIN[tensor.type], size)
    else:
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), size, raw_dtype=tensor.type)


def _packed(tensor: Tensor, threads: int) -> npt.NDArray[Any]:
    values = tensor.read()
    if values.shape != tensor.shape:
        raise ExportError("a weight has another shape", where=tensor.name, expected=tensor.shape, got=values.shape)
    return pack(values, tensor.type, threads, where=tensor.name)


def describe_file(path: Path) -> dict[str, Any]:
    """Size of a GGUF file, its bits per weight and how many tensors it has of each type."""
    tensors = GGUFReader(path).tensors
    weights = sum(int(tensor.n_elements) for tensor in tensors)
    return {
        "bytes": path.stat().st_size,
        "weights": weights,
        "bits_per_weight": round(8 * sum(int(tensor.n_bytes) for tensor in tensors) / weights, 3),
        "types": dict(Counter(tensor.tensor_type.name for tensor in tensors)),
    }
