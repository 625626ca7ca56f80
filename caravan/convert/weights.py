"""Weights by name that are read when they are needed: every conversion maps such a table to another.

Nothing is kept: whoever writes the result holds one tensor at a time, so a model of any size takes the memory of its
largest tensor and what that is computed of.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caravan.core.errors import ModelError
from caravan.core.files import read_json, write_json
from caravan.core.progress import track
from caravan.models.tensors import BLOCK, FLOATS, INDEX, SINGLE, Bytes, Stored, Written, read_header, write_file

# What safetensors calls the types of torch.
NAMES = {dtype: name for name, dtype in FLOATS.items()} | {
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"
}  # fmt: skip
DTYPES = {name: dtype for dtype, name in NAMES.items()}


@dataclass(frozen=True)
class Lazy:
    """A tensor that is read, or computed, each time it is asked for."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def cast(self, dtype: torch.dtype | None) -> Lazy:
        """The same in another floating-point type; whole numbers stay."""
        if dtype is None or dtype == self.dtype or not self.dtype.is_floating_point:
            return self
        return Lazy(self.shape, dtype, lambda: self.read().to(dtype))


Weights = dict[str, Lazy]


def take(weights: Weights, name: str, where: object) -> Lazy:
    """A weight by name.

    Raises:
        ModelError: it is missing.
    """
    if name not in weights:
        raise ModelError(
            "a weight is missing",
            where=str(where),
            expected=name,
            got=f"{len(weights)} others, such as {', '.join(list(weights)[:2])}",
            fix="name a model of the architecture that its config tells of, saved whole",
        )
    return weights[name]


def safetensors_weights(file: Path) -> Weights:
    """What a safetensors file holds.

    Raises:
        ModelError: the file is torn, or of a type that torch lacks.
    """
    tensors, _ = read_header(file)
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise ModelError(
                "a tensor of an unknown type",
                where=f"{file}, {tensor.name}",
                expected=" | ".join(DTYPES),
                got=tensor.dtype,
                fix="name a model that is not quantised",
            )
    return {each.name: Lazy(each.shape, DTYPES[each.dtype], partial(_read, each)) for each in tensors}


def _read(stored: Stored) -> Tensor:
    held = np.empty(len(stored.data), np.uint8)
    mapping: mmap.mmap | None = getattr(stored.data, "_mmap", None)
    at = 0
    for block in stored.blocks():
        held[at : at + len(block)] = block
        at += len(block)
        if mapping is not None:
            # Pages of the file that were read count as this process's memory until they are let go.
            mapping.madvise(mmap.MADV_DONTNEED)
    if not held.size:
        return torch.empty(stored.shape, dtype=DTYPES[stored.dtype])
    return torch.from_numpy(held).view(DTYPES[stored.dtype]).reshape(stored.shape)


def write_weights(folder: Path, weights: Weights, shard_bytes: float) -> None:
    """Write safetensors files in the order of the table; files that an earlier attempt finished are kept.

    Raises:
        DiskFullError: there is no room.
    """
    shards = _shards(weights, shard_bytes)
    width = f"{len(shards):05d}"
    names = (
        [SINGLE] if len(shards) == 1 else [f"model-{n:05d}-of-{width}.safetensors" for n in range(1, len(shards) + 1)]
    )
    with track("writing weights", len(weights), "tensor") as bar:
        for file, shard in zip(names, shards, strict=True):
            if not (folder / file).exists():
                write_file(folder / file, [_written(name, weights[name]) for name in shard], {"format": "pt"})
            bar.advance(len(shard))
    if len(shards) > 1:
        place = {name: file for file, shard in zip(names, shards, strict=True) for name in shard}
        total = sum(lazy.size for lazy in weights.values())
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": place})


def _shards(weights: Weights, most: float) -> list[list[str]]:
    """Names in order, as many in each file as fit."""
    shards: list[list[str]] = [[]]
    held = 0
    for name, lazy in weights.items():
        if held and held + lazy.size > most:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += lazy.size
    return shards


def _written(name: str, lazy: Lazy) -> Written:
    return Written(name, NAMES[lazy.dtype], lazy.shape, lazy.size, lambda: _blocks(name, lazy))


def _blocks(name: str, lazy: Lazy) -> Iterator[Bytes]:
    whole = values(name, lazy)
    for start in range(0, len(whole), BLOCK):
        yield whole[start : start + BLOCK].copy()  # a part of the whole would keep it while the next is computed


def values(name: str, lazy: Lazy) -> Bytes:
    """The bytes of a tensor.

    Raises:
        ModelError: it is not what its table says.
    """
    tensor = lazy.read()
    if tuple(tensor.shape) != lazy.shape or tensor.dtype != lazy.dtype:
        raise ModelError(
            "a tensor is not what was told of it",
            where=name,
            expected=f"{lazy.shape} of {lazy.dtype}",
            got=f"{tuple(tensor.shape)} of {tensor.dtype}",
        )
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def index_of(file: Path) -> list[str]:
    """Names of the files that an index of shards names, in order."""
    return sorted(set(read_json(file)["weight_map"].values()))
