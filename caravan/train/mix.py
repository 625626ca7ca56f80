"""Which document comes at which position of a run: a pure function, so a resumed run sees exactly the rest.

Sources follow a golden-ratio (Kronecker) sequence through the cumulated weights: in any block of n positions a source
appears as often as its weight says, up to a few (O(log n)). Within a source, each epoch is a permutation given by a
keyed Feistel network (cycle-walking, Black and Rogaway 2002), so that no order of documents is held in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caravan.core.errors import DataError

Ints = NDArray[np.int64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 1 << 16
ROUNDS = 4


def scramble(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A well-mixed 64-bit hash of each value (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        value = value + GOLDEN
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def hashed(seed: int, *values: int | Ints) -> NDArray[np.uint64]:
    """A hash of integers, elementwise."""
    state = scramble(np.asarray(seed, np.int64).astype(np.uint64))
    for value in values:
        state = scramble(state ^ np.asarray(value, np.int64).astype(np.uint64))
    return state


def permute(index_N: Ints, size: int, key_N: NDArray[np.uint64]) -> Ints:
    """Send each index through the permutation of range(size) that its key names."""
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    low = np.uint64((1 << int(half)) - 1)
    result = index_N.astype(np.uint64)
    outside = np.ones(len(result), bool)
    while outside.any():
        left, right, key = result[outside] >> half, result[outside] & low, key_N[outside]
        for turn in range(ROUNDS):
            left, right = right, left ^ (scramble(right ^ scramble(key ^ np.uint64(turn))) & low)
        result[outside] = (left << half) | right
        outside &= result >= np.uint64(size)
    return result.astype(np.int64)


@dataclass(frozen=True)
class Mixture:
    """Sources mixed by weights that move from `start` to `end` over the run.

    Attributes:
        sizes: documents in each source.
        start: relative weights of the sources until the share `change_from` of the run.
        end: relative weights from the share `change_to` on; between the two they move linearly.
        positions: length of the run, the clock of the change. Later positions keep the weights of the end.
        seed: of the order.

    Raises:
        DataError: a source with weight but without documents, or no weight at all.
    """

    sizes: tuple[int, ...]
    start: tuple[float, ...]
    end: tuple[float, ...]
    positions: int
    change_from: float = 0.0
    change_to: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for weights in (self.start, self.end):
            if len(weights) != len(self.sizes) or min(weights, default=0.0) < 0 or sum(weights) <= 0:
                raise DataError(
                    "nothing to mix",
                    expected=f"weights of {len(self.sizes)} sources, none negative, some positive",
                    got=weights,
                    fix="give at least one source with documents a weight above 0",
                )
            for index, (size, weight) in enumerate(zip(self.sizes, weights, strict=True)):
                if weight > 0 and size == 0:
                    raise DataError("a source without documents has weight", where=f"source {index}", got=weight)

    def weights(self, position_N: Ints) -> NDArray[np.float64]:
        """Normalised weights [N, sources] at each position."""
        begin, finish = self.change_from * self.positions, self.change_to * self.positions
        if begin == finish:
            moved_N = (position_N >= begin).astype(np.float64)
        else:
            moved_N = np.clip((position_N - begin) / (finish - begin), 0.0, 1.0)
        start, end = (np.asarray(weights, np.float64) / sum(weights) for weights in (self.start, self.end))
        weights_NS: NDArray[np.float64] = start + moved_N[:, None] * (end - start)
        return weights_NS

    def sources(self, position_N: Ints) -> Ints:
        """The source at each position."""
        with np.errstate(over="ignore"):
            turn_N = position_N.astype(np.uint64) * GOLDEN + hashed(self.seed)
        weights_NS = self.weights(position_N)
        edges_NS = np.cumsum(weights_NS, axis=1)
        share_N = turn_N.astype(np.float64) / 2.0**64 * edges_NS[:, -1]
        found_N: Ints = (share_N[:, None] >= edges_NS).sum(axis=1)
        # Rounding can put a share on the last edge: the last source with weight has it.
        last_N = len(self.sizes) - 1 - np.argmax(weights_NS[:, ::-1] > 0, axis=1)
        return np.where(found_N < last_N, found_N, last_N)

    def draw(self, first: int, last: int) -> tuple[Ints, Ints]:
        """Source and document at each position from `first` up to, not including, `last`."""
        before_S = np.zeros(len(self.sizes), np.int64)
        for begin in range(0, first, BLOCK):
            block = np.arange(begin, min(begin + BLOCK, first))
            before_S += np.bincount(self.sources(block), minlength=len(self.sizes))
        parts = [self.sources(np.arange(a, min(a + BLOCK, last))) for a in range(first, last, BLOCK)]
        source_N = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        document_N = np.empty_like(source_N)
        for source, size in enumerate(self.sizes):
            here = np.flatnonzero(source_N == source)
            epoch, index = np.divmod(before_S[source] + np.arange(len(here)), max(size, 1))
            document_N[here] = permute(index, size, hashed(self.seed, source, epoch))
        return source_N, document_N
