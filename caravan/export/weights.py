"""Weights of a Hugging Face folder, some rows at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caravan.core.errors import ExportError
from caravan.core.files import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
Array = npt.NDArray[np.float32]
ALL = slice(None)
MOST_HEADER = 100_000_000  # as the safetensors library has it
_STORED: dict[str, np.dtype[np.generic]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}


@dataclass(frozen=True)
class _Stored:
    """Where a tensor is: in which file, from which byte, in which type."""

    file: Path
    offset: int
    type: str
    shape: tuple[int, ...]


def _stored(file: Path) -> Iterator[tuple[str, _Stored]]:
    """Tensors of a safetensors file (https://huggingface.co/docs/safetensors: a length, a JSON header, the values)."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > MOST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
    except (OSError, ValueError) as error:
        raise ExportError(
            "weights that cannot be read", where=str(file), expected="a safetensors file", got=str(error)
        ) from error
    for name, facts in header.items():
        if name != "__metadata__":
            place = 8 + length + facts["data_offsets"][0]
            yield name, _Stored(file, place, facts["dtype"], tuple(facts["shape"]))


class Weights:
    """Names, shapes and values in a folder's safetensors files, sharded or not.

    Values are read, not mapped: pages of a mapped file would count as memory of this process.

    Raises:
        ExportError: the folder has no safetensors, or a tensor that is asked for is not in them.
    """

    def __init__(self, folder: Path, single: str = SINGLE) -> None:
        self.folder = folder
        if (folder / INDEX).is_file():
            shards = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        elif (folder / single).is_file():
            shards = [single]
        else:
            raise ExportError(
                "no weights to export",
                where=str(folder),
                expected=f"{single} or {INDEX}",
                got="neither",
                fix="save the model with `save_pretrained`",
            )
        self._stored = dict(item for shard in shards for item in _stored(folder / shard))

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._find(name).shape

    def read(self, name: str, rows: slice = ALL) -> Array:
        """A tensor in float32, or some rows of it (indices of its first dimension).

        Raises:
            ExportError: it is stored in a type of fewer than 16 bits, or its file is cut short.
        """
        stored = self._find(name)
        if stored.type not in _STORED:
            raise ExportError(
                "these weights are quantised already",
                where=f"{stored.file}, {name}",
                expected=" or ".join(_STORED),
                got=stored.type,
                fix="export the model that they were quantised from",
            )
        kind, width = _STORED[stored.type], prod(stored.shape[1:])
        start, stop, _ = rows.indices(stored.shape[0])
        offset = stored.offset + start * width * kind.itemsize
        values = np.fromfile(stored.file, kind, (stop - start) * width, offset=offset)
        if values.size != (stop - start) * width:
            raise ExportError(
                "a file of weights is cut short",
                where=f"{stored.file}, {name}",
                expected=f"{(stop - start) * width} values",
                got=values.size,
                fix="copy the model again",
            )
        if stored.type == "BF16":  # the upper half of a float32
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return values.astype(np.float32, copy=False).reshape(stop - start, *stored.shape[1:])

    def _find(self, name: str) -> _Stored:
        if name not in self._stored:
            raise ExportError(
                "a weight is missing",
                where=str(self.folder),
                expected=name,
                got=f"{len(self._stored)} other tensors",
                fix="export a model of a known architecture, saved whole",
            )
        return self._stored[name]
