"""Writing a GGUF file block by block, so that a model of any size takes the memory of a few blocks."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

from caravan.core.errors import ExportError
from caravan.core.files import atomic_path
from caravan.core.progress import track
from caravan.export.ggml import byte_shape, pack

Array = npt.NDArray[np.float32]
# Values that a thread reads, converts and packs at a time.
BLOCK = 1 << 22
# Blocks of each thread that may wait for their turn to be written.
AHEAD = 2
_PLAIN: dict[GGMLQuantizationType, np.dtype[Any]] = {
    GGMLQuantizationType.F32: np.dtype(np.float32),
    GGMLQuantizationType.F16: np.dtype(np.float16),
}


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written.

    Attributes:
        name, shape, type: in the file.
        read: its values in float32, of some rows (indices of the first dimension); called by several threads.
        unit: how many rows belong together; blocks begin at multiples of it.
    """

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    read: Callable[[slice], Array]
    unit: int = 1

    def blocks(self) -> Iterator[slice]:
        """The rows, in pieces of about `BLOCK` values."""
        step = max(BLOCK // (prod(self.shape[1:]) * self.unit), 1) * self.unit
        return (slice(start, min(start + step, self.shape[0])) for start in range(0, self.shape[0], step))


def whole(name: str, shape: tuple[int, ...], kind: GGMLQuantizationType, read: Callable[[], Array]) -> Tensor:
    """A tensor that is read in one piece."""
    return Tensor(name, shape, kind, lambda rows: read()[rows], unit=shape[0])


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
            assert writer.fout is not None
            stream = writer.fout[0]
            writer.write_padding(stream, stream.tell())
            for tensor, blocks in itertools.groupby(_packed(tensors, threads), lambda found: found[0]):
                size = 0
                for _, block in blocks:
                    block.tofile(stream)
                    size += block.nbytes
                writer.write_padding(stream, size)
                assert size == _bytes(tensor)
                bar.advance()
        finally:
            writer.close()


def _announce(writer: GGUFWriter, tensor: Tensor) -> None:
    if tensor.type in _PLAIN:
        writer.add_tensor_info(tensor.name, tensor.shape, _PLAIN[tensor.type], _bytes(tensor))
    else:
        shape = byte_shape(tensor.shape, tensor.type)
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), _bytes(tensor), raw_dtype=tensor.type)


def _bytes(tensor: Tensor) -> int:
    return prod(byte_shape(tensor.shape, tensor.type))


def _packed(tensors: Iterable[Tensor], threads: int) -> Iterator[tuple[Tensor, npt.NDArray[Any]]]:
    """All tensors' blocks in order, packed by several threads, a few blocks ahead of who takes them."""
    jobs = ((tensor, rows) for tensor in tensors for rows in tensor.blocks())
    waiting: deque[tuple[Tensor, Future[npt.NDArray[Any]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for tensor, rows in jobs:
                waiting.append((tensor, pool.submit(_pack_block, tensor, rows)))
                if len(waiting) > AHEAD * threads:
                    first, block = waiting.popleft()
                    yield first, block.result()
            while waiting:
                first, block = waiting.popleft()
                yield first, block.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _pack_block(tensor: Tensor, rows: slice) -> npt.NDArray[Any]:
    values = tensor.read(rows)
    expected = (rows.stop - rows.start, *tensor.shape[1:])
    if values.shape != expected:
        raise ExportError("a weight has another shape", where=tensor.name, expected=expected, got=values.shape)
    return pack(values, tensor.type, where=tensor.name)


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
