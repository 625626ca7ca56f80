"""N-grams of a stream of word ids, counted in a trie: each hangs on its context, the n-gram without its last word.

The trie grows with the number of different n-grams, not with the text. `<unk>` is in no n-gram: after it, contexts
begin anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from caravan.curate.kernels import Hashes, mix
from caravan.curate.ngrams.units import Ints, Longs
from caravan.curate.ngrams.vocabulary import BEGIN, END, UNKNOWN

WORD_BITS = np.uint64(24)
ROOT, FIRST = 0, 1  # nodes of the empty n-gram and of <s>
CHUNK = 1 << 20

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Ngrams:
    """N-grams of one length.

    Attributes:
        word: the last word of each [m].
        context: row among the n-grams one shorter of the n-gram without its last word [m]; `suffix`: without its first.
        count: how often each came [m]; 0 for `<s>` alone.
        adjusted: what Kneser-Ney takes for the count [m]: how many different words came before, `<unk>` being one; of
            the longest n-grams and of those that begin with `<s>`, which nothing comes before, `count`.
    """

    word: Ints
    context: Longs
    suffix: Longs
    count: Longs
    adjusted: Longs


@njit(inline="always")
def edge(node: int, word: int) -> np.uint64:
    """An n-gram's context and last word, which it is found by."""
    return (np.uint64(node) << WORD_BITS) | np.uint64(word)


@njit(nogil=True, cache=True)
def _find(key: np.uint64, table: Ints, edges: Hashes) -> np.int64:
    """Slot of an n-gram in a table with open addressing; a slot of the root, which hangs on nothing, is free."""
    slot = np.int64(mix(key) & np.uint64(len(table) - 1))
    while table[slot] and edges[table[slot]] != key:
        slot = (slot + 1) & (len(table) - 1)
    return slot


@njit(nogil=True, cache=True)
def _fill(table: Ints, edges: Hashes, known: int) -> None:
    for node in range(FIRST, known):
        table[_find(edges[node], table, edges)] = node


@njit(nogil=True, cache=True)
def _count(
    ids: Ints, last: Ints, known: int, table: Ints, edges: Hashes, suffix: Ints, count: Longs, left: Ints, cut: Flags
) -> int:
    """Count the n-grams of `ids`; returns how many nodes there are now.

    Args:
        last: nodes of the n-grams that end with the word before `ids`, by length, -1 for none [order + 1].
        cut: whether a node ever came right after `<unk>`.
    """
    order = len(last) - 1
    now = last.copy()
    for word in ids:
        if word == UNKNOWN:
            last[1:] = -1
            continue
        now[1:] = -1
        for n in range(1, order + 1):
            if last[n - 1] < 0:
                cut[now[n - 1]] = True
                break
            key = edge(last[n - 1], word)
            slot = _find(key, table, edges)
            if not table[slot]:
                table[slot], edges[known], suffix[known] = known, key, now[n - 1]
                left[now[n - 1]] += 1
                known += 1
            now[n] = table[slot]
            count[now[n]] += 1
        last[:] = now
        if word == END:
            last[1:] = -1
            last[1] = FIRST
    return known


class NgramCounter:
    """Counts of all n-grams up to a length.

    Args:
        order: words of the longest.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self.known = FIRST + 1
        self._edges, self._suffix = np.zeros(0, np.uint64), np.zeros(0, np.int32)
        self._count, self._left, self._cut = np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.bool_)
        self._table = np.zeros(1, np.int32)
        self._last = np.full(order + 1, -1, np.int32)
        self._last[:2] = ROOT, FIRST
        self._reserve(FIRST + 1)
        self._edges[FIRST] = edge(ROOT, BEGIN)
        _fill(self._table, self._edges, self.known)

    def add(self, ids: Ints) -> None:
        """Count the n-grams of whole lines, each ended by END; `<s>` before each is understood."""
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            self._reserve(self.known + self.order * len(chunk))
            nodes = self._edges, self._suffix, self._count, self._left, self._cut
            self.known = _count(chunk, self._last, self.known, self._table, *nodes)

    def _reserve(self, nodes: int) -> None:
        """Room for so many nodes, in a table that is at most half full."""
        if nodes <= len(self._edges):
            return
        size = max(nodes, 3 * len(self._edges) // 2)
        for name in ("_edges", "_suffix", "_count", "_left", "_cut"):
            setattr(self, name, np.concatenate([old := getattr(self, name), np.zeros(size - len(old), old.dtype)]))
        if 2 * size > len(self._table):
            self._table = np.zeros(1 << (2 * size - 1).bit_length(), np.int32)
            _fill(self._table, self._edges, self.known)

    def by_length(self) -> list[Ngrams]:
        """All n-grams, those of one word first; of each length in the order in which they first came."""
        contexts = (self._edges[: self.known] >> WORD_BITS).astype(np.int64)
        words = (self._edges[: self.known] & np.uint64((1 << int(WORD_BITS)) - 1)).astype(np.int32)
        begins, row = np.zeros(self.known, np.bool_), np.zeros(self.known, np.int64)
        begins[FIRST] = True
        found: list[Ngrams] = []
        shorter = np.zeros(self.known, np.bool_)
        shorter[ROOT] = True
        for n in range(1, self.order + 1):
            longer = shorter[contexts]
            longer[ROOT] = False
            nodes = np.flatnonzero(longer)
            begins[nodes] |= begins[contexts[nodes]]
            row[nodes] = np.arange(len(nodes))
            count = self._count[nodes]
            raw = begins[nodes] | (n == self.order)
            adjusted = np.where(raw, count, self._left[nodes] + self._cut[nodes])
            found.append(Ngrams(words[nodes], row[contexts[nodes]], row[self._suffix[nodes]], count, adjusted))
            shorter = longer
        return found
