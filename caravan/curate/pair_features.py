"""What is measured of the two sides of a pair, in one pass over both: letters, words and digits that they share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import (
    INVISIBLE,
    LETTER,
    NEWLINE,
    SPACE,
    TABLE_SIZE,
    UNSPACED,
    digit_values,
    kinds,
    lower,
)
from caravan.curate.kernels import (
    FNV_OFFSET,
    FNV_PRIME,
    GOLDEN,
    Hashes,
    Points,
    buffers,
    clear,
    count_in,
    decode,
    kind_of,
    mix,
    slot_of,
)

FEATURES = ("letters", "shared_words", "words", "numbers", "digits")
Bytes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]


@njit(nogil=True, cache=True)
def _letter_share(points: Points, count: int, table: Bytes) -> float:
    """Share of letters among the characters that are not spaces; 0 of nothing."""
    letters, seen = 0, 0
    for i in range(count):
        kind = kind_of(points[i], table)
        letters += kind in (LETTER, UNSPACED)
        seen += kind != SPACE and kind != NEWLINE and kind != INVISIBLE
    return letters / max(1, seen)


@njit(nogil=True, cache=True)
def _letter_words(points: Points, count: int, table: Bytes, low: Points, words: Hashes) -> int:
    """Hash of each run of letters, case ignored, and of each character of scripts without spaces; returns how many."""
    many, length = 0, 0
    h = FNV_OFFSET
    for i in range(count + 1):
        kind = kind_of(points[i], table) if i < count else SPACE
        if kind == LETTER:
            h = (h ^ np.uint64(low[points[i]])) * FNV_PRIME
            length += 1
            continue
        if length:
            words[many] = mix(h)
            many += 1
            h, length = FNV_OFFSET, 0
        if kind == UNSPACED:
            words[many] = mix(np.uint64(points[i]) * GOLDEN)
            many += 1
    return many


@njit(nogil=True, cache=True)
def _shared(
    one: Hashes, many_one: int, other: Hashes, many_other: int, table: Hashes, table_other: Hashes
) -> tuple[int, int]:
    """Different words that stand on both sides, and those of the side with fewer."""
    size = clear(table, many_one)
    different = 0
    for i in range(many_one):
        different += count_in(one[i], table, slot_of(one[i], table, size)) == 1
    size_other = clear(table_other, many_other)
    shared, different_other = 0, 0
    for i in range(many_other):
        if count_in(other[i], table_other, slot_of(other[i], table_other, size_other)) == 1:
            different_other += 1
            shared += table[slot_of(other[i], table, size)] > 0
    return shared, min(different, different_other)


@njit(nogil=True, cache=True)
def _count_digits(points: Points, count: int, values: Bytes, tally: Counts) -> None:
    tally[:] = 0
    for i in range(count):
        if points[i] < TABLE_SIZE:
            tally[values[points[i]]] += 1
    tally[0] = 0


@njit(nogil=True, cache=True)
def _measure(
    data_a: Bytes, offsets_a: Offsets, data_b: Bytes, offsets_b: Offsets,
    table: Bytes, low: Points, values: Bytes, out: npt.NDArray[np.float64],
) -> None:  # fmt: skip
    longest = max((offsets_a[1:] - offsets_a[:-1]).max(), (offsets_b[1:] - offsets_b[:-1]).max()) + 1
    a, b = np.empty(longest, np.uint32), np.empty(longest, np.uint32)
    words_a, words_b = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    seen_a, seen_b = np.empty(4 * longest, np.uint64), np.empty(4 * longest, np.uint64)
    digits_a, digits_b = np.empty(10, np.int32), np.empty(10, np.int32)
    for row in range(len(offsets_a) - 1):
        many_a = decode(data_a, offsets_a[row], offsets_a[row + 1], a)
        many_b = decode(data_b, offsets_b[row], offsets_b[row + 1], b)
        out[row, 0] = min(_letter_share(a, many_a, table), _letter_share(b, many_b, table))
        one, other = _letter_words(a, many_a, table, low, words_a), _letter_words(b, many_b, table, low, words_b)
        shared, fewer = _shared(words_a, one, words_b, other, seen_a, seen_b)
        out[row, 1], out[row, 2] = shared / max(1, fewer), fewer
        _count_digits(a, many_a, values, digits_a)
        _count_digits(b, many_b, values, digits_b)
        total = digits_a.sum() + digits_b.sum()
        out[row, 3] = 2 * np.minimum(digits_a, digits_b).sum() / total if total else 1.0
        out[row, 4] = max(digits_a.sum(), digits_b.sum())


def measure_pairs(one: pa.Array, other: pa.Array) -> dict[str, npt.NDArray[np.float64]]:
    """Measure FEATURES of pairs of texts.

    Args:
        one, other: valid UTF-8 strings [n], no nulls.

    Returns:
        letters: share of letters among the characters that are not spaces, on the poorer side; words: different
        words on the side with fewer, shared_words: the share of them that stand in the other side too; numbers:
        agreement of the digits 1 to 9 on both sides (Dice, as multisets), 1 without any; digits: those of the side
        with more.
    """
    out = np.zeros((len(one), len(FEATURES)))
    if len(one):
        _measure(*buffers(one), *buffers(other), kinds(), lower(), digit_values(), out)
    return dict(zip(FEATURES, out.T, strict=True))
