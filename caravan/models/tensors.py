"""safetensors files read and written piece by piece, so that a model of any size takes the memory of a piece.

The format: the length of the header (u64, little-endian), the header in JSON (name -> dtype, shape, offsets into what
follows), then all values (huggingface/safetensors, README).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from caravan.core.errors import ModelError
from caravan.core.files import atomic_path, read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BLOCK = 1 << 22

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Stored:
    """A tensor of a file: its values are mapped, not read."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Bytes

    def rows(self, index: slice | Sequence[int]) -> torch.Tensor:
        """Some rows of a floating-point matrix, or elements of a vector, in its own type; a copy."""
        byte_rows = self.data.reshape(self.shape[0], -1)
        chosen = np.array(byte_rows[index if isinstance(index, slice) else list(index)])
        if not chosen.size:
            return torch.empty((0, *self.shape[1:]), dtype=FLOATS[self.dtype])
        return torch.from_numpy(chosen).view(FLOATS[self.dtype]).reshape(-1, *self.shape[1:])

    def blocks(self) -> Iterator[Bytes]:
        """All values, a block after the other."""
        for start in range(0, len(self.data), BLOCK):
            yield self.data[start : start + BLOCK]


@dataclass(frozen=True)
class Written:
    """A tensor to be written; `blocks` are its values, in order."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    blocks: Callable[[], Iterator[Bytes]]


def shards_of(folder: Path) -> list[str]:
    """The safetensors files of a model's folder, in order.

    Raises:
        ModelError: there are none.
    """
    if (folder / INDEX).is_file():
        return sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    if (folder / SINGLE).is_file():
        return [SINGLE]
    raise ModelError(
        "no weights in this folder",
        where=str(folder),
        expected=f"{SINGLE} or {INDEX}",
        got="neither",
        fix="save the model with `save_pretrained`",
    )


def read_header(file: Path) -> tuple[list[Stored], dict[str, str]]:
    """The tensors of a file in the order of their values, and its metadata.

    Raises:
        ModelError: the file is torn.
    """
    whole: Bytes = np.memmap(file, np.uint8, mode="r")
    length = int.from_bytes(whole[:8].tobytes(), "little")
    try:
        header = json.loads(whole[8 : 8 + length].tobytes())
    except ValueError as error:
        raise ModelError(
            "not a whole safetensors file", where=str(file), expected="a header in JSON", got=error, fix="copy it again"
        ) from error
    metadata: dict[str, str] = header.pop("__metadata__", {})
    values = whole[8 + length :]
    found = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, end = entry["data_offsets"]
        if end > len(values):
            raise ModelError(
                "not a whole safetensors file",
                where=f"{file}, {name}",
                expected=f"{end} bytes of values",
                got=len(values),
                fix="copy it again",
            )
        found.append(Stored(name, entry["dtype"], tuple(entry["shape"]), values[start:end]))
    return found, metadata


def write_file(file: Path, tensors: Sequence[Written], metadata: Mapping[str, str]) -> None:
    """Write a file atomically, block by block.

    Raises:
        DiskFullError: there is no room.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [at, at + tensor.size]}
        at += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for tensor in tensors:
            before = stream.tell()
            for block in tensor.blocks():
                stream.write(block.data)
            if stream.tell() - before != tensor.size:
                raise ModelError("a tensor has another size", where=tensor.name, expected=tensor.size)
