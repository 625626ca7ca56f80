"""Packed tokens in Megatron's layout: `NAME.bin` holds the tokens, `NAME.idx` where each document lies.

The index, little-endian, as Megatron-LM's `indexed_dataset.py` reads it: magic `MMIDIDX\\0\\0` (9 bytes), version 1
(u64), code of the tokens' type (u8), number of sequences n (u64), length of the document index d (u64), then n
lengths in tokens (i32), n offsets in bytes (i64), and d sequence numbers at which documents begin (i64), the last of
them n. Here every document is one sequence, so that d is n + 1.
"""

from __future__ import annotations

import array
import contextlib
import struct
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from caravan.core.errors import ArtifactError
from caravan.core.files import atomic_path

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
DTYPES = {1: np.uint8, 2: np.int8, 3: np.int16, 4: np.int32, 5: np.int64, 6: np.float64, 7: np.float32, 8: np.uint16}
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
SMALL_VOCABULARY = 65500


def token_dtype(vocabulary: int) -> np.dtype[Any]:
    """The type that Megatron stores tokens of a vocabulary of this size in."""
    return np.dtype(np.uint16 if vocabulary < SMALL_VOCABULARY else np.int32)


class IndexedWriter:
    """Write documents one after the other; both files appear at the end, the index last.

    Args:
        path: the files' common path, without suffix.
        dtype: type of the tokens, such as `token_dtype` gives.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike) -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        self.lengths = array.array("i")
        self._stack = contextlib.ExitStack()
        self._bin: BinaryIO

    def __enter__(self) -> IndexedWriter:
        temporary = self._stack.enter_context(atomic_path(self.path.with_suffix(".bin")))
        self._bin = self._stack.enter_context(temporary.open("wb"))
        return self

    def add(self, ids: npt.ArrayLike) -> None:
        """Append one document of token ids [n]."""
        tokens = np.asarray(ids)
        self._bin.write(tokens.astype(self.dtype).tobytes())
        self.lengths.append(len(tokens))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if error is None:
            self._write_index()

    def _write_index(self) -> None:
        lengths = np.asarray(self.lengths, dtype=np.int32)
        ends = np.cumsum(lengths, dtype=np.int64) * self.dtype.itemsize
        with atomic_path(self.path.with_suffix(".idx")) as temporary, temporary.open("wb") as stream:
            stream.write(HEADER.pack(MAGIC, 1, CODES[self.dtype], len(lengths), len(lengths) + 1))
            stream.write(lengths.tobytes())
            stream.write(np.concatenate([np.zeros(1, np.int64), ends])[: len(lengths)].tobytes())
            stream.write(np.arange(len(lengths) + 1, dtype=np.int64).tobytes())


class IndexedDataset:
    """Documents of a `.bin`/`.idx` pair, memory-mapped; only the pages that are read come into memory.

    Args:
        path: the files' common path, with or without a suffix.

    Attributes:
        lengths: tokens of each document, int32 [n].

    Raises:
        ArtifactError: a file is missing, of another format, or shorter than the index says.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        index = self._bytes(self.path.with_suffix(".idx"))
        count, documents, self.dtype = self._header(index)
        end = HEADER.size + 12 * count
        if len(index) < end + 8 * documents:
            raise self._wrong(".idx", "the index is truncated", f"{end + 8 * documents} bytes", f"{len(index)} bytes")
        self.lengths = np.frombuffer(index, np.int32, count, HEADER.size)
        self.offsets = np.frombuffer(index, np.int64, count, HEADER.size + 4 * count)
        self._tokens = self._bytes(self.path.with_suffix(".bin"))
        needed = int((self.offsets + self.lengths.astype(np.int64) * self.dtype.itemsize).max(initial=0))
        if len(self._tokens) < needed:
            raise self._wrong(".bin", "the tokens are truncated", f"{needed} bytes", f"{len(self._tokens)} bytes")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        """Token ids of one document [n], a read-only view of the file."""
        return np.frombuffer(self._tokens, self.dtype, int(self.lengths[index]), int(self.offsets[index]))

    def _header(self, index: npt.NDArray[np.uint8]) -> tuple[int, int, np.dtype[Any]]:
        if len(index) < HEADER.size:
            raise self._wrong(".idx", "not an index of packed tokens", f"{HEADER.size} bytes or more", f"{len(index)}")
        magic, version, code, count, documents = HEADER.unpack(index[: HEADER.size].tobytes())
        if magic != MAGIC or version != 1:
            got = f"{magic!r}, version {version}" if magic == MAGIC else repr(magic)
            raise self._wrong(".idx", "not an index of packed tokens", f"{MAGIC!r}, version 1", got)
        if code not in DTYPES:
            raise self._wrong(".idx", "unknown type of tokens", f"a code from {list(DTYPES)}", str(code))
        return count, documents, np.dtype(DTYPES[code])

    def _bytes(self, file: Path) -> npt.NDArray[np.uint8]:
        """A file, mapped; an empty one cannot be."""
        if not file.is_file():
            raise self._wrong(file.suffix, "no such file", "a .bin and an .idx file", "none")
        return np.memmap(file, np.uint8, mode="r") if file.stat().st_size else np.empty(0, np.uint8)

    def _wrong(self, suffix: str, problem: str, expected: str, got: str) -> ArtifactError:
        return ArtifactError(
            problem,
            where=str(self.path.with_suffix(suffix)),
            expected=expected,
            got=got,
            fix="make it again: run the tokenize stage",
        )
