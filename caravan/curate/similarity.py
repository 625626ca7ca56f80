"""The true Jaccard similarity of pairs of documents: their shingles wait in a file, a few of them are in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numba import njit

from caravan.core.progress import track
from caravan.curate.kernels import Points
from caravan.curate.readers import key_range
from caravan.curate.signatures import SKETCHED, U32_MAX, shingle_sets

Keys = npt.NDArray[np.int64]

# Shingles, 4 bytes each, that a batch of pairs brings into memory.
BATCH_SHINGLES = 8 << 20


@njit(nogil=True, cache=True)
def jaccards(values: Points, starts: Keys, most: Points, pairs: Keys, out: npt.NDArray[np.float64]) -> None:
    """Similarity of each pair of sets, as far as both are known.

    Set i is the sorted values[starts[i]:starts[i + 1]], and all that it holds up to most[i].
    """
    for pair in range(len(pairs)):
        i, i_end = starts[pairs[pair, 0]], starts[pairs[pair, 0] + 1]
        j, j_end = starts[pairs[pair, 1]], starts[pairs[pair, 1] + 1]
        bound = min(most[pairs[pair, 0]], most[pairs[pair, 1]])
        if bound < U32_MAX:
            i_end = i + np.searchsorted(values[i:i_end], bound, side="right")
            j_end = j + np.searchsorted(values[j:j_end], bound, side="right")
        total = (i_end - i) + (j_end - j)
        shared = 0
        while i < i_end and j < j_end:
            shared += values[i] == values[j]
            step_i, step_j = values[i] <= values[j], values[j] <= values[i]
            i += step_i
            j += step_j
        out[pair] = shared / max(1, total - shared)


class ShingleFile:
    """Sets of the shingles of some documents, in a file of 32-bit hashes.

    Args:
        path: file to write; it is removed in the end.
        keys: keys of the documents, sorted; negative ones are of an index, which has sketches instead of sets.
    """

    def __init__(self, path: Path, keys: Keys) -> None:
        self.path, self.keys = path, keys
        self.starts = np.zeros(len(keys) + 1, np.int64)
        self.sketched = 0

    def __enter__(self) -> ShingleFile:
        self.file = self.path.open("wb+")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)

    def collect(self, indexed: Iterable[pa.RecordBatch], shards: list[Path], shingle: Callable[[str], int]) -> None:
        """Take the sketches of indexed documents, then read the others in their judged shards, all in their order.

        Args:
            indexed: batches of sketches, one for each negative key.
            shingle: words in a shingle of a language.
        """
        for batch in indexed:
            self.file.write(batch["sketch"].flatten().to_numpy().tobytes())
            end = self.sketched + batch.num_rows
            self.starts[self.sketched + 1 : end + 1] = batch["sketch"].value_lengths()
            self.sketched = end
        with track("verify", len(shards), "shard") as bar:
            for shard in shards:
                low, high = np.searchsorted(self.keys, key_range(shard))
                if low < high:
                    self._collect(shard, int(low), int(high), shingle)
                bar.advance()
        np.cumsum(self.starts, out=self.starts)
        self.file.flush()

    def _collect(self, shard: Path, low: int, high: int, shingle: Callable[[str], int]) -> None:
        wanted = self.keys[low:high]
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(columns=["key", "text", "language"]):
                places = np.searchsorted(wanted, batch["key"].to_numpy())
                there = wanted[np.minimum(places, len(wanted) - 1)] == batch["key"].to_numpy()
                rows = batch.filter(pa.array(there))
                values, sizes = shingle_sets(rows["text"], [shingle(name) for name in rows["language"].to_pylist()])
                self.file.write(values.tobytes())
                self.starts[low + 1 + places[there]] = sizes

    def similarities(self, pairs: Keys) -> npt.NDArray[np.float64]:
        """Jaccard similarity of the sets of pairs of keys [n, 2] -> [n]; fast where neighbours share a document."""
        found = np.empty(len(pairs))
        nodes = np.searchsorted(self.keys, pairs)
        for batch in self._batches(nodes):
            here, local = np.unique(nodes[batch], return_inverse=True)
            values, starts = self._read(here)
            jaccards(
                values, starts, self._most(here, values, starts), local.reshape(-1, 2).astype(np.int64), found[batch]
            )
        return found

    def _batches(self, nodes: Keys) -> Iterator[slice]:
        """Slices of the pairs, each of about BATCH_SHINGLES."""
        costs = np.cumsum((self.starts[nodes + 1] - self.starts[nodes]).sum(axis=1)) // BATCH_SHINGLES
        edges = np.flatnonzero(np.diff(costs, prepend=-1, append=np.iinfo(np.int64).max))
        for first, last in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            yield slice(first, last)

    def _read(self, nodes: Keys) -> tuple[Points, Keys]:
        """The sets of some nodes, one after the other, and where each begins."""
        width = np.dtype(np.uint32).itemsize
        sizes = self.starts[nodes + 1] - self.starts[nodes]
        parts = [
            os.pread(self.file.fileno(), size * width, start * width)
            for size, start in zip(sizes.tolist(), self.starts[nodes].tolist(), strict=True)
        ]
        return np.frombuffer(b"".join(parts), np.uint32), np.concatenate([[0], np.cumsum(sizes)])

    def _most(self, nodes: Keys, values: Points, starts: Keys) -> Points:
        """Up to which hash each set is known: a full sketch ends somewhere, everything else is whole."""
        most = np.full(len(nodes), U32_MAX)
        cut = (nodes < self.sketched) & (np.diff(starts) == SKETCHED)
        most[cut] = values[starts[1:][cut] - 1]
        return most
