"""How much a text repeats itself: its most frequent n-grams, and those that came before (Gopher, arXiv 2112.11446).

An n-gram comes again only where the shorter ones in it come again: of the shortest those are counted that a sieve lets
through, and only what is left of these for the next, so that ten tables cost less than one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from caravan.curate.kernels import GOLDEN, Hashes, Kinds, Lengths, clear, count_in, mix, slot_of, times_in

TOP, LONGEST = 4, 10  # the most frequent one is sought up to 4-grams; from 5-grams on, all that came before
NGRAM_FEATURES = (
    *(f"top_{n}gram" for n in range(2, TOP + 1)), *(f"repeated_{n}gram" for n in range(TOP + 1, LONGEST + 1)),
)  # fmt: skip
MIN_REPEATS = 3


@njit(nogil=True, cache=True)
def _sum_hashes(hashes: Hashes, words: int, sums: Hashes) -> None:
    """Polynomial hash of the words before each place: any n-gram's follows from two of them."""
    h = np.uint64(0)
    sums[0] = h
    for i in range(words):
        h = h * GOLDEN + hashes[i]
        sums[i + 1] = h


@njit(inline="always")
def _power(span: int) -> np.uint64:
    power = np.uint64(1)
    for _ in range(span):
        power *= GOLDEN
    return power


@njit(nogil=True, cache=True)
def _sieve(sums: Hashes, span: int, words: int, keys: Lengths, seen: Kinds, spots: Lengths) -> int:
    """The places whose n-gram of `span` words may come again, none that does left out; returns how many.

    A byte for some n-grams together turns from 0 to 1, then 3: a few places pass that share one by chance.
    """
    many, size = max(0, words - span + 1), 64
    while size < 4 * many:
        size *= 2
    seen[:size] = 0
    power = _power(span)
    for i in range(many):
        key = np.int64(mix(sums[i + span] - sums[i] * power) & np.uint64(size - 1))
        keys[i] = key
        seen[key] = (seen[key] & 1) << 1 | 1
    left = 0
    for i in range(many):
        spots[left] = i
        left += seen[keys[i]] > 1
    return left


@njit(nogil=True, cache=True)
def _count(
    sums: Hashes, span: int, spots: Lengths, many: int, lengths: Lengths, slots: Lengths, table: Hashes, covering: bool
) -> tuple[int, int, int]:
    """Count the n-grams of `span` words at some places; where the most frequent one is, how often, what repeats cover.

    What repeats cover are the characters of words that lie in an n-gram that came before.
    """
    size = clear(table, many)
    power = _power(span)
    most, where, covered, end = 0, 0, 0, 0
    for k in range(many):
        i = int(spots[k])
        key = mix(sums[i + span] - sums[i] * power)
        slot = slot_of(key, table, size)
        slots[k] = slot
        times = int(count_in(key, table, slot))
        if times > most:
            most, where = times, k
        if covering and times > 1:
            for word in range(max(i, end), i + span):
                covered += lengths[word]
            end = i + span
    return where, most, covered


@njit(nogil=True, cache=True)
def _apart(spots: Lengths, slots: Lengths, many: int, where: int, span: int) -> int:
    """How often the n-gram at a place comes without overlapping itself."""
    repeats, end = 0, 0
    for k in range(many):
        if slots[k] == slots[where] and spots[k] >= end:
            repeats += 1
            end = spots[k] + span
    return repeats


@njit(nogil=True, cache=True)
def _again(spots: Lengths, many: int, slots: Lengths, table: Hashes, level: Kinds, n: int, unit: int, last: int) -> int:
    """Keep the places whose n-gram is there more than once, and so is the one a word on; returns how many."""
    for k in range(many):
        if times_in(table, slots[k]) > 1:
            level[spots[k]] = n
    left = 0
    for k in range(many):
        i = int(spots[k])
        if i <= last and level[i] == n and level[i + unit] == n:
            spots[left] = i
            left += 1
    return left


@njit(nogil=True, cache=True)
def ngram_shares(
    hashes: Hashes,
    lengths: Lengths,
    words: int,
    unit: int,
    sums: Hashes,
    spots: Lengths,
    slots: Lengths,
    level: Kinds,
    table: Hashes,
    out: npt.NDArray[np.float64],
) -> None:
    """Fill NGRAM_FEATURES: shares of the words' characters.

    The most frequent n-gram counts if it comes MIN_REPEATS times without overlap.

    Args:
        hashes, lengths: of the words.
        unit: words of the text that count as one, in scripts without spaces.
        sums, spots, slots, level, table: scratch space.
    """
    out[:] = 0
    total = max(1, lengths[:words].sum())
    level[:words] = 0
    _sum_hashes(hashes, words, sums)
    many = _sieve(sums, 2 * unit, words, slots, table.view(np.uint8), spots)
    for n in range(2, LONGEST + 1):
        if many < 2:
            return
        span = n * unit
        where, most, covered = _count(sums, span, spots, many, lengths, slots, table, n > TOP)
        if n > TOP:
            out[n - 2] = covered / total
        elif most >= MIN_REPEATS:
            repeats = _apart(spots, slots, many, where, span)
            if repeats >= MIN_REPEATS:
                start = spots[where]
                out[n - 2] = repeats * lengths[start : start + span].sum() / total
        many = _again(spots, many, slots, table, level, n, unit, words - span - unit)
