"""The files of `torch.distributed.checkpoint`, written and read chunk by chunk.

Each `.distcp` file holds chunks as `torch.save` writes them, one after the other; `.metadata` tells, pickled, the shape
of every tensor, its chunks, and where each of them is (PyTorch 2, version 1.0.0 of the format).
"""

from __future__ import annotations

import io
import itertools
import pickle
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.filesystem import CURRENT_DCP_VERSION, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from caravan.convert.pickled import InertUnpickler
from caravan.convert.weights import Lazy
from caravan.core.errors import ModelError
from caravan.core.files import atomic_path, sync

METADATA = ".metadata"
_MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
_CLASSES = {
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "Metadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorProperties",
    "TensorStorageMetadata",
    "_MEM_FORMAT_ENCODING",
    "_StorageInfo",
}


class _Unpickler(InertUnpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module in _MODULES and name in _CLASSES:
            return pickle.Unpickler.find_class(self, module, name)
        return super().find_class(module, name)


class ChunkWriter:
    """Writes the files of so many ranks; the metadata comes last.

    Each rank's file stays open: a tensor is computed once and its chunks go to their ranks.
    """

    def __init__(self, folder: Path, ranks: int) -> None:
        self.folder = folder
        self._streams = [(folder / f"__{rank}_0.distcp").open("wb") for rank in range(ranks)]
        self._tensors: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
        self._stored: dict[MetadataIndex, _StorageInfo] = {}

    def __enter__(self) -> ChunkWriter:
        return self

    def add(
        self,
        rank: int,
        key: str,
        chunk: Tensor,
        offset: tuple[int, ...],
        shape: tuple[int, ...],
        stacked: tuple[int, int] | None,
    ) -> None:
        """Write a chunk of a tensor.

        Args:
            offset: where the chunk begins in the tensor. shape: of the whole tensor.
            stacked: place and number of the layers that one tensor holds along a first axis of its own.
        """
        # A view would take the whole tensor along.
        chunk = chunk.clone(memory_format=torch.contiguous_format)
        if stacked is not None:
            chunk, offset, shape = chunk[None], (stacked[0], *offset), (stacked[1], *shape)
        new = TensorStorageMetadata(TensorProperties(dtype=chunk.dtype), torch.Size(shape), [])
        told = cast(TensorStorageMetadata, self._tensors.setdefault(key, new))
        told.chunks.append(ChunkStorageMetadata(torch.Size(offset), chunk.shape))
        stream = self._streams[rank]
        begins = stream.tell()
        torch.save(chunk, stream)
        info = _StorageInfo(Path(stream.name).name, begins, stream.tell() - begins)
        self._stored[MetadataIndex(key, torch.Size(offset), len(told.chunks) - 1)] = info

    def add_nothing(self, rank: int, key: str) -> None:
        """Write an object without content, which a reader may ask for."""
        stream = self._streams[rank]
        begins = stream.tell()
        torch.save([None], stream)
        self._tensors[key] = BytesStorageMetadata()
        info = _StorageInfo(Path(stream.name).name, begins, stream.tell() - begins)
        self._stored[MetadataIndex(key)] = info

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams:
            stream.close()
        if kind is None:
            for stream in self._streams:
                sync(Path(stream.name))
            paths = {key: (key,) for key in self._tensors}  # for readers that make a nested state of it
            metadata = Metadata(self._tensors, planner_data=paths, storage_data=self._stored)
            metadata.version = CURRENT_DCP_VERSION
            with atomic_path(self.folder / METADATA) as temporary, temporary.open("wb") as file:
                pickle.dump(metadata, file)


class Chunks:
    """The tensors of a checkpoint by key, read a region at a time.

    Raises:
        ModelError: the metadata cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            with (folder / METADATA).open("rb") as stream:
                metadata = _Unpickler(stream).load()
            tensors = metadata.state_dict_metadata.items()
            self._tensors = {key: told for key, told in tensors if isinstance(told, TensorStorageMetadata)}
            self._stored: dict[Any, _StorageInfo] = {
                (index.fqn, tuple(index.offset)): info
                for index, info in metadata.storage_data.items()
                if index.offset is not None
            }
        except (OSError, ValueError, EOFError, AttributeError, pickle.UnpicklingError) as error:
            raise ModelError(
                "not a distributed checkpoint of torch",
                where=str(folder / METADATA),
                expected="its metadata",
                got=error,
            ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._tensors

    def lazy(self, key: str, layer: int | None = None) -> Lazy:
        """A tensor, or one layer of a stack of them.

        Raises:
            ModelError: it is not there, or lacks a chunk.
        """
        if key not in self._tensors:
            raise ModelError(
                "a tensor is missing",
                where=str(self.folder),
                expected=key,
                got=f"{len(self._tensors)} others, such as {', '.join(itertools.islice(self._tensors, 2))}",
                fix="give a checkpoint of the model that the config tells of: like=FOLDER",
            )
        told = self._tensors[key]
        first = () if layer is None else (layer,)
        shape = tuple(told.size)[len(first) :]
        return Lazy(shape, told.properties.dtype, partial(self._read, key, first))

    def _read(self, key: str, first: tuple[int, ...]) -> Tensor:
        told = self._tensors[key]
        found = torch.empty(tuple(told.size)[len(first) :], dtype=told.properties.dtype)
        filled = 0
        for chunk in told.chunks:
            begins = tuple(chunk.offsets)
            if first and not begins[0] <= first[0] < begins[0] + chunk.sizes[0]:
                continue
            values = self._load(key, begins)
            values = values[first[0] - begins[0]] if first else values
            place = tuple(slice(at, at + n) for at, n in zip(begins[len(first) :], values.shape, strict=True))
            found[place] = values
            filled += values.numel()
        if filled != found.numel():
            raise ModelError(
                "a chunk of a tensor is missing", where=f"{self.folder}, {key}", expected=found.numel(), got=filled
            )
        return found

    def _load(self, key: str, offset: tuple[int, ...]) -> Tensor:
        info = self._stored.get((key, offset))
        if info is None:
            raise ModelError("a chunk of a tensor is missing", where=f"{self.folder}, {key}", expected=offset)
        with (self.folder / info.relative_path).open("rb") as stream:
            stream.seek(info.offset)
            held = io.BytesIO(stream.read(info.length))
        loaded: Tensor = torch.load(held, map_location="cpu", weights_only=True)
        return loaded
