"""Kernels over Arrow text buffers: characters, words, lines and n-grams, and what the rules measure of them.

One row at a time, from UTF-8 bytes to code points to words; the scratch space is made once a batch. A word is a run
of letters and digits; in scripts without spaces each character is one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from caravan.curate.characters import (
    BROKEN,
    DIGIT,
    INVISIBLE,
    KINDS,
    LETTER,
    NEWLINE,
    SPACE,
    SYMBOL,
    TABLE_SIZE,
    UNSPACED,
    kinds,
    latin_bytes,
    lower,
)

FEATURES = (
    "characters", "broken", "invisible", "letters", "digits", "symbols", "urls", "repeated_lines", "ellipsis_lines",
    "top_2gram", "top_3gram", "top_4gram", "repeated_5gram", "longest_word", "mean_word",
)  # fmt: skip
MIN_LINES, MIN_WORDS, MIN_REPEATS = 3, 10, 3
ELLIPSIS, FULL_STOP, NO_BREAK_SPACE = 0x2026, 0x2E, 0xA0
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FNV_OFFSET, FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)

Points = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]


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


@njit(nogil=True, cache=True)
def decode(data: npt.NDArray[np.uint8], start: int, end: int, points: Points) -> int:
    """Code points of the UTF-8 bytes start..end, which must be valid; returns how many."""
    count = 0
    i = start
    while i < end:
        byte = np.uint32(data[i])
        if byte < 0x80:
            points[count], extra = byte, 0
        elif byte < 0xE0:
            points[count], extra = byte & np.uint32(0x1F), 1
        elif byte < 0xF0:
            points[count], extra = byte & np.uint32(0x0F), 2
        else:
            points[count], extra = byte & np.uint32(0x07), 3
        for k in range(1, extra + 1):
            points[count] = (points[count] << np.uint32(6)) | np.uint32(data[i + k] & 0x3F)
        i += extra + 1
        count += 1
    return count


@njit(nogil=True, cache=True)
def split_words(
    points: Points,
    count: int,
    table: npt.NDArray[np.uint8],
    low: Points,
    hashes: Hashes,
    lengths: npt.NDArray[np.int32],
) -> int:
    """Hash and length of each word, case ignored; returns how many."""
    words = 0
    length = 0
    h = FNV_OFFSET
    for i in range(count):
        point = points[i]
        kind = kind_of(point, table)
        if kind in (LETTER, DIGIT):
            h = (h ^ np.uint64(low[point])) * FNV_PRIME
            length += 1
        else:
            if length:
                hashes[words], lengths[words] = mix(h), length
                words += 1
                h, length = FNV_OFFSET, 0
            if kind == UNSPACED:
                hashes[words], lengths[words] = mix(np.uint64(point) * GOLDEN), 1
                words += 1
    if length:
        hashes[words], lengths[words] = mix(h), length
        words += 1
    return words


@njit(nogil=True, cache=True)
def count_urls(points: Points, count: int, table: npt.NDArray[np.uint8]) -> int:
    """Characters from `://` to the next blank or unspaced character."""
    total = 0
    inside = False
    for i in range(count):
        if inside:
            kind = kind_of(points[i], table)
            inside = kind != SPACE and kind != NEWLINE and kind != UNSPACED
            total += inside
        elif i >= 2 and points[i] == 0x2F and points[i - 1] == 0x2F and points[i - 2] == 0x3A:
            inside = True
            total += 3
    return total


@njit(nogil=True, cache=True)
def count_mojibake(points: Points, count: int, latin: npt.NDArray[np.uint8]) -> int:
    """Characters whose Latin-1 or Windows-1252 bytes form UTF-8 sequences of two bytes or more.

    Left out are C6 to CD, as in the French Ç’, and an accented letter before a no-break space, as in é ».
    """
    total = 0
    i = 0
    while i < count:
        lead = latin[points[i]] if points[i] < TABLE_SIZE else 0
        need = 1 if 0xC2 <= lead < 0xE0 else 2 if 0xE0 <= lead < 0xF0 else 3 if 0xF0 <= lead < 0xF5 else 0
        if 0xC6 <= lead < 0xCE or (need > 1 and i + 1 < count and points[i + 1] == NO_BREAK_SPACE):
            need = 0
        found = 0
        while found < need and i + found + 1 < count:
            point = points[i + found + 1]
            if point >= TABLE_SIZE or not 0x80 <= latin[point] < 0xC0:
                break
            found += 1
        if need and found == need:
            total += need + 1
            i += need
        i += 1
    return total


@njit(nogil=True, cache=True)
def find_or_add(key: np.uint64, keys: Hashes, counts: npt.NDArray[np.int32], size: int) -> np.int64:
    """Slot of a key in a table with open addressing; a slot with count 0 is free."""
    slot = np.int64(key & np.uint64(size - 1))
    while counts[slot] > 0 and keys[slot] != key:
        slot = (slot + 1) & (size - 1)
    keys[slot] = key
    return slot


@njit(nogil=True, cache=True)
def clear(counts: npt.NDArray[np.int32], entries: int) -> int:
    """Empty a table for this many entries; returns its size, a power of two."""
    size = 2
    while size < 2 * entries:
        size *= 2
    counts[:size] = 0
    return size


@njit(nogil=True, cache=True)
def line_shares(
    points: Points, count: int, table: npt.NDArray[np.uint8], keys: Hashes, counts: npt.NDArray[np.int32]
) -> tuple[float, float]:
    """Share of characters in lines that came before, and of lines that end in an ellipsis; blanks are not counted."""
    size = clear(counts, count)
    lines, ellipses, characters, repeated, length = 0, 0, 0, 0, 0
    last, before, third = np.uint32(0), np.uint32(0), np.uint32(0)
    h = FNV_OFFSET
    for i in range(count + 1):
        kind = kind_of(points[i], table) if i < count else NEWLINE
        if kind == NEWLINE:
            if length:
                lines += 1
                characters += length
                ellipses += last == ELLIPSIS or (last == FULL_STOP and before == FULL_STOP and third == FULL_STOP)
                slot = find_or_add(mix(h), keys, counts, size)
                repeated += length if counts[slot] else 0
                counts[slot] += 1
            h, length = FNV_OFFSET, 0
        elif kind != SPACE and kind != INVISIBLE:
            h = (h ^ np.uint64(points[i])) * FNV_PRIME
            length += 1
            third, before, last = before, last, points[i]
    return repeated / max(1, characters), ellipses / lines if lines >= MIN_LINES else np.nan


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


@njit(nogil=True, cache=True)
def top_share(
    grams: Hashes,
    many: int,
    n: int,
    lengths: npt.NDArray[np.int32],
    total: int,
    keys: Hashes,
    counts: npt.NDArray[np.int32],
) -> float:
    """Share of the words' characters in the most frequent n-gram, if it comes MIN_REPEATS times without overlap."""
    size = clear(counts, many)
    best, where = 0, 0
    for i in range(many):
        slot = find_or_add(grams[i], keys, counts, size)
        counts[slot] += 1
        if counts[slot] > best:
            best, where = counts[slot], i
    if best < MIN_REPEATS:
        return 0.0
    repeats, i = 0, 0
    while i < many:
        if grams[i] == grams[where]:
            repeats += 1
            i += n
        else:
            i += 1
    return repeats * lengths[where : where + n].sum() / total if repeats >= MIN_REPEATS else 0.0


@njit(nogil=True, cache=True)
def repeated_share(
    grams: Hashes,
    many: int,
    n: int,
    lengths: npt.NDArray[np.int32],
    total: int,
    keys: Hashes,
    counts: npt.NDArray[np.int32],
) -> float:
    """Share of the words' characters that lie in an n-gram that came before."""
    size = clear(counts, many)
    covered, end = 0, 0
    for i in range(many):
        slot = find_or_add(grams[i], keys, counts, size)
        if counts[slot]:
            for k in range(max(i, end), i + n):
                covered += lengths[k]
            end = i + n
        counts[slot] = 1
    return covered / total


@njit(nogil=True, cache=True)
def measure_rows(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    units: npt.NDArray[np.int32],
    table: npt.NDArray[np.uint8],
    low: Points,
    latin: npt.NDArray[np.uint8],
    out: npt.NDArray[np.float64],
) -> None:
    """Fill one row of FEATURES for each text; NaN where a text is too short for a feature."""
    longest = (offsets[1:] - offsets[:-1]).max() + 1
    points = np.empty(longest, np.uint32)
    hashes, grams = np.empty(longest, np.uint64), np.empty(longest, np.uint64)
    lengths = np.empty(longest, np.int32)
    keys, counts = np.empty(4 * longest, np.uint64), np.empty(4 * longest, np.int32)
    tally = np.empty(KINDS, np.int64)
    for row in range(len(offsets) - 1):
        count = decode(data, offsets[row], offsets[row + 1], points)
        tally[:] = 0
        for i in range(count):
            tally[kind_of(points[i], table)] += 1
        words = split_words(points, count, table, low, hashes, lengths)
        letters = tally[LETTER] + tally[UNSPACED]
        total = max(1, lengths[:words].sum())
        spaced_length, spaced_words = total - tally[UNSPACED], words - tally[UNSPACED]
        out[row, 0] = count
        out[row, 1] = (tally[BROKEN] + count_mojibake(points, count, latin)) / max(1, count)
        out[row, 2] = tally[INVISIBLE] / max(1, count)
        out[row, 3] = letters / max(1, count - tally[SPACE] - tally[NEWLINE] - tally[INVISIBLE])
        out[row, 4] = tally[DIGIT] / max(1, count)
        out[row, 5] = tally[SYMBOL] / max(1, count)
        out[row, 6] = count_urls(points, count, table) / max(1, count)
        out[row, 7], out[row, 8] = line_shares(points, count, table, keys, counts)
        for k in range(3):
            n = (k + 2) * units[row]
            many = roll(hashes, words, n, grams)
            out[row, 9 + k] = top_share(grams, many, n, lengths, total, keys, counts)
        many = roll(hashes, words, 5 * units[row], grams)
        out[row, 12] = repeated_share(grams, many, 5 * units[row], lengths, total, keys, counts)
        out[row, 13] = lengths[:words].max() if words else 0
        out[row, 14] = spaced_length / spaced_words if spaced_words >= MIN_WORDS else np.nan


def buffers(texts: pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Bytes and offsets of an array of strings or bytes without nulls."""
    texts = texts.cast(pa.large_binary())
    _, offsets, data = texts.buffers()
    view = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8), view


def measure(texts: pa.Array, units: npt.NDArray[np.int32]) -> dict[str, npt.NDArray[np.float64]]:
    """Measure FEATURES of each text.

    Args:
        texts: valid UTF-8 strings [n], no nulls.
        units: characters that count as one word in n-grams [n].
    """
    out = np.zeros((len(texts), len(FEATURES)))
    if len(texts):
        measure_rows(*buffers(texts), units, kinds(), lower(), latin_bytes(), out)
    return dict(zip(FEATURES, out.T, strict=True))
