"""What the kernels over Arrow text buffers share: code points, words, hashes of words and n-grams, tables of hashes.

A word is a run of letters and digits; in scripts without spaces each character is one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import DIGIT, INVISIBLE, LETTER, NEWLINE, SPACE, TABLE_SIZE, UNSPACED

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
# A table keeps the upper half of a hash and, below it, how often that came; its place follows from the lower half.
COUNT_BITS = np.uint64(0xFFFFFFFF)

Points = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]
Lengths = npt.NDArray[np.int32]


@njit(inline="always")
def mix(h: np.uint64) -> np.uint64:
    """Scatter 64 bits (the finaliser of SplitMix64)."""
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(inline="always")
def kind_of(point: np.uint32, table: npt.NDArray[np.uint8]) -> int:
    """Kind of a code point; beyond the table lie ideographs, then tags."""
    if point < TABLE_SIZE:
        return int(table[point])
    return UNSPACED if point < 0x40000 else INVISIBLE


@njit(inline="always")
def _next_point(data: npt.NDArray[np.uint8], i: int) -> tuple[np.uint32, int]:
    """The code point that begins at a byte, and how many bytes it takes."""
    byte = np.uint32(data[i])
    if byte < 0x80:
        return byte, 1
    second = np.uint32(data[i + 1] & 0x3F)
    if byte < 0xE0:
        return ((byte & np.uint32(0x1F)) << np.uint32(6)) | second, 2
    third = np.uint32(data[i + 2] & 0x3F)
    if byte < 0xF0:
        return ((byte & np.uint32(0x0F)) << np.uint32(12)) | (second << np.uint32(6)) | third, 3
    high = ((byte & np.uint32(0x07)) << np.uint32(18)) | (second << np.uint32(12)) | (third << np.uint32(6))
    return high | np.uint32(data[i + 3] & 0x3F), 4


@njit(nogil=True, cache=True)
def decode(data: npt.NDArray[np.uint8], start: int, end: int, points: Points) -> int:
    """Code points of the UTF-8 bytes start..end, which must be valid; returns how many."""
    count = 0
    i = start
    while i < end:
        points[count], width = _next_point(data, i)
        i += width
        count += 1
    return count


@njit(nogil=True, cache=True)
def decode_kinds(data: npt.NDArray[np.uint8], start: int, end: int, table: Kinds, points: Points, kinds: Kinds) -> int:
    """Code points of the UTF-8 bytes start..end, and the kind of each; returns how many."""
    count = 0
    i = start
    while i < end:
        point, width = _next_point(data, i)
        points[count], kinds[count] = point, kind_of(point, table)
        i += width
        count += 1
    return count


@njit(inline="always")
def split(
    points: Points, kinds: Kinds, count: int, low: Points, hashes: Hashes, lengths: Lengths
) -> tuple[int, np.uint64]:
    """Hash and length of each word, case ignored; returns how many, and the hash of all that is visible."""
    words = 0
    length = 0
    h = whole = FNV_OFFSET
    for i in range(count):
        kind = kinds[i]
        if kind in (LETTER, DIGIT):
            point = np.uint64(low[points[i]])
            h = (h ^ point) * FNV_PRIME
            whole = (whole ^ point) * FNV_PRIME
            length += 1
        else:
            if length:
                hashes[words], lengths[words] = mix(h), length
                words += 1
                h, length = FNV_OFFSET, 0
            if kind == UNSPACED:
                hashes[words], lengths[words] = mix(np.uint64(points[i]) * GOLDEN), 1
                words += 1
            if kind not in (SPACE, NEWLINE, INVISIBLE):
                point = np.uint64(low[points[i]] if points[i] < TABLE_SIZE else points[i])
                whole = (whole ^ point) * FNV_PRIME
    if length:
        hashes[words], lengths[words] = mix(h), length
        words += 1
    return words, mix(whole)


@njit(nogil=True, cache=True)
def split_words(points: Points, kinds: Kinds, count: int, low: Points, hashes: Hashes, lengths: Lengths) -> int:
    """Hash and length of each word, case ignored; returns how many."""
    words, _ = split(points, kinds, count, low, hashes, lengths)
    return words


@njit(inline="always")
def slot_of(key: np.uint64, table: Hashes, size: int) -> np.int64:
    """Slot of a key in a table of hashes with open addressing; a slot that holds 0 is free."""
    slot = np.int64(key & np.uint64(size - 1))
    while table[slot] != np.uint64(0) and (table[slot] ^ key) > COUNT_BITS:
        slot = (slot + 1) & (size - 1)
    return slot


@njit(inline="always")
def count_in(key: np.uint64, table: Hashes, slot: np.int64) -> np.int64:
    """Count a key once more in its slot; returns how often it has come."""
    table[slot] = (table[slot] if table[slot] else key & ~COUNT_BITS) + np.uint64(1)
    return np.int64(table[slot] & COUNT_BITS)


@njit(inline="always")
def times_in(table: Hashes, slot: np.int64) -> np.int64:
    """How often the key of a slot has come."""
    return np.int64(table[slot] & COUNT_BITS)


@njit(nogil=True, cache=True)
def clear(table: Hashes, entries: int) -> int:
    """Empty a table for this many entries; returns its size, a power of two."""
    size = 2
    while size < 2 * entries:
        size *= 2
    table[:size] = 0
    return size


@njit(nogil=True, cache=True)
def roll(hashes: Hashes, words: int, n: int, grams: Hashes) -> int:
    """Hash of each n-gram of words, by a rolling polynomial; returns how many."""
    power = np.uint64(1)
    for _ in range(n):
        power *= GOLDEN
    h = np.uint64(0)
    for i in range(words):
        h = h * GOLDEN + hashes[i]
        if i >= n:
            h -= hashes[i - n] * power
        if i >= n - 1:
            grams[i - n + 1] = mix(h)
    return max(0, words - n + 1)


def buffers(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Bytes and offsets of an array of strings or bytes without nulls."""
    texts = texts.cast(pa.large_binary())
    _, offsets, data = texts.buffers()
    view = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8), view
